"""Vetoes: facts that a user has taken out and that no apply writes, whatever the source says."""

from collections.abc import Collection, Sequence

from kbsync.ledger.connection import insert, now
from kbsync.ledger.rows import FactRow, VetoRow
from kbsync.ledger.store import Ledger

__all__ = ["lift_vetoes", "record_vetoes", "vetoes", "withheld"]


def vetoes(ledger: Ledger, *, lifted: bool = False) -> list[VetoRow]:
    """Return the vetoes that hold, oldest first; with `lifted`, also those that were lifted."""
    return ledger.select(VetoRow, "vetoes", f"{'' if lifted else 'WHERE lifted IS NULL'} ORDER BY id")


def withheld(facts: Collection[FactRow], held: Sequence[VetoRow]) -> dict[int, VetoRow]:
    """Return the facts that are under a veto, by id."""
    by_subject: dict[tuple[str, str], list[VetoRow]] = {}
    for veto in held:
        by_subject.setdefault((veto.relation, veto.subject_key), []).append(veto)
    return {
        fact.id: veto
        for fact in (facts if by_subject else ())
        for veto in by_subject.get((fact.relation, fact.subject_key), ())
        if veto.object_key in (None, fact.object_key)
    }


def record_vetoes(ledger: Ledger, facts: Collection[FactRow], *, any_object: bool, reason: str | None) -> None:
    """Put facts under a veto: their subjects for the relation, or (not `any_object`) their present objects alone.

    What is under the same veto already stays as it is.
    """
    with ledger.writing() as db:
        standing = {(veto.relation, veto.subject_key, veto.object_key) for veto in vetoes(ledger)}
        for fact in facts:
            key, label = (None, None) if any_object else (fact.object_key, fact.object_label)
            if (fact.relation, fact.subject_key, key) in standing:
                continue
            standing.add((fact.relation, fact.subject_key, key))
            about = {"relation": fact.relation, "subject_key": fact.subject_key, "subject": fact.subject_label}
            insert(db, "vetoes", {**about, "object_key": key, "object": label, "reason": reason, "since": now()})


def lift_vetoes(ledger: Ledger, ids: Collection[int]) -> None:
    """Lift vetoes that hold; they stay on record."""
    with ledger.writing() as db:
        db.conn.executemany("UPDATE vetoes SET lifted = ? WHERE id = ?", [(now(), veto) for veto in ids])
