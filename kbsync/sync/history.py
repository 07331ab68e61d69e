"""History and log: what happened to a model's batches and to a fact, and which of them a user's words mean.

Loads no torch.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from operator import itemgetter
from pathlib import Path
from typing import Any

from kbsync.errors import SettingsError
from kbsync.facts import INVERSE, check_relation, is_inverse
from kbsync.ledger import EditRow, FactRow, Ledger, ModelRow, SkippedRow
from kbsync.ledger.edits import edits_about, edits_of, endings, line_of, metrics_of, rollbacks, states_after
from kbsync.ledger.facts import facts_named, relations_on_record, subject_labels, vetoes
from kbsync.ledger.pulls import skipped_about
from kbsync.sync.home import model_name

_SHOWN = 8


def facts_meant(ledger: Ledger, subject: str, relation: str | None) -> list[FactRow]:
    """Return the facts on record, withdrawn ones too, whose subject has this label, id or alias."""
    if relation is not None and is_inverse(relation):
        raise SettingsError(f"{relation} is made of the facts of {relation[1:]}: name one of these")
    if relation is not None and check_relation(relation) not in (relations := relations_on_record(ledger)):
        near = get_close_matches(relation, relations, n=_SHOWN, cutoff=0.5) or relations
        told = f"there are facts of {_few(near)}" if near else "run `kbsync pull` first"
        raise SettingsError(f"no fact of {relation} is on record: {told}")
    if not subject.strip():
        raise SettingsError("the subject is empty: give its label or id")
    found = facts_named(ledger, subject, relation)
    if found:
        return found
    what = f"{relation} of {subject!r}" if relation else f"subject {subject!r}"
    near = get_close_matches(subject, subject_labels(ledger, relation), n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "give the subject's label or id as it was pulled"
    raise SettingsError(f"{what} is not on record: {hint}")


def model_meant(ledger: Ledger, name: str | None) -> ModelRow:
    """Return the record of the model that `name` means; without a name, of the one used last."""
    models = ledger.models()
    if not models:
        raise SettingsError("no model has been edited here yet: run `kbsync apply` first")
    if name is None:
        return models[0]
    found = ledger.latest_model(model_name(name))
    if found is None:
        raise SettingsError(f"model {name} is not on record here; there are {_few([model.name for model in models])}")
    return found


def _few(names: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(names))
    return ", ".join(distinct[:_SHOWN]) + (", ..." if len(distinct) > _SHOWN else "")


FIGURES = ("S", "recall_active", "perplexity")
"""figures of a whole batch that the table shows; the ledger has them all"""


def history(home: Path, model: str | None = None) -> dict[str, list[dict[str, Any]]]:
    """Return the batches, and the changes of the current one that were no apply (rollbacks; 0 is the base model)."""
    with Ledger.open(home, create=False) as ledger:
        models = ledger.models() if model is None else [model_meant(ledger, model)]
        names = {row.key: row.name for row in models}
        lines = [line for row in models for line in _batches(ledger, row.key, row.name)]
        moves = [
            {
                "time": row.time,
                "model": names[row.model],
                "from_batch": row.from_batch or 0,
                "to_batch": row.to_batch or 0,
            }
            for row in rollbacks(ledger)
            if row.model in names
        ]
    return {"batches": sorted(lines, key=itemgetter("batch")), "rollbacks": moves}


def _batches(ledger: Ledger, model: str, name: str) -> Iterator[dict[str, Any]]:
    """Yield each batch; `active` counts the edits after it, None where it left no state, and so do its metrics."""
    current = ledger.current_batch(model)
    added = Counter(edit.batch for edit in edits_of(ledger, model))
    ended = Counter((ending.batch, ending.state) for ending in endings(ledger, model))
    active: dict[int | None, int] = {None: 0}
    for batch in ledger.batches(model):
        superseded, retracted = ended[batch.id, "superseded"], ended[batch.id, "retracted"]
        if batch.state in ("done", "rolled back"):
            active[batch.id] = active[batch.parent] + added[batch.id] - superseded - retracted
        figures = {row.name: row.after for row in ledger.metrics(batch.id) if row.edit is None}
        yield {
            "batch": batch.id,
            "model": name,
            "started": batch.started,
            "finished": batch.finished,
            "state": batch.state,
            "current": current is not None and batch.id == current.id,
            "added": added[batch.id],
            "superseded": superseded,
            "retracted": retracted,
            "active": active.get(batch.id),
            "metrics": {name: figures.get(name) for name in FIGURES},
            "seconds": batch.seconds.get("total"),
            "reason": batch.reason,
        }


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


def parse_fact(text: str) -> tuple[str, str]:
    """Return subject and relation of ``France P36`` or ``Paris ^P36``."""
    subject, _, relation = text.strip().rpartition(" ")
    if not subject.strip():
        raise SettingsError(f"fact {text!r}: write subject and relation, such as 'France P36'")
    check_relation(relation.removeprefix(INVERSE))
    return subject.strip(), relation


def fact_log(home: Path, subject: str, relation: str | None = None) -> dict[str, Any]:
    """Return what happened to the facts of a subject (by label, id or alias), of one relation or of all, oldest first.

    The keys are subject, ids and events.
    """
    with Ledger.open(home, create=False) as ledger:
        left_out = skipped_about(ledger, subject, relation)
        facts = facts_named(ledger, subject, relation) if left_out else facts_meant(ledger, subject, relation)
        subjects = {(row.relation, row.subject_key) for row in facts}
        events = [
            *_pulled(ledger, facts),
            *_left_out(ledger, left_out),
            *_set_aside(ledger, subjects),
            *_edited(ledger, subjects),
        ]
    ids = tuple(dict.fromkeys(row.subject_id for row in facts if row.subject_id is not None))
    labels = [*(row.subject_label or row.subject_key for row in left_out), *(row.subject_label for row in facts)]
    return {"subject": labels[-1], "ids": ids, "events": sorted(events, key=lambda event: event.time)}


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


def _left_out(ledger: Ledger, rows: Sequence[SkippedRow]) -> Iterator[Event]:
    """Yield what a source has and pulls did not take, at the first of them, with the last if it is not the newest."""
    pulls = ledger.pulls()
    times = {pull.id: pull.finished for pull in pulls}
    newest = {(pull.source, pull.relation): pull.id for pull in pulls}
    for row in rows:
        until = "" if row.last_seen == newest[row.source, row.relation] else f" (until pull {row.last_seen})"
        told = (times[row.first_seen], "left out", row.relation, row.object or None)
        yield Event(*told, detail=row.reason + until, source=row.source, pull=row.first_seen)


def _set_aside(ledger: Ledger, subjects: Subjects) -> Iterator[Event]:
    """Yield the conflicts and the user's vetoes."""
    pulls = {pull.id: pull.finished for pull in ledger.pulls()}
    batches = {batch.id: batch.finished or batch.started for batch in ledger.batches()}
    for row in ledger.conflicts():
        if (row.relation, row.subject_key) in subjects:
            time = pulls[row.pull] if row.pull is not None else batches[row.batch or 0]
            told = (time, "in conflict", row.relation, " | ".join(entity.label for entity in row.objects))
            yield Event(*told, detail=row.resolution, pull=row.pull, batch=row.batch)
    for veto in vetoes(ledger, lifted=True):
        if (veto.relation, veto.subject_key) in subjects:
            yield Event(veto.since, "retracted by you", veto.relation, veto.object, detail=veto.reason or "")
            if veto.lifted is not None:
                yield Event(veto.lifted, "retraction undone", veto.relation, veto.object)


