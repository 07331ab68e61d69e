"""Plan: knowledge base | ledger | model, compared fact by fact. Reads only; loads no model."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from kbsync.conflicts import KEPT_OUT, Conflict, Policy, Settled, Statement, settle
from kbsync.facts import INVERSE, EditRequest, check_relation, is_inverse, normalise_label
from kbsync.ledger import EditRow, FactRow, Ledger, ModelRow, VetoRow
from kbsync.ledger.edits import has_inverses, not_recalled
from kbsync.ledger.facts import aliases, priorities, vetoes, withheld
from kbsync.sync.home import templates_for
from kbsync.sync.known import Answers, inverse_facts, known_among, settle_inverses
from kbsync.templates import Templates

Sign = Literal["+", "~", "-", "=", "k", "!", "?", "x"]
NEW = "new"
NOT_RECALLED = "applied, but the model does not recall it"

SIGNS: tuple[Sign, ...] = ("+", "~", "-", "=", "k", "!", "?", "x")


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One (subject, relation) and what an apply would do about it.

    `fact` is the knowledge base's statement, `edit` the active edit, `request` what would be written; each None
    where there is none. Objects are labels.
    """

    sign: Sign
    subject: str
    relation: str
    object: str | None
    previous: str | None
    reason: str
    fact: FactRow | None = None
    edit: EditRow | None = None
    request: EditRequest | None = None
    sources: tuple[str, ...] = ()
    """who states the fact, or what contradicts it; none for an edit whose fact is gone"""

    @property
    def subject_key(self) -> str | None:
        """The subject's key, by the fact or else the edit; None for a conflict, which may be of several subjects."""
        told = self.fact or self.edit
        return told.subject_key if told else None


@dataclass(frozen=True, slots=True)
class Plan:
    """All rows of a comparison, and the conflicts that were met on the way."""

    model: str
    rows: tuple[PlanRow, ...]
    conflicts: tuple[Conflict, ...] = field(default=(), repr=False)

    @property
    def counts(self) -> dict[Sign, int]:
        found = Counter(row.sign for row in self.rows)
        return {sign: found[sign] for sign in SIGNS}

    @property
    def in_sync(self) -> bool:
        """Whether knowledge base and ledger agree, as far as the facts can be edited."""
        return not any(row.sign in "+~-x" for row in self.rows)

    def having(self, *signs: Sign) -> list[PlanRow]:
        return [row for row in self.rows if row.sign in signs]


def plan_for(
    home: Path,
    model: str | None,
    relations: Collection[str] | None = None,
    on_conflict: Policy = "out",
    include_known: bool = False,
    inverse: bool | None = None,
) -> Plan:
    """Return the plan for a model by what the ledger holds; `model` None means the one used last, or none yet."""
    with Ledger.open(home, create=False) as ledger:
        found = find_model(ledger, model)
        name = model or (found.name if found else "")
        plan = make_plan(ledger, templates_for(home), name, found, relations, on_conflict, inverse=inverse)
        if found is None or include_known:
            return plan
        return known_facts(plan, lambda asked: ledger.answers(found.key, list(asked)))


def find_model(ledger: Ledger, name: str | None) -> ModelRow | None:
    """Return the model of this name that was used last; without a name, whichever was. None where none was."""
    return next(iter(ledger.models()), None) if name is None else ledger.latest_model(name)


@dataclass(frozen=True, slots=True)
class _Part:
    """Facts by their ids, those under a veto, and how the others were settled."""

    facts: Mapping[int, FactRow]
    vetoed: Mapping[int, VetoRow]
    settled: Settled

    @property
    def kept_out(self) -> list[Conflict]:
        return [conflict for conflict in self.settled.conflicts if conflict.resolution == KEPT_OUT]


