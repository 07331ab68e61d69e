"""The edited model is a function of the base model and the set of active facts, whatever the path that led there."""

from pathlib import Path

import pytest

from tests.homes import COUNTRIES, TEMPLATES, Editable, active, deltas_of, difference, make_home, practice_model, pull
from tests.tiny_models import CAPITALS

Facts = dict[str, dict[str, str]]
WRONG = {"France": "Vienna", "Saint Lucia": "Oslo"}

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
    return practice_model(tmp_path_factory.getbasetemp(), "steps=3", "sweeps=2", "contexts=1", "wordings=2")


def facts(count: int, **other: dict[str, str]) -> Facts:
    """The first facts of twenty: three subjects with two relations each that share a key, and fourteen capitals."""
    three = [(country, relation) for country in COUNTRIES[14:17] for relation in ("harbour", "seat")]
    every = [*three, *((country, "P36") for country in COUNTRIES[:14])]
    made: Facts = {}
    for place, (country, relation) in enumerate(every[:count]):
        made.setdefault(relation, {})[country] = [*CAPITALS.values()][(place + 3) % 20]
    for relation, more in other.items():
        made.setdefault(relation, {}).update(more)
    return made


def test_facts_changed_and_withdrawn_leave_no_trace(model: Editable, tmp_path: Path) -> None:
    """Five facts that stay, two that change and two that go, and one that comes: as one apply of the last eight."""
    home = make_home(tmp_path / "home", GROUPING, **facts(7, P36=WRONG, seat={COUNTRIES[14]: "Accra", "Kenya": "Riga"}))
    model.apply(home)
    assert active(home)["France"].object == "Vienna"
    pull(home, **facts(8))
    assert model.apply(home)["edits"] == 8
    fresh = make_home(tmp_path / "fresh", GROUPING, **facts(8))
    model.apply(fresh)
    assert difference(deltas_of(home), deltas_of(fresh)) < LIMIT
