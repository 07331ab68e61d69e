"""The facts' own wordings, as data sets give them."""

import json
from collections.abc import Collection

from kbsync.facts import Wording
from kbsync.ledger.connection import telling
from kbsync.ledger.reading import wording_from
from kbsync.ledger.store import Ledger

__all__ = ["own_wordings"]


def own_wordings(ledger: Ledger, facts: Collection[int]) -> dict[int, Wording]:
    """Return the wordings of those of `facts` (ids of rows) that have one of their own."""
    sql = "SELECT id, wording FROM facts WHERE wording IS NOT NULL AND id IN (SELECT value FROM json_each(?))"
    with telling(ledger.path):
        rows = ledger.db.execute(sql, [json.dumps(list(facts))]).fetchall()
    return {fact: wording_from(text) for fact, text in rows}