def _edited(ledger: Ledger, subjects: Subjects) -> Iterator[Event]:
    """Yield what batches and rollbacks did to the edits."""
    edits = {edit.id: edit for edit in edits_about(ledger, subjects)}
    batches = {batch.id: batch for batch in ledger.batches()}
    names = {model.key: model.name for model in ledger.models()}
    figures: dict[tuple[int, int], dict[str, dict[str, float | None]]] = defaultdict(dict)
    for row in metrics_of(ledger, edits):
        figures[row.batch, row.edit or 0][row.name] = {"before": row.before, "after": row.after}

    def event(name: str, edit: EditRow, batch: int) -> Event:
        made, measured = batches[batch], figures.pop((batch, edit.id), {})
        told = (made.finished or made.started, name, edit.relation, edit.object)
        return Event(*told, batch=batch, model=names[edit.model], metrics=measured)

    for edit in edits.values():
        yield event("edited", edit, edit.batch)
    ended = endings(ledger)
    for ending in ended:
        if ending.edit in edits:
            yield event(ending.state, edits[ending.edit], ending.batch)
    for batch, edit_id in list(figures):
        yield event("measured", edits[edit_id], batch)
    for move in rollbacks(ledger):
        own = [edit for edit in edits.values() if edit.model == move.model]
        lines = (set(line_of(batches.values(), batch)) for batch in (move.from_batch, move.to_batch))
        before, after = (states_after(own, ended, line) for line in lines)
        where = f"to batch {move.to_batch}" if move.to_batch else "to the base model"
        for edit in own:
            was, now = (states[edit.id][0] == "active" for states in (before, after))
            if was != now:
                told = (move.time, "brought back" if now else "rolled back", edit.relation, edit.object)
                yield Event(*told, detail=where, batch=move.to_batch, model=names[move.model])
