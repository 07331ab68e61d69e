"""Eqn. 5: a batch asks one object at most for each subject and relation. Here what breaks that is set aside, and told.

Two statements **contradict** each other when

- they have the same subject and relation, and different objects; or
- their subjects differ, their filled prompts are the same (two ids that share a label, or an id and a bare label),
  and they do not ask for the same target.

Subjects are the same by `Entity.key`. Objects are the same by id where both have one, else by normalised label. Two
subjects with ids of their own ask for the same target only if label and object are both the same.

Statements that share a subject and relation or a prompt form a group. Nothing vanishes: each statement ends in
`Settled.kept`, in `Settled.merged` (it says what another one says), or in the conflict of its group.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from kbsync.errors import ConflictError
from kbsync.facts import Entity, Fact, linked, normalise_label

# What becomes of a group in conflict: kept out whole; the first or the newest statement kept; or an error.
Policy = Literal["out", "first", "latest", "error"]

KEPT_OUT = "kept out"
"""resolution of a conflict of which nothing is written"""
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Statement:
    """A fact that asks to be edited. `prompt` is the filled edit prompt (None: no template), `ref` its ledger row.

    `order` says which came first; what `source` states goes before what sources of lower `priority` do.
    """

    fact: Fact
    prompt: str | None
    order: int
    ref: int
    source: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Conflict:
    """A group of statements that contradict each other: why, and what was done about it (`resolution`)."""

    relation: str
    subject: str
    statements: tuple[Statement, ...]
    kind: Literal["objects", "prompt"]
    reason: str
    resolution: str

    @property
    def objects(self) -> tuple[Entity, ...]:
        """The different objects, in the statements' order."""
        return tuple({statement.fact.object.key: statement.fact.object for statement in self.statements}.values())


@dataclass(frozen=True, slots=True)
class Settled:
    """What may be edited, what may not, and what was left out as another says the same: pairs (left out, the other).

    A statement that `first` or `latest` chose is in `kept`, and in its conflict as well.
    """

    kept: tuple[Statement, ...]
    conflicts: tuple[Conflict, ...]
    merged: tuple[tuple[Statement, Statement], ...]


def settle(statements: Sequence[Statement], policy: Policy) -> Settled:
    """Sort `statements` into those to edit and those in conflict (Eqn. 5), all in their `order`.

    Of a group in conflict those of the highest priority count; where they agree, one of them is kept. Otherwise
    `first` keeps the statement of lowest order, `latest` the one with the latest start date (none counts as the
    earliest; where that leaves several, the group stays out whole). Raises ConflictError under `error`.
    """
    distinct, stands = _distinct(sorted(statements, key=lambda statement: (-statement.priority, statement.order)))
    witnesses = {one.ref: {one.source: None} for one in distinct}
    for out, stand in stands.items():
        witnesses[stand.ref][out.source] = None
    kept: list[Statement] = []
    conflicts: list[Conflict] = []
    for group in _groups(distinct):
        if _contradictory(group):
            conflict, chosen = _resolve(group, policy, witnesses)
            conflicts.append(conflict)
            kept += chosen
        else:
            kept.append(group[0])
            stands |= dict.fromkeys(group[1:], group[0])
    if policy == "error" and (unsettled := [one for one in conflicts if one.resolution == KEPT_OUT]):
        raise ConflictError(_message(unsettled))
    kept.sort(key=lambda statement: statement.order)
    merged = tuple((out, stands.get(stand, stand)) for out, stand in stands.items())
    return Settled(tuple(kept), tuple(conflicts), merged)


def _distinct(statements: Iterable[Statement]) -> tuple[list[Statement], dict[Statement, Statement]]:
    """Keep the first of the statements that two sources share; the others map to it."""
    first: dict[tuple[str, str, str], Statement] = {}
    stands = {}
    for statement in statements:
        fact = statement.fact
        kept = first.setdefault((fact.subject.key, fact.relation, fact.object.key), statement)
        if kept is not statement:
            stands[statement] = kept
    return list(first.values()), stands


def _groups(statements: Sequence[Statement]) -> list[list[Statement]]:
    """Statements that are linked by a subject and relation or by a prompt, directly or through others."""
    keys: list[list[tuple[str, ...]]] = [[(one.fact.subject.key, one.fact.relation)] for one in statements]
    for own, statement in zip(keys, statements, strict=True):
        if statement.prompt is not None:
            own.append((normalise_label(statement.prompt),))
    return [[statements[place] for place in places] for places in linked(keys)]


