"""Retract: take one fact out of a model, and keep it out, though its source goes on stating it.

Bisect: find the edits that break a canary or a bound, keep them out with the reason, and go on without them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kbsync.errors import EditError, KbsyncError, SettingsError
from kbsync.facts import is_inverse, normalise_label
from kbsync.ledger import BatchRow, EditRow, FactRow, Ledger
from kbsync.ledger.edits import edits_about, rollback_count
from kbsync.ledger.facts import aliases, facts_named, lift_vetoes, record_vetoes, vetoes
from kbsync.memit import RequestGroup
from kbsync.sync.apply import ApplyOptions, Prepared, nothing_to_do, prepared
from kbsync.sync.guards import Guard
from kbsync.sync.history import facts_meant, model_meant
from kbsync.sync.home import AS_STORED, Loading, Progress, silent
from kbsync.sync.known import is_called
from kbsync.sync.model import current_deltas
from kbsync.sync.plan import Plan, PlanRow

if TYPE_CHECKING:
    from kbsync.sync.batch import Applied


@dataclass(frozen=True, slots=True)
class Retraction:
    """What a retraction will do: `written` are the objects to be taken out of `model`, `others` name further models."""

    subject: str
    relation: str
    objects: tuple[str, ...]
    model: str | None
    written: tuple[str, ...]
    others: tuple[str, ...]
    """models that the fact is written into too, which an apply of theirs will take out"""


@dataclass(frozen=True, slots=True)
class Retracted:
    """What was retracted, and the apply that took it out; None where it was not written into the model."""

    retraction: Retraction
    applied: "Applied | None"


@dataclass(frozen=True, slots=True)
class Lifted:
    """A veto that holds no longer; `object` None: it was for any object."""

    subject: str
    relation: str
    object: str | None


def retract(
    home: Path,
    subject: str,
    relation: str,
    confirm: Callable[[Retraction], bool],
    *,
    object_name: str | None = None,
    model: str | None = None,
    reason: str | None = None,
    corpus: Path | None = None,
    loading: Loading = AS_STORED,
    progress: Progress = silent,
) -> Retracted | None:
    """Put a fact under a veto and apply that alone; None where `confirm` says no.

    Other new and changed facts wait for the next apply, and settings and bounds are those of the current batch. A model
    that the fact is not written into is not loaded. Raises SettingsError for a fact or model that is not on record, and
    as `apply` does; the veto then stays.
    """
    with Ledger.open(home, create=False) as ledger:
        facts = _current_facts(ledger, subject, relation, object_name)
        known = model_meant(ledger, model) if model or ledger.models() else None
        edits = _active(ledger, facts, object_name is None)
        current, rollbacks = ledger.current_batch(known.key) if known else None, rollback_count(ledger)
        written = [edit for edit in edits if known and edit.model == known.key]
        names = {row.key: row.name for row in ledger.models()}
        others = sorted({names[edit.model] for edit in edits if known and edit.model != known.key})
        preview = Retraction(
            facts[0].subject_label,
            relation,
            tuple(dict.fromkeys(row.object_label for row in facts)),
            known.name if known else None,
            tuple(edit.object for edit in written),
            tuple(others),
        )
        if not confirm(preview):
            return None
        record_vetoes(ledger, facts, any_object=object_name is None, reason=reason)
    if known is None or current is None or not written:
        return Retracted(preview, None)
    try:
        applied = _apply(home, known.name, current, written, corpus, loading, progress, rollbacks)
    except KbsyncError as error:
        told = f"The retraction is on record, and `kbsync apply --model {known.name}` takes the fact out"
        raise EditError(f"{error}. {told}") from error
    return Retracted(preview, applied)


def lift(home: Path, subject: str, relation: str, object_name: str | None = None) -> list[Lifted]:
    """Lift the vetoes on a fact, so that the next apply writes it again.

    Raises SettingsError where there is none.
    """
    with Ledger.open(home, create=False) as ledger:
        held = [veto for veto in vetoes(ledger) if veto.relation == relation]
        if is_inverse(relation):  # which `kbsync bisect` keeps out; it is the object of what a source states
            held = [veto for veto in held if is_called(subject, veto.subject, veto.subject_key, ())]
            label = subject
        else:
            facts = _same_things(ledger, facts_meant(ledger, subject, relation), subject)
            keys, label = {row.subject_key for row in facts}, facts[0].subject_label
            held = [veto for veto in held if veto.subject_key in keys]
        if object_name is not None:
            held = [veto for veto in held if is_called(object_name, veto.object, veto.object_key, ())]
        if not held:
            raise SettingsError(f"{relation} of {label} is not retracted: nothing to undo")
        lift_vetoes(ledger, [veto.id for veto in held])
        return [Lifted(veto.subject, veto.relation, veto.object) for veto in held]


def _current_facts(ledger: Ledger, subject: str, relation: str, object_name: str | None) -> list[FactRow]:
    """Return the facts that are meant and that their source states now."""
    facts = _same_things(ledger, facts_meant(ledger, subject, relation), subject)
    label = facts[0].subject_label
    stated = [row for row in facts if row.withdrawn is None]
    if not stated:
        raise SettingsError(f"{relation} of {label} was withdrawn by its source: the next apply takes it out")
    if object_name is None:
        return stated
    names = aliases(ledger, {row.object_key for row in stated})
    meant = [
        row for row in stated if is_called(object_name, row.object_label, row.object_key, names.get(row.object_key, ()))
    ]
    if not meant:
        objects = " and ".join(dict.fromkeys(row.object_label for row in stated))
        raise SettingsError(
            f"{relation} of {label} is {objects}, not {object_name!r}: correct --object, or leave it out"
        )
    return meant


def _same_things(ledger: Ledger, facts: Sequence[FactRow], subject: str) -> list[FactRow]:
    """Add what bears the same label without an id, as a plan takes it for the same; refuse two ids of one label."""
    ids = {row.subject_id for row in facts} - {None}
    if len(ids) > 1:
        raise SettingsError(f"{subject!r} means {' and '.join(sorted(map(str, ids)))}: give its id")
    found = {row.id: row for row in facts}
    for label in {row.subject_label for row in facts}:
        same = facts_named(ledger, label, facts[0].relation)
        found |= {row.id: row for row in same if row.subject_key == normalise_label(label)}
    return list(found.values())


def _active(ledger: Ledger, facts: Sequence[FactRow], any_object: bool) -> list[EditRow]:
    """Return the active edits, of all models, that the facts' veto ends."""
    objects = {row.object_key for row in facts}
    about = edits_about(ledger, {(row.relation, row.subject_key) for row in facts})
    return [edit for edit in about if edit.state == "active" and (any_object or edit.object_key in objects)]


