"""Facts that are taken out again, both ways."""

from pathlib import Path

import pytest

from kbsync.editors import editor as make_editor
from kbsync.errors import SettingsError
from kbsync.ledger import Ledger
from kbsync.sync.arms import retracted
from kbsync.sync.evaluate import EvalOptions, run_eval
from kbsync.sync.home import templates_for
from kbsync.sync.known import requests_of
from kbsync.sync.model import Session, choose_model
from tests.homes import SWAPPED, Editable, deltas_of, make_home, small

__all__ = ["small"]


@pytest.fixture(scope="module")
def home(small: Editable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_home(
        tmp_path_factory.mktemp("reversal") / "home", P36={name: SWAPPED[name] for name in ("France", "Japan")}
    )
    small.apply(made, "--set", "steps=6")
    return made


def test_a_solve_without_them_is_the_base_and_a_counter_edit_is_not(small: Editable, home: Path) -> None:
    before = deltas_of(home)
    found = run_eval(home, small.name, EvalOptions(metrics=("ES",), corpus=small.corpus, withdraw=2))["reversal"]
    assert found is not None
    assert (found["withdrawn"], [*found["figures"]]) == (2, ["base", "edited", "retracted", "counter-edit"])
    base, edited, out, counter = found["figures"].values()
    assert out == base
    assert (out["kl_withdrawn"].mean, out["kept_withdrawn"].mean) == (0, 100)
    assert out["kl_withdrawn"].cases == 10  # each on the prompt and four paraphrases
    assert edited["kl_withdrawn"].mean > 0
    assert {one["choice_withdrawn"].cases for one in found["figures"].values()} == {2}
    assert counter["kl_withdrawn"].mean > 0
    assert {one["prompt"] for one in found["answers"]} == {"The capital of France is", "The capital of Japan is"}
    assert all(one["base"] == one["retracted"] for one in found["answers"])
    after = deltas_of(home)
    assert all(bool((after[layer] == before[layer]).all()) for layer in before)


def test_what_is_left_is_the_state_without_them(small: Editable, home: Path) -> None:
    values = dict(setting.split("=") for setting in (*small.settings, "steps=6"))
    choice = choose_model(small.name, values, home=home, corpus=small.corpus)
    with Ledger.open(home) as ledger:
        (model,) = ledger.models()
        requests = requests_of(ledger, templates_for(home), ledger.active_edits(model.key))
        work, editor = Session(ledger, templates_for(home), choice, model), make_editor("memit")
        assert retracted(work, editor, requests) == {}
        without = retracted(work, editor, requests[:1])
    assert without.keys() == deltas_of(home).keys()


def test_what_cannot_be_taken_out(small: Editable, home: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--withdraw is about the ledger's edits"):
        run_eval(home, small.name, EvalOptions(tmp_path / "set.json", withdraw=1))
