"""Data sets: each form read into one type, bad records told with their places, nothing read ahead."""

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from kbsync.datasets import Expected, Record, open_dataset
from kbsync.datasets.formats import KINDS, Placer
from kbsync.errors import DataSetError
from kbsync.facts import EditRequest
from kbsync.metrics.said import KINDS as RIPPLE_KINDS

COUNTERFACT: dict[str, Any] = {
    "case_id": 3,
    "requested_rewrite": {
        "prompt": "The mother tongue of {} is",
        "relation_id": "P103",
        "target_new": {"str": "English", "id": "Q1860"},
        "target_true": {"str": "French", "id": "Q150"},
        "subject": "Danielle Darrieux",
    },
    "paraphrase_prompts": ["Shayna goes home. Danielle Darrieux, a native", "Darrieux speaks"],
    "neighborhood_prompts": ["The native language of Montesquieu is", "Michel Rocard spoke the language "],
    "attribute_prompts": ["The mother tongue of Douglas Adams is"],
    "generation_prompts": ["Danielle Darrieux was born in"],
}
ZSRE: dict[str, Any] = {
    "subject": "Watts Humphrey",
    "src": "What university did Watts Humphrey attend?",
    "rephrase": "What university did Watts Humphrey take part in?",
    "alt": "University of Michigan",
    "answers": ["Illinois Institute of Technology"],
    "loc": "nq question: who played desmond doss father in hacksaw ridge",
    "loc_ans": "Hugo Weaving",
}
KNOWEDIT: dict[str, Any] = {
    "subject": "Leo Arons",
    "prompt": "The place of death of Leo Arons is",
    "target_new": "Berlin",
    "ground_truth": ["Bonn"],
    "portability": {"Reasoning": [{"prompt": "Leo Arons died in the country of", "ground_truth": [["Germany"]]}]},
    "locality": {
        "Relation_Specificity": [
            {"prompt": "The name of the father of Leo Arons is", "ground_truth": [["Barthold", "B. Arons"]]},
            {"prompt": "Of what there is no answer is", "ground_truth": []},
        ]
    },
}


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    """Write records, or a text, as a file."""

    def write(*records: object, text: str | None = None) -> Path:
        path = tmp_path / "set.json"
        path.write_text(json.dumps(records) if text is None else text, encoding="utf-8")
        return path

    return write


def test_counterfact(file: Callable[..., Path]) -> None:
    found = open_dataset(file(COUNTERFACT))
    assert found.format == "counterfact"
    request = EditRequest(
        "P103",
        "Danielle Darrieux",
        "The mother tongue of {} is",
        "English",
        ("Shayna goes home. {}, a native",),
    )
    near = ("The native language of Montesquieu is", "Michel Rocard spoke the language")
    assert list(found) == [
        Record(
            request,
            "French",
            tuple(Expected(prompt, "French") for prompt in near),
            ("The mother tongue of Douglas Adams is",),
            ("Danielle Darrieux was born in",),
        )
    ]
    assert found.unplaced == 1  # the paraphrase that has a part of the name alone


def test_zsre(file: Callable[..., Path]) -> None:
    found = open_dataset(file(ZSRE))
    assert found.format == "zsre"
    (record,) = found
    assert record.request == EditRequest(
        "zsRE",
        "Watts Humphrey",
        "What university did {} attend?",
        "Illinois Institute of Technology",
        ("What university did {} take part in?",),
    )
    assert record.old == ""
    assert record.neighbourhood == (
        Expected("nq question: who played desmond doss father in hacksaw ridge?", "Hugo Weaving"),
    )


def test_knowedit(file: Callable[..., Path]) -> None:
    found = open_dataset(file(KNOWEDIT))
    assert found.format == "knowedit"
    (record,) = found
    assert record.request == EditRequest("KnowEdit", "Leo Arons", "The place of death of {} is", "Berlin")
    assert record.old == "Bonn"
    assert record.neighbourhood == (Expected("The name of the father of Leo Arons is", "Barthold"),)
    assert record.portability == (Expected("Leo Arons died in the country of", "Germany"),)


@pytest.mark.parametrize("record", [ZSRE | {"subject": "Humphry"}, KNOWEDIT | {"subject": "Aron Leo"}])
def test_a_prompt_without_its_subject_is_left_out_and_counted(
    record: dict[str, Any], file: Callable[..., Path]
) -> None:
    good = ZSRE if "src" in record else KNOWEDIT
    found = open_dataset(file(record, good, record))
    assert len(list(found)) == 1
    assert found.unplaced == 2
    with pytest.raises(DataSetError, match="no prompt names its subject"):
        list(open_dataset(file(record)))


