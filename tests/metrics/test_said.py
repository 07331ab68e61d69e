"""What is said first: the rules, on awkward cases."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbsync.metrics.said import says_first, settled
from tests.fuzz import each

PROMPT = "The head of government of Albania is"


@pytest.mark.parametrize(
    "answer",
    [
        " Edi Rama",
        " Edi Rama, who ...",
        " the Edi Rama",
        "\n\n\u201cEdi  Rama\u201d.",
        "**edi rama** (born 1964)",
        "Edi Rama is a painter",
        "Edi Rama - a painter",
        "The head of government of Albania is Edi Rama.",
        "Albania's head of government is: Edi Rama",
    ],
)
def test_the_name_comes_first(answer: str) -> None:
    assert says_first(answer, ["Edi Rama"], PROMPT)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        " ...",
        "Rama",
        "Edi",
        "not Edi Rama",
        "possibly Edi Rama",
        "Sali Berisha and Edi Rama",
        "Edi Ramaj",
        "Edi Rama's wife",
        "Edi Rama\u2019s wife",
        "Edi Rama Hoxha",
        "Edi Rama-Hoxha",
        "The head of government of Albania is not Edi Rama",
    ],
)
def test_something_else_comes_first(answer: str) -> None:
    assert not says_first(answer, ["Edi Rama"], PROMPT)


def test_an_alias_is_the_object_too() -> None:
    assert says_first("Rama", ["Edi Rama", "Rama"], PROMPT)
    assert says_first("Rama, Edi", ["Edi Rama", "Rama"], PROMPT)
    assert not says_first("Rama", [], PROMPT)


def test_names_of_other_shapes() -> None:
    assert says_first("'s-Hertogenbosch, in Brabant", ["'s-Hertogenbosch"])
    assert says_first("St. Louis. It", ["St. Louis"])
    assert says_first("\u6771\u4eac\u3067\u3059", ["\u6771\u4eac"])  # no space behind it
    assert says_first("Bogota\u0301 is", ["Bogot\u00e1"])
    assert says_first("Paris in France", ["Paris"])
    assert not says_first("Paris Hilton", ["Paris"])
    assert not says_first("It is Edi Rama", ["Edi Rama"], PROMPT)  # "it" is no word of the prompt


WORDS = st.sampled_from(
    ["Edi", "Rama", "rama", "the", "is", "Albania", "not", "Hoxha", "'s", ",", "-", "Bogota\u0301", " ", "\n"]
)
SAYING = st.lists(WORDS, max_size=9).map(" ".join) | st.lists(WORDS, max_size=9).map("".join)


@each(5)
@given(SAYING, SAYING, st.lists(st.sampled_from(["Edi Rama", "Rama", "The Rama", "Bogot\u00e1", "Hoxha, not Rama"])))
def test_what_follows_a_settled_answer_does_not_matter(begun: str, more: str, names: list[str]) -> None:
    if settled(begun, PROMPT, max(map(len, names), default=0)):
        assert says_first(begun, names, PROMPT) == says_first(begun + more, names, PROMPT)


def test_an_answer_is_settled_a_few_letters_behind_the_room_for_the_name() -> None:
    assert not settled("Sali Be", PROMPT, 8)
    assert not settled("The head of government of Albania is the", PROMPT, 8)
    assert settled("Sali Berisha, who", PROMPT, 8)
