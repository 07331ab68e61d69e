"""Looking facts up by a subject's name: its label, its id, or an alias."""

from kbsync.facts import normalise_label
from kbsync.ledger.connection import telling
from kbsync.ledger.rows import FactRow
from kbsync.ledger.store import Ledger

__all__ = ["facts_named", "relations_on_record", "subject_labels"]


def facts_named(ledger: Ledger, name: str, relation: str | None = None) -> list[FactRow]:
    """Return the facts, withdrawn ones too, whose subject has this label, id or else alias; none where none has.

    Letter case and spaces do not matter. `relation` None means every relation.
    """
    labelled = "subject_id = ?1 OR subject_key = ?2 OR subject_label = ?1 COLLATE NOCASE"
    aliased = "subject_key IN (SELECT entity_key FROM aliases WHERE alias = ?1 COLLATE NOCASE)"
    words = (" ".join(name.split()), normalise_label(name), relation)
    for which in (labelled, aliased):
        found = ledger.select(
            FactRow, "facts", f"WHERE relation = ifnull(?3, relation) AND ({which}) ORDER BY id", *words
        )
        if found:
            return found
    # NOCASE folds A to Z alone; what it leaves is rare, and takes a look at every label.
    every = ledger.facts(None if relation is None else [relation])
    return [row for row in every if normalise_label(row.subject_label) == words[1]]


def relations_on_record(ledger: Ledger) -> list[str]:
    """Return the relations of which there are facts, withdrawn ones too."""
    with telling(ledger.path):
        return [row[0] for row in ledger.db.execute("SELECT DISTINCT relation FROM facts ORDER BY relation")]


def subject_labels(ledger: Ledger, relation: str | None) -> list[str]:
    """Return the labels of the subjects of a relation, or of all (None)."""
    sql = "SELECT DISTINCT subject_label FROM facts WHERE relation = ifnull(?, relation) ORDER BY subject_label"
    with telling(ledger.path):
        return [row[0] for row in ledger.db.execute(sql, [relation])]