def rewrite(**changes: object) -> dict[str, Any]:
    return COUNTERFACT | {"requested_rewrite": COUNTERFACT["requested_rewrite"] | changes}


def test_all_bad_records_are_told_after_the_good_ones(file: Callable[..., Path]) -> None:
    path = file(
        COUNTERFACT,
        rewrite(prompt="no place"),
        rewrite(target_new={"id": "Q1"}),
        COUNTERFACT,
        7,
        rewrite(relation_id="P 1"),
        rewrite(subject=" "),
        COUNTERFACT | {"requested_rewrite": 1},
        COUNTERFACT | {"paraphrase_prompts": ["", "x"]},
    )
    seen: list[Record] = []
    with pytest.raises(DataSetError) as caught:
        seen.extend(open_dataset(path))
    assert len(seen) == 2
    told = str(caught.value).splitlines()
    assert [line.removeprefix(f"{path}: ").split(":")[0] for line in told] == [
        f"record {index}" for index in (1, 2, 4, 5, 6, 7, 8)
    ]
    assert told[0].endswith("`prompt` needs one {}, for the subject, and no other braces")
    assert told[1].endswith("`str` is missing")
    assert "'P 1' is not a relation id" in told[3]
    assert told[-1].endswith("`paraphrase_prompts` is not a list of texts")


def test_no_more_than_twenty_are_told(file: Callable[..., Path]) -> None:
    with pytest.raises(DataSetError) as caught:
        list(open_dataset(file(COUNTERFACT, *[7] * 50)))
    assert len(str(caught.value).splitlines()) == 21


@pytest.mark.parametrize("field", ["answers", "loc_ans", "src"])
def test_a_field_of_another_kind(field: str, file: Callable[..., Path]) -> None:
    with pytest.raises(DataSetError, match=f"record 1: `{field}`"):
        list(open_dataset(file(ZSRE, ZSRE | {field: {}})))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "it has no records"),
        ('{"a": 1}', "not a JSON array"),
        ("", "not JSON, or cut short"),
        ('[{"a": 1}]', "keys of no known format .mquake: new_answer, .*counterfact: requested_rewrite; zsre: loc"),
        ("[1]", "keys of no known format"),
    ],
)
def test_what_is_no_data_set(text: str, said: str, file: Callable[..., Path]) -> None:
    with pytest.raises(DataSetError, match=said):
        open_dataset(file(text=text))


def test_a_file_that_is_cut_short_gives_its_whole_records_first(file: Callable[..., Path]) -> None:
    text = "\ufeff" + json.dumps([COUNTERFACT] * 3)[:-30]
    found = open_dataset(file(text=text))
    assert len(list(islice(found, 2))) == 2
    with pytest.raises(DataSetError, match="cut short"):
        list(found)


def test_records_are_read_one_by_one(file: Callable[..., Path]) -> None:
    """What comes after the records asked for is not looked at: here it is no JSON."""
    path = file(text=json.dumps([COUNTERFACT] * 400)[:-1] + ", this is not JSON]")
    assert len(list(islice(open_dataset(path), 5))) == 5


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match=r"nosuch.json: cannot be read \(No such file"):
        open_dataset(tmp_path / "nosuch.json")


@pytest.mark.parametrize(
    ("prompt", "subject", "placed"),
    [
        ("Eve's sister Evelyn lives in", "Eve", "{}'s sister Evelyn lives in"),
        ("Eve is Eve, not Evelyn", "Eve", "Eve is {}, not Evelyn"),
        ("Evelyn lives in", "Eve", None),
        ("Neve and Eve-Marie", "Eve", "Neve and {}-Marie"),
        ("The crew of Apollo 11 and of Apollo 1 was", "Apollo 1", "The crew of Apollo 11 and of {} was"),
        ("Apollo 11 was", "Apollo 1", None),
        ("C++ was made by", "C++", "{} was made by"),
        ("Ecole\u0301 is", "Ecole", None),  # the accent belongs to its last letter
        ("フランスの首都は", "フランス", "{}の首都は"),
        ("法国的首都是", "法国", "{}的首都是"),
        ("เมืองหลวงของฝรั่งเศสคือ", "ฝรั่งเศส", "เมืองหลวงของ{}คือ"),
        ("프랑스의 수도는", "프랑스", "{}의 수도는"),
        ("aaa aa", "aa", "aaa {}"),
    ],
)
def test_the_place_of_a_subject_is_a_whole_word(prompt: str, subject: str, placed: str | None) -> None:
    placer = Placer()
    assert placer.place(prompt, subject) == placed
    assert placer.unplaced == (placed is None)


