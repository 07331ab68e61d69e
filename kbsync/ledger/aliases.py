"""Aliases: the other names that sources give an entity. A model that says one of them has said the object."""

import json
from collections import defaultdict
from collections.abc import Collection, Mapping

from kbsync.ledger.connection import telling
from kbsync.ledger.store import Ledger

__all__ = ["aliases", "record_aliases"]


def aliases(ledger: Ledger, keys: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return the aliases of those of the entities (by `Entity.key`) that have some, of all sources, in their order."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    with telling(ledger.path):
        # Few homes have aliases, and a list of a million keys takes a while to be read.
        if ledger.db.execute("SELECT 1 FROM aliases LIMIT 1").fetchone() is None:
            return {}
        sql = """SELECT entity_key, alias FROM aliases WHERE entity_key IN (SELECT value FROM json_each(?))
            ORDER BY entity_key, alias"""
        for key, alias in ledger.db.execute(sql, [json.dumps(list(keys))]):
            found[key][alias] = None
    return {key: tuple(names) for key, names in found.items()}


def record_aliases(ledger: Ledger, source: str, read: Mapping[str, Collection[str]]) -> None:
    """Record what `source` now gives as aliases of each entity of `read`, in place of what it gave earlier."""
    with ledger.writing() as db:
        db.conn.executemany("DELETE FROM aliases WHERE source = ? AND entity_key = ?", [(source, key) for key in read])
        rows = [(source, key, alias) for key, names in read.items() for alias in dict.fromkeys(names)]
        db.conn.executemany("INSERT INTO aliases (source, entity_key, alias) VALUES (?, ?, ?)", rows)
