"""A pull compares sets of objects for each subject; it is recorded whole or not at all."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from kbsync.facts import Entity, Fact, Skipped
from kbsync.ledger import Change, Ledger
from kbsync.ledger.pulls import NewPull, changes, record_pull, skipped_about, skipped_counts
from tests.ledger.helpers import STARTED, counts, dump, fact, pull

# name: (first pull, second pull, new changed withdrawn unchanged conflicting, what is current after it)
CASES: dict[str, tuple[list[str], list[str], tuple[int, int, int, int, int], list[str]]] = {
    "nothing": ([], [], (0, 0, 0, 0, 0), []),
    "new": ([], ["A x"], (1, 0, 0, 0, 0), ["A x"]),
    "unchanged": (["A x"], ["A x"], (0, 0, 0, 1, 0), ["A x"]),
    "given twice": (["A x"], ["A x", "A x"], (0, 0, 0, 1, 0), ["A x"]),
    "changed": (["A x"], ["A y"], (0, 1, 0, 0, 0), ["A y"]),
    "withdrawn": (["A x", "B x"], ["B x"], (0, 0, 1, 1, 0), ["B x"]),
    "moved to another subject": (["A x"], ["B x"], (1, 0, 1, 0, 0), ["B x"]),
    "a second object": (["A x"], ["A x", "A y"], (1, 0, 0, 1, 1), ["A x", "A y"]),
    "one object less": (["A x", "A y"], ["A y"], (0, 0, 1, 1, 0), ["A y"]),
    "one of two changed": (["A x", "A y"], ["A x", "A z"], (0, 1, 0, 1, 1), ["A x", "A z"]),
    "both changed": (["A x", "A y"], ["A z", "A w"], (0, 2, 0, 0, 1), ["A z", "A w"]),
    "one changed, one more": (["A x"], ["A y", "A z"], (1, 1, 0, 0, 1), ["A y", "A z"]),
    "one changed, one less": (["A x", "A y"], ["A z"], (0, 1, 1, 0, 0), ["A z"]),
    "order of reading": (["A x", "A y"], ["A y", "A x"], (0, 0, 0, 2, 1), ["A x", "A y"]),
    "case of a bare label": (["A x"], ["a X"], (0, 0, 0, 0, 0), ["a X"]),
    "label of an id": (["Q1/A Q2/x"], ["Q1/AA Q2/xx"], (0, 0, 0, 0, 0), ["AA xx"]),
    "same labels, another id": (["Q1/A Q2/x"], ["Q1/A Q3/x"], (0, 1, 0, 0, 0), ["A x"]),
}


def facts_of(texts: list[str]) -> list[Fact]:
    return [fact(*text.split(" ")) for text in texts]


def current(ledger: Ledger) -> list[str]:
    return [f"{row.subject_label} {row.object_label}" for row in ledger.facts(withdrawn=False)]


@pytest.mark.parametrize(("first", "second", "expected", "after"), CASES.values(), ids=CASES.keys())
def test_second_pull(
    ledger: Ledger, first: list[str], second: list[str], expected: tuple[int, ...], after: list[str]
) -> None:
    pull(ledger, *facts_of(first))
    result = pull(ledger, *facts_of(second))
    assert counts(result) == expected
    assert sorted(current(ledger)) == sorted(after)
    row = ledger.pulls()[-1]
    assert (row.new, row.changed, row.withdrawn, row.unchanged, row.conflicting) == expected
    signs = {"+": expected[0], "~": expected[1], "-": expected[2], "=": result.relabelled}
    made = [change.sign for change in changes(ledger, result.pull)]
    assert made == [sign for sign, count in signs.items() for _ in range(count)]
    again = pull(ledger, *facts_of(second))
    assert counts(again) == (0, 0, 0, len(after), expected[4])


def test_first_and_last_seen_and_the_changes(ledger: Ledger) -> None:
    one = pull(ledger, fact("A", "x", since="2019"), fact("B", "x"), fact("C", "x")).pull
    result = pull(ledger, fact("A", "y", since="2024", rank="preferred"), fact("B", "x"), fact("D", "z"))
    assert set(changes(ledger, result.pull)) == {
        Change("+", "D", "P36", None, "z"),
        Change("~", "A", "P36", "x", "y"),
        Change("-", "C", "P36", "x", None),
    }
    rows = {row.subject_label: row for row in ledger.facts()}
    seen = {label: (row.first_seen, row.last_seen, row.withdrawn) for label, row in rows.items()}
    two = result.pull
    assert seen == {"A": (one, two, None), "B": (one, two, None), "C": (one, one, two), "D": (two, two, None)}
    assert rows["A"].fact == fact("A", "y", since="2024", rank="preferred")


def test_the_pull_is_recorded_with_its_query_and_times(ledger: Ledger) -> None:
    pull(ledger, fact("A", "x"), source="wikidata")
    (row,) = ledger.pulls()
    assert (row.source, row.relation, row.query) == ("wikidata", "P36", "SELECT")
    assert row.started == "2025-06-01T12:00:00.000+00:00"
    assert row.finished > row.started


def test_another_label_of_the_same_object_is_no_change_and_the_old_one_is_kept(ledger: Ledger) -> None:
    pull(ledger, fact("Q1/A", "Q2/x"), fact("Q3/B", "Q2/x"))
    result = pull(ledger, fact("Q1/A", "Q2/xx"), fact("Q3/BB", "Q2/x"))
    assert (*counts(result), result.relabelled, ledger.pulls()[-1].relabelled) == (0, 0, 0, 0, 0, 2, 2)
    past = [entry for row in ledger.facts() for entry in ledger.history(row.id)]
    assert [(entry.ended, entry.subject_label, entry.object_label) for entry in past] == [
        ("relabelled", "A", "x"),
        ("relabelled", "B", "x"),
    ]


def test_what_was_left_out_is_kept_as_long_as_it_is_left_out(ledger: Ledger) -> None:
    def read(*skipped: Skipped) -> int:
        return record_pull(ledger, NewPull("s", "P36", STARTED, skipped=skipped), []).pull

    nameless = Skipped("Q1", "A", "Q9", "object without a label (en)")
    first = read(nameless, Skipped("Q2", "", "1889", "date in place of an entity"))
    second = read(nameless)
    found = {name: skipped_about(ledger, name, "P36") for name in ("a", "Q1", "Q2", "B")}
    rows = {name: [(row.object, row.first_seen, row.last_seen) for row in rows] for name, rows in found.items()}
    assert rows == {
        "a": [("Q9", first, second)],
        "Q1": [("Q9", first, second)],
        "Q2": [("1889", first, first)],
        "B": [],
    }
    assert skipped_counts(ledger) == [("P36", nameless.reason, 1)]


def test_history_keeps_every_earlier_object(ledger: Ledger) -> None:
    pulls = [pull(ledger, fact("A", object_)).pull for object_ in ("Q1/x", "Q2/y", "Q1/x", "Q3/z")]
    (row,) = ledger.facts()
    past = ledger.history(row.id)
    assert [(entry.object_id, entry.object_label, entry.ended, entry.ended_by) for entry in past] == [
        ("Q1", "x", "changed", pulls[1]),
        ("Q2", "y", "changed", pulls[2]),
        ("Q1", "x", "changed", pulls[3]),
    ]
    assert ledger.history(row.id + 1) == []


def test_a_withdrawn_fact_that_comes_back_is_new_in_the_same_row(ledger: Ledger) -> None:
    first = pull(ledger, fact("A", "x")).pull
    withdrawn = pull(ledger).pull
    assert [row.withdrawn for row in ledger.facts(withdrawn=True)] == [withdrawn]
    assert counts(pull(ledger)) == (0, 0, 0, 0, 0)  # it is withdrawn once
    back = pull(ledger, fact("A", "x"))
    assert counts(back) == (1, 0, 0, 0, 0)
    (row,) = ledger.facts()
    assert (row.first_seen, row.last_seen, row.withdrawn) == (first, back.pull, None)
    assert [(entry.ended, entry.ended_by) for entry in ledger.history(row.id)] == [("withdrawn", withdrawn)]


def test_a_change_to_an_object_that_was_withdrawn_once(ledger: Ledger) -> None:
    pull(ledger, fact("A", "x"), fact("A", "y"))
    pull(ledger, fact("A", "x"))
    assert counts(pull(ledger, fact("A", "y"))) == (0, 1, 0, 0, 0)
    assert current(ledger) == ["A y"]
    assert counts(pull(ledger)) == (0, 0, 1, 0, 0)
    assert counts(pull(ledger, fact("A", "y"))) == (1, 0, 0, 0, 0)


# withdraw: what of A (Q1), b (bare), C (Q3) is withdrawn when nothing is read
WITHDRAW: dict[str, tuple[Any, set[str]]] = {
    "all": ("all", {"Ann", "Bob", "Cy"}),
    "none": ("none", set()),
    "by id": (frozenset({"Q1"}), {"Ann"}),
    "by label": (frozenset({"bob", "cy"}), {"Bob", "Cy"}),
    "nobody": (frozenset(), set()),
}


@pytest.mark.parametrize(("withdraw", "gone"), WITHDRAW.values(), ids=WITHDRAW.keys())
def test_only_what_was_asked_for_is_withdrawn(ledger: Ledger, withdraw: Any, gone: set[str]) -> None:
    pull(ledger, fact("Q1/Ann", "x"), fact("Bob", "x"), fact("Q3/Cy", "x"))
    result = pull(ledger, withdraw=withdraw)
    assert {row.subject_label for row in ledger.facts(withdrawn=True)} == gone
    assert counts(result) == (0, 0, len(gone), 0, 0)


def test_a_subject_that_was_read_was_read_whole(ledger: Ledger) -> None:
    pull(ledger, fact("A", "x"), fact("A", "y"), fact("B", "x"))
    assert counts(pull(ledger, fact("A", "y"), withdraw="none")) == (0, 0, 1, 1, 0)
    assert sorted(current(ledger)) == ["A y", "B x"]


def test_other_sources_and_relations_are_left_alone(ledger: Ledger) -> None:
    pull(ledger, fact("A", "x"), source="one")
    pull(ledger, fact("A", "x", "P6"), relation="P6", source="two")
    pull(ledger, fact("A", "z"), source="two")
    assert counts(pull(ledger, source="two")) == (0, 0, 1, 0, 0)
    assert [(row.source, row.relation) for row in ledger.facts(withdrawn=False)] == [("one", "P36"), ("two", "P6")]
    assert [row.relation for row in ledger.facts(relations=["P6"])] == ["P6"]
    assert ledger.facts(relations=[]) == []


def test_conflicts_are_recorded_with_their_objects(ledger: Ledger) -> None:
    one = pull(ledger, fact("Q1/A", "Q2/x"), fact("Q1/A", "y"), fact("B", "x")).pull
    two = pull(ledger, fact("Q1/A", "Q2/x"), fact("B", "x")).pull
    (conflict,) = ledger.conflicts()
    assert (conflict.pull, conflict.batch, conflict.resolution) == (one, None, "kept out")
    assert (conflict.relation, conflict.subject_key, conflict.subject) == ("P36", "Q1", "A")
    assert conflict.objects == (Entity("x", "Q2"), Entity("y"))
    assert ledger.conflicts(pull=one) == [conflict]
    assert ledger.conflicts(pull=two) == []


def test_a_pull_that_fails_half_way_leaves_nothing(ledger: Ledger) -> None:
    pull(ledger, fact("A", "x"), fact("B", "x"))
    ledger.db.execute(
        """CREATE TEMP TRIGGER cut BEFORE INSERT ON facts WHEN NEW.subject_label = 'Z'
        BEGIN SELECT RAISE(ABORT, 'cut'); END"""
    )
    before = dump(ledger)
    with pytest.raises(sqlite3.IntegrityError, match="cut"):
        pull(ledger, fact("A", "y"), fact("C", "x"), fact("C", "y"), fact("Z", "x"))
    assert dump(ledger) == before


def test_a_fact_of_another_relation_is_refused(ledger: Ledger) -> None:
    before = dump(ledger)
    with pytest.raises(ValueError, match="pull of P36 was given a fact of P6"):
        pull(ledger, fact("A", "x"), fact("A", "x", "P6"))
    assert dump(ledger) == before


def test_several_pulls_together_or_not_at_all(home: Path, ledger: Ledger) -> None:
    def both() -> None:
        with ledger.writing():
            pull(ledger, fact("A", "x"))
            pull(ledger, fact("A", "x", "P6"), relation="P17")

    with pytest.raises(ValueError, match="given a fact of P6"):
        both()
    with Ledger.open(home) as other:
        assert other.pulls() == []
        assert other.facts() == []


def test_ten_thousand_facts(ledger: Ledger) -> None:
    many = [Fact(Entity(f"S{n}", f"Q{n}"), "P36", Entity(f"o{n}", f"Q{n + 20_000}")) for n in range(10_000)]
    later = [*many[2_000:], *(fact(f"Q{n}/S{n}", "Q9/new") for n in range(1_000))]

    assert counts(pull(ledger, *many)) == (10_000, 0, 0, 0, 0)
    assert counts(pull(ledger, *later)) == (0, 1_000, 1_000, 8_000, 0)
    assert counts(pull(ledger, *later)) == (0, 0, 0, 9_000, 0)
    assert len(ledger.facts()) == 10_000