def query(prompt: str, *names: str) -> dict[str, Any]:
    return {"prompt": prompt, "answers": [{"value": names[0], "aliases": list(names[1:])}], "query_type": "regular"}


RIPPLEEDITS: dict[str, Any] = {
    "example_type": "popular",
    "edit": {
        "prompt": "The name of the country of citizenship of Leo Messi is Syria.",
        "relation": "COUNTRY_OF_CITIZENSHIP",
        "original_fact": {
            "prompt": "The name of the country of citizenship of Leo Messi is Argentina.",
            "relation": "COUNTRY_OF_CITIZENSHIP",
        },
    },
    "Relation_Specificity": [{"test_queries": [query("The gender of Leo Messi is", "male", "man")]}],
    "Compositionality_I": [
        {"test_queries": [query("The capital of the country of citizenship of Leo Messi is", "Damascus")]}
    ],
    "Forgetfulness": [{"test_queries": [{"prompt": "Nobody knows", "answers": []}]}],
}
MQUAKE: dict[str, Any] = {
    "case_id": 1,
    "requested_rewrite": [
        COUNTERFACT["requested_rewrite"] | {"question": "What is the mother tongue of Danielle Darrieux?"},
        {
            "prompt": "{} was created in the country of",
            "relation_id": "P495",
            "target_new": {"str": "Peru"},
            "target_true": {"str": "England"},
            "subject": "English",
            "question": "Where was it created?",
        },
    ],
    "questions": ["Where was the mother tongue of Danielle Darrieux created?"],
    "answer": "France",
    "new_answer": "Peru",
    "new_answer_alias": ["Republic of Peru"],
}


def test_rippleedits(file: Callable[..., Path]) -> None:
    found = open_dataset(file(RIPPLEEDITS))
    assert found.format == "rippleedits"
    (record,) = found
    prompt = "The name of the country of citizenship of {} is"
    assert record.request == EditRequest("P27", "Leo Messi", prompt, "Syria")
    assert record.old == "Argentina"
    assert record.ripples == (
        ("two_hops", Expected("The capital of the country of citizenship of Leo Messi is", "Damascus")),
        ("same_subject", Expected("The gender of Leo Messi is", "male", ("man",))),
    )


def test_mquake(file: Callable[..., Path]) -> None:
    found = open_dataset(file(MQUAKE))
    assert found.format == "mquake"
    first, second = found
    assert first.request.question == "What is the mother tongue of {}?"
    assert (first.request.target, first.old, second.request.target, second.old) == (
        *("English", "French"),
        *("Peru", "England"),
    )
    asked = Expected("Where was the mother tongue of Danielle Darrieux created?", "Peru", ("Republic of Peru",))
    assert (first.ripples, second.ripples) == ((("two_hops", asked),), ())
    assert second.request.question == ""  # it does not name the subject


def test_knowedits_questions_by_kind(file: Callable[..., Path]) -> None:
    (record,) = open_dataset(file(KNOWEDIT))
    assert record.ripples == (
        ("same_subject", Expected("The name of the father of Leo Arons is", "Barthold", ("B. Arons",))),
        ("two_hops", Expected("Leo Arons died in the country of", "Germany")),
    )


def test_every_kind_has_its_metric() -> None:
    assert {*KINDS.values()} <= RIPPLE_KINDS.keys()


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (RIPPLEEDITS | {"edit": {"prompt": "x is y.", "relation": "LIKES"}}, "the relation LIKES is not one"),
        (RIPPLEEDITS | {"edit": {"prompt": "x is y.", "relation": "CAPITAL"}}, "'x is y.' is not in the words"),
        (RIPPLEEDITS | {"Forgetfulness": ["x"]}, "`Forgetfulness` is not a list of objects"),
        (MQUAKE | {"requested_rewrite": []}, "`requested_rewrite` has no edit"),
        (MQUAKE | {"questions": [1]}, "`questions` is not a list of texts"),
    ],
)
def test_bad_questions(record: dict[str, Any], said: str, file: Callable[..., Path]) -> None:
    with pytest.raises(DataSetError, match=said):
        list(open_dataset(file(record)))