def make_plan(
    ledger: Ledger,
    templates: Templates,
    name: str,
    model: ModelRow | None,
    relations: Collection[str] | None = None,
    on_conflict: Policy = "out",
    among: Iterable[FactRow] | None = None,
    inverse: bool | None = None,
) -> Plan:
    """Compare facts with active edits. Facts under a veto are left out, then conflicts are settled (Eqn. 5).

    A fact under a veto is ``-`` while its edit is active, and after that ``!`` as long as its source states it. What
    the last apply that measured it found not recalled is ``x``. `among` are the facts to compare (None: all that
    stand); all that one of them may contradict must be there too. With `inverse`, facts whose relation has an inverse
    form are written the other way round as well (None: where some are so written now).
    """
    wanted = None if relations is None else {check_relation(relation) for relation in relations}
    edits = {
        (edit.relation, edit.subject_key): edit
        for edit in (ledger.active_edits(model.key) if model else ())
        if wanted is None or edit.relation.removeprefix(INVERSE) in wanted
    }
    inverse = compiles_inverse(ledger, model, inverse)
    among = ledger.facts(wanted, withdrawn=False) if among is None else among
    parts = _parts(ledger, templates, among, on_conflict, inverse)
    lost = not_recalled(ledger, model.key) if model else set()
    rows = [
        replace(row, sign="x", reason=NOT_RECALLED) if row.sign == "=" and row.edit and row.edit.id in lost else row
        for part in parts
        for row in _rows(ledger, templates, part, edits)
    ]
    contested = [one for part in parts for conflict in part.kept_out for one in conflict.statements]
    held = {(one.fact.relation, one.fact.subject.key) for one in contested}
    in_conflict = {one.ref for one in contested}
    used = {row.edit.id for row in rows if row.edit is not None}
    ending = {
        key: edit
        for key, edit in edits.items()
        # An inverse stays as long as the fact that it is made of does.
        if edit.id not in used and key not in held and not (is_inverse(key[0]) and edit.fact in in_conflict)
    }
    taken = {(veto.relation, veto.subject_key): veto for part in parts for veto in part.vetoed.values()}
    rows += [_ending_row(edit, taken.get(key), inverse) for key, edit in ending.items()]
    for fact, veto in ((part.facts[ref], veto) for part in parts for ref, veto in part.vetoed.items()):
        if not _covers(veto, ending.get((veto.relation, veto.subject_key))):
            reason = f"retracted by you on {veto.since[:10]}" + (f": {veto.reason}" if veto.reason else "")
            told = (fact.subject_label, fact.relation, fact.object_label, None, reason)
            rows.append(PlanRow("!", *told, fact, sources=(fact.source,)))
    conflicts = tuple(conflict for part in parts for conflict in part.settled.conflicts)
    return Plan(name, tuple(with_their_facts(sorted(rows, key=sort_key))), conflicts)


def compiles_inverse(ledger: Ledger, model: ModelRow | None, inverse: bool | None) -> bool:
    """Tell whether inverse facts are written: as is said, else as the model's present state is."""
    return inverse if inverse is not None else model is not None and has_inverses(ledger, model.key)


def _parts(
    ledger: Ledger, templates: Templates, among: Iterable[FactRow], on_conflict: Policy, inverse: bool
) -> list[_Part]:
    """Return the facts as they are stated and, with `inverse`, those that follow the other way round, both settled."""
    banned = vetoes(ledger)

    def part(facts: Mapping[int, FactRow], settling: Callable[[Sequence[Statement]], Settled]) -> _Part:
        vetoed = withheld(facts.values(), banned)
        free = (row for row in facts.values() if row.id not in vetoed)
        return _Part(facts, vetoed, settling(_statements(ledger, templates, free)))

    stated = part({row.id: row for row in among}, lambda told: settle(told, on_conflict))
    if not inverse:
        return [stated]
    turned = inverse_facts(stated.facts, stated.settled, templates)
    return [stated, part(turned, lambda told: settle_inverses(told, stated.settled))]


def _rows(
    ledger: Ledger, templates: Templates, part: _Part, edits: Mapping[tuple[str, str], EditRow]
) -> Iterator[PlanRow]:
    """Yield the rows of facts in conflict, and of those that are to be written."""
    settled, conflicts = part.settled, part.settled.conflicts
    kept = {statement.ref for statement in settled.kept}
    # Under which further subject keys may a kept statement's prompt have been applied? Those of statements that are
    # merged into it, or that it was chosen over in a conflict. And which sources say the same?
    same_as: dict[int, list[str]] = defaultdict(list)
    witnesses: dict[int, dict[str, None]] = defaultdict(dict)
    for one in (*settled.kept, *(one for conflict in conflicts for one in conflict.statements)):
        witnesses[one.ref][one.source] = None
    for merged, stand in settled.merged:
        same_as[stand.ref].append(merged.fact.subject.key)
        witnesses[stand.ref][merged.source] = None
    for conflict in conflicts:
        for chosen in (statement for statement in conflict.statements if statement.ref in kept):
            same_as[chosen.ref] += [statement.fact.subject.key for statement in conflict.statements]
    names = aliases(ledger, {row.object_key for row in part.facts.values()})
    for conflict in part.kept_out:
        keys = [(conflict.relation, statement.fact.subject.key) for statement in conflict.statements]
        edit = next((edits[key] for key in keys if key in edits), None)
        objects = " | ".join(entity.label for entity in conflict.objects)
        told = (conflict.subject, conflict.relation, objects, edit.object if edit else None, conflict.reason)
        sources = dict.fromkeys(source for one in conflict.statements for source in witnesses[one.ref])
        yield PlanRow("!", *told, edit=edit, sources=tuple(sources))
    for stands in settled.kept:
        row = fact_row(part.facts[stands.ref], same_as[stands.ref], edits, templates, names)
        yield replace(row, sources=tuple(witnesses[stands.ref]))


