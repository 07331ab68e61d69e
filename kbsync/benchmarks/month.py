"""A simulated month of a knowledge base: each day adds facts, changes some that were added before, withdraws some."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kbsync.errors import SettingsError
from kbsync.facts import EditRequest
from kbsync.metrics.counterfacts import Counterfact, counterfacts

__all__ = ["Day", "month"]

MONTH = 30
MONTHLY = (400, 200, 60)
"""facts added, changed and withdrawn in `MONTH` days; more or fewer days have their share"""


@dataclass(frozen=True, slots=True)
class Day:
    """One day: what it brings, and what holds at its end."""

    number: int
    added: tuple[Counterfact, ...]
    changed: tuple[Counterfact, ...]
    """new objects of facts that earlier days added"""
    withdrawn: tuple[Counterfact, ...]
    active: tuple[Counterfact, ...]

    @property
    def requests(self) -> list[EditRequest]:
        """What an editor is asked to write on this day."""
        return [edit.request for edit in (*self.added, *self.changed)]


def month(known: Sequence[EditRequest], days: int, seed: int = 0, monthly: tuple[int, int, int] = MONTHLY) -> list[Day]:
    """Draw `days` days from the facts that the base model knows; raise SettingsError where there are too few."""
    if days < 2:
        raise SettingsError(f"--syncs {days}: a month needs 2 days at least, as the first has nothing to change")
    additions, changes, ends = (round(count * days / MONTH) for count in monthly)
    pool = counterfacts(known, additions, seed)
    if len(pool) < additions:
        raise SettingsError(f"--syncs {days} needs {additions} facts that the model knows; there are {len(pool)}")
    objects: dict[str, set[str]] = defaultdict(set)
    for fact in known:
        objects[fact.relation].add(fact.target)
    draw = random.Random(seed)
    active: dict[tuple[str, str], Counterfact] = {}
    made = []
    for number in range(1, days + 1):
        added = pool[part(additions, number - 1, days) : part(additions, number, days)]
        # The first day has nothing to change or withdraw, so the others share it out.
        changing, ending = (
            part(total, number - 1, days - 1) - part(total, max(0, number - 2), days - 1) for total in (changes, ends)
        )
        chosen = draw.sample(sorted(active), min(len(active), changing + ending))
        changed = [other_object(active[key], objects, draw) for key in chosen[:changing]]
        withdrawn = [active.pop(key) for key in chosen[changing:]]
        active |= {(edit.request.relation, edit.request.subject): edit for edit in (*changed, *added)}
        made.append(Day(number, tuple(added), tuple(changed), tuple(withdrawn), tuple(active.values())))
    return made


def part(total: int, number: int, days: int) -> int:
    """Return how many of `total` have come by the end of day `number` of `days`."""
    return total * number // days


def other_object(edit: Counterfact, objects: dict[str, set[str]], draw: random.Random) -> Counterfact:
    """Return the edit with an object that is neither its own nor the base model's; as it is where there is none."""
    others = sorted(objects[edit.request.relation] - {edit.request.target, edit.old})
    return replace(edit, request=replace(edit.request, target=draw.choice(others))) if others else edit
