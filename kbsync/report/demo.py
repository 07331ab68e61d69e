"""How the demo is shown."""

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType

from kbsync.report.apply import applied_view
from kbsync.report.plan import plan_view
from kbsync.report.pull import pulls_view
from kbsync.report.tables import plain, table

if TYPE_CHECKING:
    from kbsync.workflows.demo import Demo

__all__ = ["demo_view"]


def demo_view(told: "Demo") -> RenderableType:
    """Return the story: what was pulled, planned and applied, where things stand, and what the model now says."""
    rows = [
        (asked.prompt, asked.base[0].text, asked.edited[0].text if asked.edited else None, wanted)
        for asked, wanted in zip(told.answers, told.expected, strict=True)
    ]
    return Group(
        plain("1. kbsync pull: the later edition, from a SPARQL endpoint on this machine"),
        pulls_view({"pulls": told.pulls}),
        plain("2. kbsync plan: what the model must learn"),
        plan_view(told.plan),
        plain("3. kbsync apply: MEMIT writes it into the weights"),
        applied_view(told.applied),
        plain("4. kbsync status: knowledge base, ledger and model"),
        plan_view(told.status.plan),
        plain("5. kbsync ask: the same questions, before and after"),
        table(("prompt", "base", "edited", "knowledge base"), rows),
    )
