"""How many facts of each relation stand, and how many subjects are in conflict, counted by index."""

from dataclasses import dataclass

from kbsync.ledger.connection import telling
from kbsync.ledger.store import Ledger

__all__ = ["RelationCounts", "relation_counts"]


@dataclass(frozen=True, slots=True)
class RelationCounts:
    """Facts that stand, and subjects that have several objects among them."""

    facts: int
    conflicts: int


def relation_counts(ledger: Ledger) -> dict[str, RelationCounts]:
    """Return the counts of each relation that has facts which stand."""
    facts = "SELECT relation, count(*) FROM facts WHERE withdrawn IS NULL GROUP BY relation"
    conflicts = """SELECT relation, count(*) FROM (
        SELECT facts.relation, facts.subject_key FROM (
            SELECT relation, subject_key FROM facts WHERE withdrawn IS NULL
            GROUP BY relation, subject_key HAVING count(*) > 1
        ) AS shared CROSS JOIN facts ON facts.relation = shared.relation AND facts.subject_key = shared.subject_key
        WHERE facts.withdrawn IS NULL
        GROUP BY facts.relation, facts.subject_key HAVING count(DISTINCT facts.object_key) > 1
    ) GROUP BY relation"""
    with telling(ledger.path):
        contested = dict(ledger.db.execute(conflicts).fetchall())
        return {
            relation: RelationCounts(count, contested.get(relation, 0)) for relation, count in ledger.db.execute(facts)
        }
