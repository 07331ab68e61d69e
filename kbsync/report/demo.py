"""How the demo is shown."""

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType

from kbsync.report.apply import applied_view
from kbsync.report.plan import plan_view, status_view
from kbsync.report.pull import pulls_view
from kbsync.report.tables import plain, table

if TYPE_CHECKING:
    from kbsync.sync.demo import Demo


def demo_view(told: "Demo") -> RenderableType:
    """Return the story: what was pulled, planned and applied, where things stand, and what the model now says."""
    answers = [(said.prompt, said.base, said.edited, said.wanted) for said in told.answers]
    gone = [(said.prompt, said.base, said.edited, said.after) for said in told.answers if said.withdrawn]
    return Group(
        plain("1. kbsync pull: the later edition, from a SPARQL endpoint on this machine"),
        pulls_view({"pulls": told.pulls}),
        plain("2. kbsync plan: what the model says so far (previous), and what it must learn (object)"),
        plan_view(told.plan),
        plain("3. kbsync apply: MEMIT writes it into the weights"),
        applied_view(told.applied),
        plain("4. kbsync status: knowledge base, ledger and model"),
        status_view(told.status),
        plain("5. kbsync ask: the model in other words, before and after"),
        table(("prompt", "before", "after", "knowledge base"), answers),
        plain(f"6. kbsync retract: the fact about {told.withdrawn} is taken out of the model"),
        table(("prompt", "before", "edited", "withdrawn"), gone),
    )
