"""Vetoes and aliases on record."""

from kbsync.ledger import Ledger
from kbsync.ledger.facts import aliases, lift_vetoes, record_aliases, record_vetoes, vetoes, withheld
from tests.ledger.helpers import dump, fact, pull


def test_a_veto_holds_for_any_object_or_for_one(ledger: Ledger) -> None:
    pull(ledger, fact("A", "x"), fact("A", "y"), fact("B", "x"))
    rows = {(row.subject_label, row.object_label): row for row in ledger.facts()}
    record_vetoes(ledger, [rows["A", "x"]], any_object=False, reason="wrong")
    (veto,) = vetoes(ledger)
    assert (veto.subject, veto.object, veto.reason, veto.lifted) == ("A", "x", "wrong", None)
    assert withheld(list(rows.values()), vetoes(ledger)) == {rows["A", "x"].id: veto}
    record_vetoes(ledger, [rows["A", "x"], rows["A", "y"]], any_object=True, reason=None)
    assert [veto.object for veto in vetoes(ledger)] == ["x", None]
    assert withheld(list(rows.values()), vetoes(ledger)).keys() == {rows["A", "x"].id, rows["A", "y"].id}
    before = dump(ledger)
    record_vetoes(ledger, [rows["A", "y"]], any_object=True, reason="again")
    assert dump(ledger) == before


def test_a_lifted_veto_stays_on_record_and_can_be_put_again(ledger: Ledger) -> None:
    pull(ledger, fact("A", "x"))
    facts = ledger.facts()
    record_vetoes(ledger, facts, any_object=True, reason=None)
    lift_vetoes(ledger, [veto.id for veto in vetoes(ledger)])
    assert vetoes(ledger) == []
    assert withheld(facts, vetoes(ledger)) == {}
    (veto,) = vetoes(ledger, lifted=True)
    assert veto.lifted is not None
    assert veto.lifted >= veto.since
    record_vetoes(ledger, facts, any_object=True, reason=None)
    assert len(vetoes(ledger)) == 1
    assert len(vetoes(ledger, lifted=True)) == 2


def test_aliases_are_each_sources_newest(ledger: Ledger) -> None:
    assert aliases(ledger, ["Q30"]) == {}
    record_aliases(ledger, "s", {"Q30": ["USA", "US", "USA"], "Q145": ["UK"]})
    record_aliases(ledger, "t", {"Q30": ["US", "America"]})
    assert aliases(ledger, ["Q30", "Q145", "Q1"]) == {"Q30": ("America", "US", "USA"), "Q145": ("UK",)}
    record_aliases(ledger, "s", {"Q30": []})
    assert aliases(ledger, ["Q30", "Q145"]) == {"Q30": ("America", "US"), "Q145": ("UK",)}
