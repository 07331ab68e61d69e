"""Asking base and edited model."""

from pathlib import Path

import pytest

from kbsync.errors import LedgerError, SettingsError
from kbsync.models import load_model, top_answers
from kbsync.sync.answers import ask
from tests.homes import SWAPPED, Editable, deltas_of, make_home, snapshot
from tests.tiny_models import CAPITALS, set_to

PROMPT = "The capital of France is"


@pytest.fixture(scope="module")
def home(small: Editable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one edit."""
    made = make_home(tmp_path_factory.mktemp("ask") / "home", P36={"France": SWAPPED["France"], "Peru": "Lima"})
    small.apply(made)
    return made


def test_both_models_answer(small: Editable, home: Path) -> None:
    before = snapshot(home)
    asked, other = ask(home, small.name, [PROMPT + " \n", "The capital of Peru is"], count=3)
    assert asked["prompt"] == PROMPT
    assert (len(asked["base"]), asked["base"][0].text) == (3, CAPITALS["France"])
    assert asked["edited"] is not None
    assert asked["edited"] != asked["base"]
    assert (other["prompt"], other["base"][0].text) == ("The capital of Peru is", "Lima")
    loaded = load_model(small.name, device="cpu")
    weights = {layer: loaded.family.weight(loaded.model, layer) for layer in (1, 2)}
    deltas = deltas_of(home)
    with set_to(weights[1], weights[1] + deltas[1]), set_to(weights[2], weights[2] + deltas[2]):
        wanted = top_answers(loaded, PROMPT, 3)
    assert [answer.text for answer in asked["edited"]] == [answer.text for answer in wanted]
    assert [answer.probability for answer in asked["edited"]] == pytest.approx(
        [answer.probability for answer in wanted], abs=1e-5
    )
    assert snapshot(home) == before


def test_the_base_alone(small: Editable, home: Path, tmp_path: Path) -> None:
    (both,) = ask(home, small.name, [PROMPT])
    (base,) = ask(home, small.name, [PROMPT], base_only=True)
    assert (base["base"], base["edited"]) == (both["base"], None)
    with pytest.raises(LedgerError, match=r"no ledger in .*nohome: name another --home, or ask .* with --base"):
        ask(tmp_path / "nohome", small.name, [PROMPT])
    (without,) = ask(tmp_path / "nohome", small.name, [PROMPT], base_only=True)
    assert (without["base"], without["edited"]) == (both["base"], None)
    assert not (tmp_path / "nohome").exists()


def test_an_empty_prompt(small: Editable, home: Path) -> None:
    with pytest.raises(SettingsError, match="the prompt is empty: give the beginning of a sentence"):
        ask(home, small.name, [PROMPT, "  "])
