"""The facts that stand, at a glance: how many there are, and which of them need to be looked at one by one.

A ledger may hold a million facts of which a few thousand are edited, contested or under a veto. These are found by
indexes, in temporary tables of the connection; the others are only counted.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property

from kbsync.facts import normalise_label
from kbsync.ledger.connection import telling
from kbsync.ledger.rows import FactRow
from kbsync.ledger.store import Ledger

__all__ = ["Standing"]


class Standing:
    """The facts that are not withdrawn, of `relations` (None: all); those `involved` are told from the rest."""

    def __init__(self, ledger: Ledger, relations: Collection[str] | None) -> None:
        self._ledger = ledger
        self._which = "facts.withdrawn IS NULL"
        if relations is not None:
            wanted = json.dumps(sorted(relations)).replace("'", "''")
            self._which += f" AND facts.relation IN (SELECT value FROM json_each('{wanted}'))"
        self._run("CREATE TEMP TABLE IF NOT EXISTS involved (id INTEGER PRIMARY KEY)")
        self._run("DELETE FROM temp.involved")

    def involve_shared(self) -> None:
        """Involve the facts that share subject and relation, or relation and (normalised) label, with another one."""
        for column in ("subject_key", "subject_name"):
            self._run(
                f"""INSERT OR IGNORE INTO temp.involved SELECT facts.id FROM
                (SELECT relation, {column} FROM facts WHERE {self._which}
                    GROUP BY relation, {column} HAVING count(*) > 1) AS shared
                CROSS JOIN facts ON facts.relation = shared.relation AND facts.{column} = shared.{column}
                WHERE facts.withdrawn IS NULL"""
            )

    def involve_edited(self, model: str) -> None:
        """Involve the facts of which the model has an active edit."""
        self._involve("edits", "model = ? AND state = 'active'", model)

    def involve_vetoed(self) -> None:
        """Involve the facts whose subject is under a veto."""
        self._involve("vetoes", "lifted IS NULL")

    def involve_worded(self) -> list[str]:
        """Involve the facts with a wording of their own; return their whole prompts."""
        worded = f"{self._which} AND facts.wording IS NOT NULL"
        self._run(f"INSERT OR IGNORE INTO temp.involved SELECT facts.id FROM facts WHERE {worded}")
        found = self._rows(f"SELECT facts.wording ->> 'prompt', facts.subject_label FROM facts WHERE {worded}")
        return [prompt.format(subject) for prompt, subject in found]

    def involve_named(self, named: Collection[tuple[str, str]]) -> None:
        """Involve the facts of these relations and subject labels; letter case and spaces do not matter."""
        pairs = [(relation, normalise_label(label)) for relation, label in named]
        self._run(
            f"""INSERT OR IGNORE INTO temp.involved SELECT facts.id FROM json_each(?) AS named CROSS JOIN facts
            ON facts.relation = named.value ->> 0 AND facts.subject_name = named.value ->> 1 WHERE {self._which}""",
            json.dumps(pairs),
        )

    def _involve(self, table: str, where: str, *values: object) -> None:
        self._run(
            f"""INSERT OR IGNORE INTO temp.involved SELECT facts.id FROM
            (SELECT relation, subject_key FROM {table} WHERE {where}) AS other
            CROSS JOIN facts ON facts.relation = other.relation AND facts.subject_key = other.subject_key
            WHERE {self._which}""",
            *values,
        )

    def involved(self) -> list[FactRow]:
        """Return the facts that are involved, oldest first."""
        return self._ledger.select(FactRow, "facts", "WHERE id IN temp.involved ORDER BY id")

    def relations(self) -> list[str]:
        """Return the relations of which facts stand, in order."""
        return list(self._all)

    def others(self) -> dict[str, int]:
        """Return how many facts that are not involved each relation has."""
        involved = self._counts("AND facts.id IN temp.involved") if self._any() else {}
        return {one: count - involved.get(one, 0) for one, count in self._all.items()}

    def first_others(self, relation: str, limit: int) -> list[FactRow]:
        """Return the first facts of a relation, by subject label, that are not involved."""
        return self._ledger.select(
            FactRow,
            "facts",
            """WHERE relation = ? AND withdrawn IS NULL AND id NOT IN temp.involved
            ORDER BY subject_label, id LIMIT ?""",
            relation,
            limit,
        )

    def each_other(self, relation: str) -> Iterator[tuple[str, str]]:
        """Yield (subject label, object label) of all those facts, in the same order, one by one."""
        sql = """SELECT subject_label, object_label FROM facts WHERE relation = ? AND withdrawn IS NULL
            AND id NOT IN temp.involved ORDER BY subject_label, id"""
        with telling(self._ledger.path):
            yield from self._ledger.db.execute(sql, [relation])

    def names_between(self, relation: str, prefix: str, suffix: str) -> list[str]:
        """Return the normalised subject labels of a relation that begin and end so."""
        sql = f"""SELECT DISTINCT subject_name FROM facts WHERE {self._which} AND relation = ? AND subject_name >= ?
            AND subject_name < ? AND length(subject_name) >= ?
            AND substr(subject_name, length(subject_name) + 1 - ?) = ?"""
        values = (relation, prefix, prefix + "\U0010ffff", len(prefix) + len(suffix), len(suffix), suffix)
        return [row[0] for row in self._rows(sql, *values)]

    def _any(self) -> bool:
        return bool(self._rows("SELECT 1 FROM temp.involved LIMIT 1"))

    @cached_property
    def _all(self) -> dict[str, int]:
        return self._counts("")

    def _counts(self, more: str) -> dict[str, int]:
        sql = f"SELECT relation, count(*) FROM facts WHERE {self._which} {more} GROUP BY relation ORDER BY relation"
        return {str(relation): int(count) for relation, count in self._rows(sql)}

    def _rows(self, sql: str, *values: object) -> Sequence[tuple[str, ...]]:
        with telling(self._ledger.path):
            return self._ledger.db.execute(sql, values).fetchall()

    def _run(self, sql: str, *values: object) -> None:
        with telling(self._ledger.path):
            self._ledger.db.execute(sql, values)
