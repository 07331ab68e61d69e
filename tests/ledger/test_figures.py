"""Figures added to a batch after its apply."""

from kbsync.ledger import Ledger, Metric
from kbsync.ledger.edits import record_figures
from tests.ledger.helpers import apply, fact, model, new_edit, pull


def test_they_stand_behind_those_of_the_apply(ledger: Ledger) -> None:
    key = model(ledger)
    pull(ledger, fact("A", "x"))
    batch = apply(ledger, key, added=[new_edit(ledger.facts()[0])], metrics=[Metric("ES", 0, 100)])
    record_figures(ledger, batch, [Metric("eval_ES", 1, 90), Metric("eval_NS", None, 80)])
    record_figures(ledger, batch, [Metric("eval_ES", 1, 95)])
    assert [(row.edit, row.name, row.before, row.after) for row in ledger.metrics(batch)] == [
        (None, "ES", 0, 100),
        (None, "eval_ES", 1, 90),
        (None, "eval_NS", None, 80),
        (None, "eval_ES", 1, 95),
    ]
