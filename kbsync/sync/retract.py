"""Retract: take one fact out of a model, and keep it out, though its source goes on stating it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kbsync.errors import EditError, KbsyncError, SettingsError
from kbsync.facts import is_inverse, normalise_label
from kbsync.ledger import BatchRow, FactRow, Ledger
from kbsync.ledger.edits import edits_about, rollback_count
from kbsync.ledger.facts import aliases, facts_named, lift_vetoes, record_vetoes, vetoes
from kbsync.sync.guards import Guard
from kbsync.sync.history import facts_meant, model_meant
from kbsync.sync.home import AS_STORED, Loading, Progress, silent
from kbsync.sync.known import is_called

if TYPE_CHECKING:
    from kbsync.sync.apply import ApplyOptions


def retract(
    home: Path,
    subject: str,
    relation: str,
    confirm: Callable[[dict[str, Any]], bool],
    *,
    object_name: str | None = None,
    model: str | None = None,
    reason: str | None = None,
    corpus: Path | None = None,
    loading: Loading = AS_STORED,
    progress: Progress = silent,
) -> dict[str, Any] | None:
    """Put a fact under a veto and apply that alone; None where `confirm` says no.

    Returns the retraction, which `confirm` is shown before, and the apply that took the fact out, None for none.
    Other new and changed facts wait for the next apply, and settings and bounds are those of the current batch. A model
    that the fact is not written into is not loaded. Raises SettingsError for a fact or model that is not on record, and
    as `apply` does; the veto then stays.
    """
    with Ledger.open(home, create=False) as ledger:
        facts = _current_facts(ledger, subject, relation, object_name)
        known = model_meant(ledger, model) if model or ledger.models() else None
        objects = {row.object_key for row in facts}
        edits = [
            edit
            for edit in edits_about(ledger, {(row.relation, row.subject_key) for row in facts})
            if edit.state == "active" and (object_name is None or edit.object_key in objects)
        ]
        current, rollbacks = ledger.current_batch(known.key) if known else None, rollback_count(ledger)
        written = [edit for edit in edits if known and edit.model == known.key]
        names = {row.key: row.name for row in ledger.models()}
        others = sorted({names[edit.model] for edit in edits if known and edit.model != known.key})
        preview = {
            "subject": facts[0].subject_label,
            "relation": relation,
            "objects": list(dict.fromkeys(row.object_label for row in facts)),
            "model": known.name if known else None,
            "written": [edit.object for edit in written],  # to be taken out of the model
            "others": others,  # models that the fact is written into too, which an apply of theirs will take out
        }
        if not confirm(preview):
            return None
        record_vetoes(ledger, facts, any_object=object_name is None, reason=reason)
    if known is None or current is None or not written:
        return {"retraction": preview, "applied": None}
    from kbsync.sync.apply import apply  # torch, which a veto alone does not need

    about = {(edit.relation, edit.subject_key) for edit in written}
    options = _as_before(known.name, current, only=about, corpus=corpus, loading=loading, rollbacks=rollbacks)
    try:
        applied = apply(home, options, lambda proposal: True, progress)
    except KbsyncError as error:
        told = f"The retraction is on record, and `kbsync apply --model {known.name}` takes the fact out"
        raise EditError(f"{error}. {told}") from error
    return {"retraction": preview, "applied": applied}


def _as_before(model: str, current: BatchRow, **own: Any) -> "ApplyOptions":
    """Return the options of an apply with the settings and bounds of the current batch, and its own."""
    from kbsync.memit.settings import settings_on_record
    from kbsync.sync.apply import ApplyOptions

    guard, values = Guard.recorded(current.work), settings_on_record(current.settings)
    values |= current.work.get("editor", {})
    bounded: dict[str, Any] = {"bounds": asdict(guard.bounds), "force": guard.force, "canaries": guard.canaries}
    return ApplyOptions(model, values=values, algorithm=current.algorithm, **bounded, **own)


def lift(home: Path, subject: str, relation: str, object_name: str | None = None) -> list[dict[str, str | None]]:
    """Lift the vetoes on a fact, so that the next apply writes it again; one without an object was for any object."""
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
        return [{"subject": veto.subject, "relation": veto.relation, "object": veto.object} for veto in held]


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
