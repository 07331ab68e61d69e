"""Demo: the whole story on the practice model, in a temporary home, from a real SPARQL endpoint on loopback."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from kbsync.errors import EditError
from kbsync.resources import fixtures_folder
from kbsync.sources.loopback import serve
from kbsync.workflows.apply import Applied, ApplyOptions, Proposal, apply
from kbsync.workflows.ask import Asked, ask
from kbsync.workflows.plan import Plan
from kbsync.workflows.progress import Progress
from kbsync.workflows.pull import Pulled, make_asks, pull
from kbsync.workflows.status import Status, status_for

__all__ = ["DEMO_RELATIONS", "Demo", "demo"]

MODEL = "practice"
DEMO_RELATIONS = (
    *("P17", "P19", "P20", "P27", "P30", "P37", "P38", "P59", "P103", "P106"),
    *("P131", "P159", "P170", "P176", "P364", "P397", "P413", "P641", "P1303"),
)
"""relations whose new facts have objects that the practice model has given as answers (README, "What it cannot do")"""
QUESTIONS = 12


@dataclass(frozen=True, slots=True)
class Demo:
    """What the demo did, step by step."""

    pulls: list[Pulled]
    plan: Plan
    applied: Applied
    status: Status[Plan]
    answers: list[Asked]
    expected: list[str]
    """the object that the knowledge base gives for each answer's prompt"""


def demo(progress: Progress) -> Demo:
    """Pull the later edition, plan, apply to the practice model, and ask it before and after."""
    plans: list[Plan] = []

    def confirm(proposal: Proposal) -> bool:
        plans.append(proposal.plan)
        return True

    with tempfile.TemporaryDirectory(prefix="kbsync-demo-") as folder:
        home = Path(folder)
        with serve(fixtures_folder() / "wikidata" / "later.ttl") as endpoint:
            pulls = pull(home, make_asks(DEMO_RELATIONS, endpoint), endpoint, progress)
        applied = apply(home, ApplyOptions(MODEL), confirm, progress)
        if applied is None or applied.batch is None:
            raise EditError("the demo found nothing to edit: the fixtures are not those of this practice model")
        changed = [row.request for row in plans[0].having("+", "~") if row.request is not None]
        every = max(1, len(changed) // QUESTIONS)
        shown = changed[::every][:QUESTIONS]
        answers = ask(home, MODEL, [request.prompt.format(request.subject) for request in shown], count=1)
        return Demo(pulls, plans[0], applied, status_for(home, MODEL), answers, [one.target for one in shown])