def _apply(
    home: Path,
    model: str,
    current: BatchRow,
    written: Sequence[EditRow],
    corpus: Path | None,
    loading: Loading,
    progress: Progress,
    rollbacks: int,
) -> "Applied | None":
    # torch, which a veto alone does not need
    from kbsync.memit.settings import settings_on_record
    from kbsync.sync.apply import ApplyOptions, apply

    guard = Guard.recorded(current.work)
    only = {(edit.relation, edit.subject_key) for edit in written}
    options = ApplyOptions(
        model,
        values=settings_on_record(current.settings) | current.work.get("editor", {}),
        algorithm=current.algorithm,
        loading=loading,
        corpus=corpus,
        only=only,
        bounds=asdict(guard.bounds),
        force=guard.force,
        canaries=guard.canaries,
        rollbacks=rollbacks,
    )
    return apply(home, options, lambda proposal: True, progress)


SPARE = 2
"""solves beyond those of plain halving that may be spent on keeping relations whole"""


@dataclass(frozen=True, slots=True)
class Found:
    """A fact that breaks something, together with those before it, and what it breaks."""

    relation: str
    subject: str
    object: str
    breaks: str


@dataclass(frozen=True, slots=True)
class Bisected:
    """What a search found, in how many solves, and the apply that went on without it.

    Nothing is found where nothing breaks. `applied` is None where the user kept everything as it was.
    """

    model: str
    found: tuple[Found, ...]
    solves: int
    applied: "Applied | None"


def bisect(
    home: Path,
    options: ApplyOptions,
    confirm: Callable[[Sequence[Found]], bool],
    progress: Progress = silent,
    remark: Callable[[str], None] = lambda text: None,
) -> Bisected:
    """Search what an apply would write for facts that break a canary or a bound, and go on without them.

    Where the current state breaks it already, what is written is searched, too. Each step solves from target vectors
    in the cache. What is found is put under a veto on its object, and the rest applied; where `confirm` says no,
    nothing is written. Raises as `apply` does, and EditError where it breaks without any of these edits as well.
    """
    with prepared(home, options, progress, remark) as work:
        plan = work.plan()
        search = _Search(work, plan)
        culprits = search.run()
        found = tuple(
            Found(row.relation, row.subject, row.fact.object_label if row.fact else "", breaks)
            for rows, breaks in culprits
            for row in rows
        )
        if found and not confirm(found):
            return Bisected(plan.model, found, search.solves, None)
        for rows, breaks in culprits:
            for row in rows:
                facts = _stated(work.ledger, row)
                record_vetoes(work.ledger, facts, any_object=False, reason=f"found by bisect: {breaks}")
        if found:
            plan = replace(work, compared=None).plan()
        batch = work.batch(plan)
        applied = batch.run() if batch.edits.needed else nothing_to_do(plan, batch.edits, work.clock)
        return Bisected(plan.model, found, search.solves, applied)


def _stated(ledger: Ledger, row: PlanRow) -> list[FactRow]:
    """Return the facts on record that say what a row says, of whatever source."""
    named = facts_named(ledger, row.subject, row.relation)
    thing = normalise_label(row.fact.object_label) if row.fact else None
    same = [one for one in named if one.withdrawn is None and normalise_label(one.object_label) == thing]
    return list({one.id: one for one in (*([row.fact] if row.fact else []), *same)}.values())


Unit = tuple[PlanRow, ...]
"""rows that share a target vector: apart they would need another one"""


class _Search:
    """Halving over the rows of a plan: relations first, then facts."""

    def __init__(self, work: Prepared, plan: Plan) -> None:
        self.work, self.plan = work, plan
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
            self.units = _units(self.work.batch(self.plan).edits.groups, [r for r in self.plan.rows if r.sign in signs])
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
        batch = self.work.batch(plan)
        ledger, model = self.work.ledger, self.work.model
        if not batch.edits.needed:  # that is the state on record
            deltas = current_deltas(ledger, ledger.current_batch(model.key))
            return batch.trial(deltas, canaries_alone=self.canaries_alone)
        self.solves += bool(batch.edits.active)
        self.work.progress("solving again", self.solves, 0)
        return batch.trial(canaries_alone=self.canaries_alone)


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
    left = _halvings(high - low) + SPARE
    while high - low > 1:
        middle = (low + high) // 2
        edges = [place for place in range(low + 1, high) if relations[place] != relations[place - 1]]
        edge = min(edges, key=lambda place: abs(place - middle), default=middle)
        left -= 1
        if _halvings(max(edge - low, high - edge)) <= left:
            middle = edge
        if breaks(middle):
            high = middle
        else:
            low = middle
    return high


def _halvings(count: int) -> int:
    return math.ceil(math.log2(count)) if count > 1 else 0
