"""Counterfactual requests: another object of the relation, the same each time."""

from dataclasses import replace

from kbsync.facts import EditRequest
from kbsync.metrics.metric import cases, counterfacts
from tests.tiny_models import CAPITALS, FACTS


def test_each_has_another_object_of_its_relation() -> None:
    found = counterfacts(FACTS, 12)
    assert len(found) == 12
    assert len({edit.request.subject for edit in found}) == 12
    for edit in found:
        assert edit.old == CAPITALS[edit.request.subject] != edit.request.target
        assert edit.request.target in CAPITALS.values()
        assert edit.request.paraphrases == FACTS[0].paraphrases


def test_fewer_are_the_first_of_more_and_the_seed_decides() -> None:
    assert counterfacts(FACTS, 5) == counterfacts(FACTS[::-1], 20)[:5]
    assert counterfacts(FACTS, 5, seed=1) != counterfacts(FACTS, 5)
    assert len(counterfacts(FACTS, 1000)) == len(FACTS)


def test_a_relation_with_one_object_has_none() -> None:
    alone = EditRequest("P1", "Ada", "{} works for", "Acme")
    assert counterfacts([alone, replace(alone, subject="Bob")], 2) == []


def test_neighbours_are_known_facts_of_unedited_subjects_the_old_object_first() -> None:
    twin = replace(FACTS[0], subject="Gaul")
    known = [*FACTS, twin]
    edits = [edit for edit in counterfacts(known, 1000) if edit.request.subject == "France"]
    (case,) = cases(edits, known)
    assert case.old == "Paris"
    assert case.neighbours[0].subject == "Gaul"
    assert len(case.neighbours) == 5
    assert all(near.subject != "France" and near.object != case.request.target for near in case.neighbours)