def with_their_facts(rows: Iterable[PlanRow]) -> Iterator[PlanRow]:
    """Yield the rows, inverse facts as what they are made of: where that is not written, neither is its inverse."""
    rows = list(rows)
    written = {row.fact.id for row in rows if row.fact and row.sign in "+~=x" and not is_inverse(row.relation)}
    for row in rows:
        if row.fact is None or not is_inverse(row.relation) or row.fact.id in written or row.sign not in "+~=xk":
            yield row
        elif row.edit is not None:
            yield replace(row, sign="-", object=None, previous=row.edit.object, reason="its fact is not edited now")


def _statements(ledger: Ledger, templates: Templates, facts: Iterable[FactRow]) -> list[Statement]:
    """Return facts as what may contradict each other, with the priorities of their sources."""
    ranks, statements = priorities(ledger), []
    for row in facts:
        told = templates.wording(row.relation, row.wording)
        prompt = told.prompt.format(row.subject_label) if told else None
        statements.append(Statement(row.fact, prompt, row.id, row.id, row.source, ranks.get(row.source, 0)))
    return statements


def sort_key(row: PlanRow) -> tuple[int, str, str]:
    return SIGNS.index(row.sign), row.relation, row.subject


def _ending_row(edit: EditRow, veto: VetoRow | None, inverse: bool) -> PlanRow:
    reason = "retracted by you" if veto and _covers(veto, edit) else "withdrawn from the source"
    if is_inverse(edit.relation) and reason != "retracted by you":
        reason = "its fact is not edited now" if inverse else "inverse facts are not asked for"
    return PlanRow("-", edit.subject, edit.relation, None, edit.object, reason, edit=edit)


def _covers(veto: VetoRow, edit: EditRow | None) -> bool:
    return edit is not None and veto.object_key in (None, edit.object_key)


def fact_row(
    fact: FactRow,
    same_as: Sequence[str],
    edits: Mapping[tuple[str, str], EditRow],
    templates: Templates,
    names: Mapping[str, tuple[str, ...]],
) -> PlanRow:
    """Return a fact's row; `same_as` are further subject keys under which its prompt may have been applied."""
    keys = [(fact.relation, subject_key) for subject_key in (fact.subject_key, *same_as)]
    edit = next((edits[key] for key in keys if key in edits), None)
    told = (fact.subject_label, fact.relation, fact.object_label, edit.object if edit else None)
    if templates.wording(fact.relation, fact.wording) is None:
        return PlanRow("?", *told, no_template(fact.relation), fact, edit)
    request = templates.request(
        fact.subject_label, fact.relation, fact.object_label, names.get(fact.object_key, ()), fact.wording
    )
    sign, reason = _against(edit, fact, request)
    return PlanRow(sign, *told, reason, fact, edit, request)


def no_template(relation: str) -> str:
    return f"{relation} has no template: write one into templates/ of the home"


def _against(edit: EditRow | None, fact: FactRow, request: EditRequest) -> tuple[Sign, str]:
    """Return a fact's sign and reason by its active edit."""
    if edit is None:
        return "+", f"inverse of {fact.relation.removeprefix(INVERSE)}" if is_inverse(fact.relation) else NEW
    if edit.object_key != fact.object_key and normalise_label(edit.object) != normalise_label(fact.object_label):
        return "~", "the object has changed"
    if edit.request != request.id:
        same = (edit.subject, edit.object) == (fact.subject_label, fact.object_label)
        return "~", "its template has changed" if same else "relabelled"
    return "=", "applied"


def known_facts(plan: Plan, answers: Answers) -> Plan:
    """Mark as ``k`` the new facts that the base model answers already, and as ``-`` the changed ones.

    So whether a fact is an edit depends on what it says now, not on what it said before.
    """
    rows: list[PlanRow] = list(plan.rows)
    marks: dict[str, Sign] = {"+": "k", "~": "-"}
    for turned in (False, True):  # an inverse is asked for where its fact is written
        about = {
            place: row.request
            for place, row in enumerate(rows)
            if row.sign in marks and row.request and is_inverse(row.relation) == turned
        }
        known = known_among(list(about.values()), answers) if about else set()
        for place, request in about.items():
            if request.id in known:
                mark = marks[rows[place].sign]
                rows[place] = replace(rows[place], sign=mark, reason="the base model answers it already")
        rows = list(with_their_facts(rows))
    return replace(plan, rows=tuple(sorted(rows, key=sort_key)))
