"""Practice data sets: true to the facts, in the field's forms, and the same each time."""

from collections import Counter
from dataclasses import replace

from kbsync.facts import EditRequest
from kbsync.practice.datasets import counterfact_records, json_text, split, zsre_records

LANGUAGES = {"Ada": "French", "Bo": "French", "Cy": "French", "Di": "Dutch", "Ed": "Dutch", "Flo": "Basque"}
HOMES = {"Gus": "Rome", "Hal": "Rome", "Ida": "Bonn", "Jo": "Oslo", "Kim": "Oslo", "Lou": "Oslo"}


def facts(relation: str, verb: str, objects: dict[str, str]) -> list[EditRequest]:
    wordings = tuple(f"{adverb}, {{}} {verb}" for adverb in ("Today", "Often", "At times"))
    return [
        EditRequest(relation, subject, f"{{}} {verb}", target, wordings, f"What is it that {{}} {verb}?")
        for subject, target in objects.items()
    ]


KNOWN = [*facts("P103", "speaks", LANGUAGES), *facts("P551", "lives in", HOMES)]
OBJECT = {(fact.relation, fact.subject): fact.target for fact in KNOWN}


def test_half_of_an_objects_facts_stay_unedited() -> None:
    edited, kept = split(KNOWN, 100, 0)
    assert Counter(fact.target for fact in edited) == {
        "French": 1,
        "Dutch": 1,
        "Basque": 1,
        "Rome": 1,
        "Bonn": 1,
        "Oslo": 1,
    }
    assert {*edited, *kept} == {*KNOWN}
    with_neighbours = {fact.target for fact in split(KNOWN, 4, 0)[0]}
    assert with_neighbours == {"French", "Dutch", "Rome", "Oslo"}


def test_an_objects_only_fact_is_not_edited_where_each_edit_needs_a_neighbour() -> None:
    edited, kept = split(KNOWN, 100, 0, alone=False)
    assert Counter(fact.target for fact in edited) == {"French": 1, "Dutch": 1, "Rome": 1, "Oslo": 1}
    assert {*edited, *kept} == {*KNOWN}


def test_counterfact_records_are_true_but_for_the_new_object() -> None:
    records = counterfact_records(KNOWN, 100)
    edited = {(one["requested_rewrite"]["relation_id"], one["requested_rewrite"]["subject"]) for one in records}
    assert [one["case_id"] for one in records] == [*range(4)]
    for record in records:
        asked = record["requested_rewrite"]
        relation, subject, prompt = asked["relation_id"], asked["subject"], asked["prompt"]
        old, new = asked["target_true"]["str"], asked["target_new"]["str"]
        assert OBJECT[relation, subject] == old != new
        assert new in {thing for (other, _), thing in OBJECT.items() if other == relation}
        holders = {prompt.format(one): (one, thing) for (other, one), thing in OBJECT.items() if other == relation}
        near = [holders[text] for text in record["neighborhood_prompts"]]
        assert all(thing == old and (relation, one) not in edited for one, thing in near)
        assert near
        assert {holders[text][1] for text in record["attribute_prompts"]} == {new}
        texts = [*record["paraphrase_prompts"], *record["generation_prompts"]]
        assert {text.partition(". ")[2] or text for text in texts} == {
            text.format(subject) for text in next(fact for fact in KNOWN if fact.subject == subject).paraphrases
        }
        for text in record["paraphrase_prompts"]:
            aside = text.partition(". ")[0]
            assert ("speaks" in aside) == (relation == "P551")  # about another relation
            assert new not in aside


def test_zsre_records_ask_elsewhere_for_another_relation() -> None:
    records = zsre_records(KNOWN, 100)
    assert len(records) == 6
    subjects = {record["subject"] for record in records}
    for record in records:
        assert record["subject"] in record["src"]
        assert record["subject"] in record["rephrase"]
        assert record["answers"] != [record["alt"]]
        asked = record["loc"].removeprefix("nq question: What is it that ").split()[0]
        assert asked not in subjects
        assert record["loc_ans"] in (LANGUAGES | HOMES)[asked]
        assert ("speaks" in record["loc"]) != ("speaks" in record["src"])


def test_order_and_size() -> None:
    assert counterfact_records(KNOWN[::-1], 100) == counterfact_records(KNOWN, 100)
    assert counterfact_records(KNOWN, 100, seed=1) != counterfact_records(KNOWN, 100)
    assert len(counterfact_records(KNOWN, 3)) == len(zsre_records(KNOWN, 3)) == 3
    assert json_text([{"a": "é"}, {"a": 1}]) == '[\n{"a":"é"},\n{"a":1}\n]\n'


def test_a_relation_with_one_object_has_no_other() -> None:
    alike = [replace(fact, target="French") for fact in KNOWN[:6]]
    assert all(one["requested_rewrite"]["relation_id"] == "P551" for one in counterfact_records(alike + KNOWN[6:], 100))
