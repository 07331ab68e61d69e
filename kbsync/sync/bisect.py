"""Bisect: find the edits that break a canary or a bound, keep them out with the reason, and go on without them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kbsync.errors import EditError
from kbsync.facts import normalise_label
from kbsync.ledger.facts import facts_named, record_vetoes
from kbsync.memit import RequestGroup
from kbsync.sync.apply import ApplyOptions, Prepared, prepared
from kbsync.sync.home import Progress, silent
from kbsync.sync.model import current_deltas
from kbsync.sync.plan import Plan, PlanRow

SPARE = 2
"""solves beyond those of plain halving that may be spent on keeping relations whole"""


@dataclass(frozen=True, slots=True)
class Found:
    """A fact that breaks something, together with those before it, and what it breaks."""

    relation: str
    subject: str
    object: str
    breaks: str


def bisect(
    home: Path,
    options: ApplyOptions,
    confirm: Callable[[Sequence[Found]], bool],
    progress: Progress = silent,
    remark: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Search what an apply would write for facts that break a canary or a bound, and go on without them.

    Returns what was found, in how many solves, and the apply that went on without it, None for none.

    Where the current state breaks it already, what is written is searched, too. Each step solves from target vectors in
    the cache. What is found is put under a veto on its object, and the rest applied; where `confirm` says no, nothing
    is written.
    """
    with prepared(home, options, progress, remark) as ready:
        plan = ready.plan()
        search = _Search(ready, plan)
        culprits = [(row.fact, breaks) for rows, breaks in search.run() for row in rows if row.fact is not None]
        found = tuple(Found(fact.relation, fact.subject_label, fact.object_label, breaks) for fact, breaks in culprits)
        if found and not confirm(found):
            return {"model": plan.model, "found": found, "solves": search.solves, "applied": None}
        for fact, breaks in culprits:
            # The facts on record that say the same, of whatever source.
            named = facts_named(ready.work.ledger, fact.subject_label, fact.relation)
            thing = normalise_label(fact.object_label)
            same = [one for one in named if one.withdrawn is None and normalise_label(one.object_label) == thing]
            facts = {one.id: one for one in (fact, *same)}.values()
            record_vetoes(ready.work.ledger, facts, any_object=False, reason=f"found by bisect: {breaks}")
        if found:
            plan = replace(ready, compared=None).plan()
        applied = ready.carry_out(plan, ready.batch(plan))
        return {"model": plan.model, "found": found, "solves": search.solves, "applied": applied}


Unit = tuple[PlanRow, ...]
"""rows that share a target vector: apart they would need another one"""


class _Search:
    """Halving over the rows of a plan: relations first, then facts."""

    def __init__(self, ready: Prepared, plan: Plan) -> None:
        self.ready, self.plan = ready, plan
        self.solves = 0
        self.canaries_alone = False
        self.units: list[Unit] = []
        """what is searched, in order; rows of the plan that are in none of them are in every trial"""

    def run(self) -> list[tuple[Unit, str]]:
        """Return the units that break something, together with those before them, and what that is."""
        broken = self.trial(self.plan)
        if not broken:
            return []
        # Only what breaks is looked for: to ask a few canaries is quicker than to take all figures.
        self.canaries_alone = any(text.startswith("canary ") for text in broken)
        self.choose()
        found: list[tuple[Unit, str]] = []
        left, passes = list(self.units), 0
        while broken and left:
            told = {len(left): broken}

            def breaks(count: int, left: Sequence[Unit] = left, told: dict[int, list[str]] = told) -> bool:
                told[count] = self.trial(self.holding(left[:count]))
                return bool(told[count])

            last = first_breaking([unit[0].relation for unit in left], breaks, passes)
            found.append((left[last - 1], "; ".join(told[last])))
            left, passes = [*left[: last - 1], *left[last:]], last - 1
            broken = self.trial(self.holding(left))
        return found

    def choose(self) -> None:
        """Choose what to search: what is new or changed; where it breaks without that, all that is active as well."""
        broken: list[str] = []
        for signs in ("+~", "+~=x"):
            rows = [row for row in self.plan.rows if row.sign in signs]
            self.units = _units(self.ready.batch(self.plan).edits.groups, rows)
            if self.units and not (broken := self.trial(self.holding([]))):
                return
        raise EditError(
            f"{'; '.join(broken)}; so it is without these edits, too: correct the canaries or bounds, or see"
            " `kbsync plan` for what is taken out"
        )

    def holding(self, units: Sequence[Unit]) -> Plan:
        """Return the plan with these units alone: what is new in the others is left out, what is active taken out."""
        held = {id(row) for unit in units for row in unit}
        out = {id(row) for unit in self.units for row in unit} - held
        rows = [
            replace(row, sign="-") if id(row) in out else row
            for row in self.plan.rows
            if not (id(row) in out and row.sign == "+")
        ]
        return replace(self.plan, rows=tuple(rows))

    def trial(self, plan: Plan) -> list[str]:
        """Return what the model breaks once this plan is carried out."""
        batch, work, deltas = self.ready.batch(plan), self.ready.work, None
        if batch.edits.needed:
            self.solves += bool(batch.edits.active)
            work.progress("solving again", self.solves, 0)
        else:  # that is the state on record
            deltas = current_deltas(work.ledger, work.ledger.current_batch(work.model.key))
        return batch.trial(deltas, canaries_alone=self.canaries_alone)


def _units(groups: Sequence[RequestGroup], rows: Sequence[PlanRow]) -> list[Unit]:
    """Put rows whose requests are one group together, all in the order of relations and subjects."""
    group_of = {request.id: place for place, group in enumerate(groups) for request in group.requests}
    units: dict[object, list[PlanRow]] = {}
    for row in sorted(rows, key=lambda row: (row.relation, row.subject)):
        key = group_of.get(row.request.id) if row.request else None
        units.setdefault(id(row) if key is None else ("group", key), []).append(row)
    return [tuple(unit) for unit in units.values()]


def first_breaking(relations: Sequence[str], breaks: Callable[[int], bool], passes: int = 0) -> int:
    """Return a number of items of which the first so many break, and one fewer do not: the last of them is to blame.

    `relations` are the items' own, alike ones side by side. All of them break, and the first `passes` do not. A step
    parts relations as long as there are several, unless that would take more steps than halving and `SPARE`.
    """
    low, high = passes, len(relations)
    left = (high - low - 1).bit_length() + SPARE  # halving so many items takes the binary logarithm, rounded up
    while high - low > 1:
        middle = (low + high) // 2
        edges = [place for place in range(low + 1, high) if relations[place] != relations[place - 1]]
        edge = min(edges, key=lambda place: abs(place - middle), default=middle)
        left -= 1
        if (max(edge - low, high - edge) - 1).bit_length() <= left:
            middle = edge
        if breaks(middle):
            high = middle
        else:
            low = middle
    return high
