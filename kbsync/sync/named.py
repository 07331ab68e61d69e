"""Which facts, and which model, a user's words mean. Loads no torch."""

from collections.abc import Sequence
from difflib import get_close_matches

from kbsync.errors import SettingsError
from kbsync.facts import check_relation
from kbsync.ledger import FactRow, Ledger, ModelRow
from kbsync.ledger.facts import facts_named, relations_on_record, subject_labels
from kbsync.sync.names import model_name

__all__ = ["facts_meant", "model_meant"]

_SHOWN = 8


def facts_meant(ledger: Ledger, subject: str, relation: str | None) -> list[FactRow]:
    """Return the facts on record, withdrawn ones too, whose subject has this label, id or alias.

    Raises SettingsError with what comes near for a relation or a subject of which nothing is on record.
    """
    if relation is not None:
        _check_on_record(ledger, check_relation(relation))
    if not subject.strip():
        raise SettingsError("the subject is empty: name it by its label or its id")
    found = facts_named(ledger, subject, relation)
    if found:
        return found
    what = f"{relation} of {subject!r}" if relation else f"subject {subject!r}"
    near = get_close_matches(subject, subject_labels(ledger, relation), n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "name the subject by its label or its id, as pulled"
    raise SettingsError(f"{what} is not on record: {hint}")


def model_meant(ledger: Ledger, name: str | None) -> ModelRow:
    """Return the record of the model that `name` means; without a name, of the one used last.

    Raises SettingsError where there is none.
    """
    models = ledger.models()
    if not models:
        raise SettingsError("no model has been edited here yet: run `kbsync apply` first")
    if name is None:
        return models[0]
    found = ledger.latest_model(model_name(name))
    if found is None:
        raise SettingsError(f"model {name} is not on record here; there are {_few([model.name for model in models])}")
    return found


def _check_on_record(ledger: Ledger, relation: str) -> None:
    relations = relations_on_record(ledger)
    if relation not in relations:
        near = get_close_matches(relation, relations, n=_SHOWN, cutoff=0.5) or relations
        told = f"there are facts of {_few(near)}" if near else "run `kbsync pull` first"
        raise SettingsError(f"no fact of {relation} is on record: {told}")


def _few(names: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(names))
    return ", ".join(distinct[:_SHOWN]) + (", ..." if len(distinct) > _SHOWN else "")