def _contradictory(group: Sequence[Statement]) -> bool:
    return any(_contradict(a, b) for a, b in combinations(group, 2))


def _contradict(a: Statement, b: Statement) -> bool:
    one, other = a.fact, b.fact
    if (one.subject.key, one.relation) == (other.subject.key, other.relation):
        return not _same(one.object, other.object)
    if a.prompt is None or b.prompt is None or normalise_label(a.prompt) != normalise_label(b.prompt):
        return False
    if one.subject.id is None or other.subject.id is None:
        return not _same(one.object, other.object)
    return not (_same(one.object, other.object) and _same_label(one.object, other.object))


def _same(a: Entity, b: Entity) -> bool:
    return _same_label(a, b) if a.id is None or b.id is None else a.id == b.id


def _same_label(a: Entity, b: Entity) -> bool:
    return normalise_label(a.label) == normalise_label(b.label)


Witnesses = Mapping[int, Iterable[str]]
"""a statement's ref -> the sources that say the same"""


def _resolve(group: list[Statement], policy: Policy, witnesses: Witnesses) -> tuple[Conflict, list[Statement]]:
    """The group's conflict, and the statement that is kept all the same, if any."""
    kind, reason = _reason(group, witnesses)
    chosen: list[Statement] = []
    leading = [statement for statement in group if statement.priority == group[0].priority]
    rule: str = policy
    if not _contradictory(leading):
        rule, chosen = f"priority of {leading[0].source}", leading[:1]
    elif policy == "first":
        chosen = leading[:1]
    elif policy == "latest":
        newest = max(statement.fact.since or "" for statement in leading)
        latest = [statement for statement in leading if (statement.fact.since or "") == newest]
        if _contradictory(latest):
            tied = f"start on {newest}" if newest else "have no start date"
            reason += f"; no latest one can be chosen: {len(latest)} of them {tied}"
        else:
            chosen = latest[:1]
    resolution = f"{rule}: {chosen[0].fact.object.label}" if chosen else KEPT_OUT
    first = group[0].fact
    return Conflict(first.relation, first.subject.label, tuple(group), kind, reason, resolution), chosen


def _reason(group: Sequence[Statement], witnesses: Witnesses) -> tuple[Literal["objects", "prompt"], str]:
    subjects = {statement.fact.subject.key: statement.fact.subject for statement in group}
    label = group[0].fact.subject.label
    if len(subjects) == 1:
        objects = {statement.fact.object.key: statement.fact.object for statement in group}
        told = f"{label} has {len(objects)} objects for {group[0].fact.relation}: {_names([*objects.values()])}"
        return "objects", told + _sources(group, witnesses)
    *names, last = (entity.id or f"{entity.label!r} without an id" for entity in subjects.values())
    told = f"{', '.join(names)} and {last} share the label {label!r} and would give the same prompt"
    return "prompt", told + _sources(group, witnesses)


def _sources(group: Sequence[Statement], witnesses: Witnesses) -> str:
    """Which source says what, where there are several."""
    said: dict[str, list[str]] = defaultdict(list)
    for statement in group:
        for source in witnesses[statement.ref]:
            said[source].append(statement.fact.object.label)
    if len(said) < 2:
        return ""
    told = (f"{source}: {', '.join(dict.fromkeys(things))}" for source, things in said.items())
    return f" ({'; '.join(told)})"


def _names(entities: Sequence[Entity]) -> str:
    """Labels; with the id where another entity has the same label."""
    labels = [normalise_label(entity.label) for entity in entities]
    return ", ".join(
        f"{entity.label} ({entity.id or 'no id'})" if labels.count(label) > 1 else entity.label
        for entity, label in zip(entities, labels, strict=True)
    )


def _message(conflicts: Sequence[Conflict]) -> str:
    shown = "; ".join(f"{conflict.relation}: {conflict.reason}" for conflict in conflicts[:_SHOWN])
    more = f"; and {len(conflicts) - _SHOWN} more" if len(conflicts) > _SHOWN else ""
    count = "1 conflict" if len(conflicts) == 1 else f"{len(conflicts)} conflicts"
    return f"{count}: {shown}{more}. Correct the source, or choose --on-conflict out, first or latest"
