"""The edited model is a function of the base model and the set of active facts, whatever the path that led there."""

from pathlib import Path

import pytest

from tests.homes import (
    COUNTRIES,
    TEMPLATES,
    Editable,
    deltas_of,
    difference,
    make_home,
    practice_model,
    pull,
)
from tests.tiny_models import CAPITALS

Facts = dict[str, dict[str, str]]

GROUPING = TEMPLATES + "".join(
    f"{relation}:\n  label: {relation}\n  prompt: '{{}} {words}'\n  paraphrases:\n"
    + "".join(f"    - 'Wording {letter} of what {{}} {words}'\n" for letter in "ABCD")
    + f"  question: What does {{}} {words}?\n"
    for relation, words in (("seat", "is governed from"), ("harbour", "ships its goods from"))
)
"""two relations whose prompts begin with the subject, so that facts of one subject share a key"""


LIMIT = 1e-4
"""the relative difference that two ways to one state may have"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Editable:
    """The practice model with a part of its corpus, and few steps."""
    return practice_model(tmp_path_factory.getbasetemp(), "steps=5", "sweeps=3")


def facts(count: int, **other: dict[str, str]) -> Facts:
    """The first facts of twenty: fourteen capitals, and three subjects with two relations each that share a key."""
    three = [(country, relation) for country in COUNTRIES[14:17] for relation in ("harbour", "seat")]
    every = [*((country, "P36") for country in COUNTRIES[:14]), *three]
    made: Facts = {}
    for place, (country, relation) in enumerate(every[:count]):
        made.setdefault(relation, {})[country] = [*CAPITALS.values()][(place + 3) % 20]
    for relation, more in other.items():
        made.setdefault(relation, {}).update(more)
    return made


def at_once(home: Path, model: Editable, wanted: Facts) -> Path:
    """A home that only ever had these facts."""
    make_home(home, GROUPING, **wanted)
    model.apply(home)
    return home


@pytest.fixture(scope="module")
def whole(model: Editable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All twenty facts in one apply."""
    return at_once(tmp_path_factory.mktemp("whole") / "home", model, facts(20))


def test_ten_applies_of_a_tenth_are_one_of_all(model: Editable, whole: Path, tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", GROUPING, **facts(2))
    for count in range(2, 22, 2):
        pull(home, **facts(count))
        applied = model.apply(home)
        assert (applied["batch"], applied["edits"]) == (count // 2, count)
    assert difference(deltas_of(home), deltas_of(whole)) < LIMIT


def test_a_withdrawn_fact_leaves_no_trace(model: Editable, whole: Path, tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", GROUPING, **facts(20, P36={"Saint Lucia": "Oslo"}, seat={"Kenya": "Riga"}))
    model.apply(home)
    assert difference(deltas_of(home), deltas_of(whole)) > 10 * LIMIT
    pull(home, **facts(20))
    applied = model.apply(home)
    assert applied["edits"] == 20
    assert difference(deltas_of(home), deltas_of(whole)) < LIMIT


def test_a_changed_fact_is_as_if_it_had_always_been_so(model: Editable, whole: Path, tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", GROUPING, **facts(20, P36={"France": "Vienna"}, seat={COUNTRIES[14]: "Accra"}))
    model.apply(home)
    assert difference(deltas_of(home), deltas_of(whole)) > 10 * LIMIT
    pull(home, **facts(20))
    assert model.apply(home)["edits"] == 20
    assert difference(deltas_of(home), deltas_of(whole)) < LIMIT
