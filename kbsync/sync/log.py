"""Log: everything that ever happened to one fact, in order of time. Loads no model."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from kbsync.errors import SettingsError
from kbsync.facts import check_relation
from kbsync.ledger import BatchRow, EditRow, FactRow, Ledger
from kbsync.ledger.edits import edits_about, endings, line_of, metrics_of, rollbacks, states_after
from kbsync.ledger.facts import vetoes
from kbsync.sync.named import facts_meant

__all__ = ["Event", "FactLog", "fact_log", "parse_fact"]

Subjects = set[tuple[str, str]]
"""(relation, subject key)"""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `time` is ISO 8601; of pull, batch, model and source those are given that took part."""

    time: str
    event: str
    relation: str
    object: str | None
    previous: str | None = None
    detail: str = ""
    source: str | None = None
    pull: int | None = None
    batch: int | None = None
    model: str | None = None
    metrics: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FactLog:
    """A subject, and what happened to its facts, oldest first."""

    subject: str
    ids: tuple[str, ...]
    events: tuple[Event, ...]


def parse_fact(text: str) -> tuple[str, str]:
    """Return subject and relation of ``France P36``; raise SettingsError for a text without a relation at its end."""
    subject, _, relation = text.strip().rpartition(" ")
    if not subject.strip():
        raise SettingsError(f"fact {text!r}: write subject and relation, such as 'France P36'")
    return subject.strip(), check_relation(relation)


def fact_log(home: Path, subject: str, relation: str | None = None) -> FactLog:
    """Return what happened to the facts of a subject (by label, id or alias), of one relation or of all.

    Raises LedgerError where there is no ledger, SettingsError for a subject or relation that is not on record.
    """
    with Ledger.open(home, create=False) as ledger:
        facts = facts_meant(ledger, subject, relation)
        subjects = {(row.relation, row.subject_key) for row in facts}
        events = [
            *_pulled(ledger, facts),
            *_contested(ledger, subjects),
            *_vetoed(ledger, subjects),
            *_edited(ledger, subjects),
        ]
    ids = tuple(dict.fromkeys(row.subject_id for row in facts if row.subject_id is not None))
    return FactLog(facts[-1].subject_label, ids, tuple(sorted(events, key=lambda event: event.time)))


def _pulled(ledger: Ledger, facts: Sequence[FactRow]) -> Iterator[Event]:
    times = {pull.id: pull.finished for pull in ledger.pulls()}
    for row in facts:

        def event(name: str, pull: int, thing: str, previous: str | None = None, row: FactRow = row) -> Event:
            return Event(times[pull], name, row.relation, thing, previous, source=row.source, pull=pull)

        past = ledger.history(row.id)
        subjects = [*(entry.subject_label for entry in past), row.subject_label]
        objects = [*(entry.object_label for entry in past), row.object_label]
        yield event("new", row.first_seen, objects[0])
        for entry, following, subject in zip(past, objects[1:], subjects[1:], strict=True):
            if entry.ended in ("changed", "relabelled"):
                told = event(entry.ended, entry.ended_by, following, entry.object_label)
                moved = None not in (entry.subject_label, subject) and entry.subject_label != subject
                yield replace(told, detail=f"the subject was {entry.subject_label}") if moved else told
            else:
                yield event("withdrawn", entry.ended_by, entry.object_label)
                if entry.restated_by is not None:
                    yield event("stated again", entry.restated_by, following)
        if row.withdrawn is not None:
            yield event("withdrawn", row.withdrawn, row.object_label)


def _contested(ledger: Ledger, subjects: Subjects) -> Iterator[Event]:
    pulls = {pull.id: pull.finished for pull in ledger.pulls()}
    batches = {batch.id: batch.finished or batch.started for batch in ledger.batches()}
    for row in ledger.conflicts():
        if (row.relation, row.subject_key) in subjects:
            time = pulls[row.pull] if row.pull is not None else batches[row.batch or 0]
            objects = " | ".join(entity.label for entity in row.objects)
            yield Event(
                time, "in conflict", row.relation, objects, detail=row.resolution, pull=row.pull, batch=row.batch
            )


def _vetoed(ledger: Ledger, subjects: Subjects) -> Iterator[Event]:
    for veto in vetoes(ledger, lifted=True):
        if (veto.relation, veto.subject_key) in subjects:
            yield Event(veto.since, "retracted by you", veto.relation, veto.object, detail=veto.reason or "")
            if veto.lifted is not None:
                yield Event(veto.lifted, "retraction undone", veto.relation, veto.object)


def _edited(ledger: Ledger, subjects: Subjects) -> Iterator[Event]:
    edits = {edit.id: edit for edit in edits_about(ledger, subjects)}
    batches = {batch.id: batch for batch in ledger.batches()}
    names = {model.key: model.name for model in ledger.models()}
    figures: dict[tuple[int, int], dict[str, dict[str, float | None]]] = defaultdict(dict)
    for row in metrics_of(ledger, edits):
        figures[row.batch, row.edit or 0][row.name] = {"before": row.before, "after": row.after}

    def event(name: str, edit: EditRow, batch: int) -> Event:
        made = batches[batch]
        return Event(
            made.finished or made.started,
            name,
            edit.relation,
            edit.object,
            batch=batch,
            model=names[edit.model],
            metrics=figures.pop((batch, edit.id), {}),
        )

    for edit in edits.values():
        yield event("edited", edit, edit.batch)
    for ending in endings(ledger):
        if ending.edit in edits:
            yield event(ending.state, edits[ending.edit], ending.batch)
    for batch, edit_id in list(figures):
        yield event("measured", edits[edit_id], batch)
    yield from _rolled_back(ledger, list(edits.values()), list(batches.values()), names)


def _rolled_back(
    ledger: Ledger, edits: Sequence[EditRow], batches: Sequence[BatchRow], names: Mapping[str, str]
) -> Iterator[Event]:
    """Yield what each rollback did to the edits: taken out, or brought back."""
    ended = endings(ledger)
    for move in rollbacks(ledger):
        own = [edit for edit in edits if edit.model == move.model]
        before, after = (
            states_after(own, ended, set(line_of(batches, batch))) for batch in (move.from_batch, move.to_batch)
        )
        where = f"to batch {move.to_batch}" if move.to_batch else "to the base model"
        for edit in own:
            was, now = (states[edit.id][0] == "active" for states in (before, after))
            if was != now:
                name = "brought back" if now else "rolled back"
                yield Event(
                    move.time,
                    name,
                    edit.relation,
                    edit.object,
                    detail=where,
                    batch=move.to_batch,
                    model=names[move.model],
                )
