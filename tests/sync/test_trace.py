"""A causal trace by the command line on the small model: what is traced, drawn and written."""

from pathlib import Path

import pytest
import yaml

from kbsync.errors import SettingsError
from kbsync.metrics.trace_batch import GROUPS
from kbsync.sync.calibrate import write_suggested
from kbsync.sync.model import choose_model
from tests.homes import SWAPPED, Editable, done, kbsync, make_home, snapshot
from tests.tiny_models import CAPITALS

KEYS = {
    *("model", "facts", "samples", "seed", "window", "clean", "corrupted"),
    *("effects", "severed", "gap", "layers", "suggested", "preset"),
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return make_home(tmp_path / "home", P36=CAPITALS)


def trace(home: Path, small: Editable, *more: object) -> tuple[object, ...]:
    return ("trace", "--home", home, *small.model, "--facts", 6, "--samples", 1, *more)


def test_what_it_finds_is_a_function_of_the_seed(home: Path, small: Editable, tmp_path: Path) -> None:
    before = snapshot(home)
    ran = done(*trace(home, small, "--json", "--plot", tmp_path / "plot.png"))
    found = ran.json
    assert found.keys() == KEYS
    assert found["facts"] == {"source": "ledger", "traced": 6}
    assert found["clean"]["mean"] > found["corrupted"]["mean"]
    assert found["effects"].keys() == {"state", "mlp", "attention"}
    for by_group in found["effects"].values():
        assert list(by_group) == [*GROUPS]
        assert all(len(effects) == 4 for effects in by_group.values())
    for state, severed, gap in zip(
        found["effects"]["state"]["last subject token"], found["severed"]["mlp"], found["gap"], strict=True
    ):
        assert gap["mean"] == pytest.approx(state["mean"] - severed["mean"], abs=1e-4)
        assert gap["low"] <= gap["mean"] <= gap["high"]
    assert "wrote" in ran.err
    assert (tmp_path / "plot.svg").exists()
    assert snapshot(home) == before
    assert done(*trace(home, small, "--json")).json == found
    assert done(*trace(home, small, "--json", "--seed", 1)).json["corrupted"] != found["corrupted"]


def test_the_suggested_layers_become_a_preset(home: Path, small: Editable) -> None:
    choice = choose_model(small.name)
    file = home / "presets" / "traced.yaml"
    with pytest.raises(SettingsError, match="no layers are suggested; trace more facts with --facts"):
        write_suggested(home, file, small.name, 100, choice, None)
    assert not file.exists()
    write_suggested(home, file, small.name, 100, choice, (1, 2))
    written = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert written["model"] == str(Path(small.name).resolve())
    assert written["settings"]["layers"] == [1, 2]
    assert done("plan", "--home", home, "--model", "traced", "--json").json["model"] == "traced"
    ran = kbsync(*trace(home, small, "--write-preset", "traced"))
    assert (ran.code, "exists already: choose another name for --write-preset" in ran.err) == (1, True)


def test_a_model_that_knows_nothing(small: Editable, tmp_path: Path) -> None:
    ran = kbsync(*trace(make_home(tmp_path / "home", P36=SWAPPED), small))
    assert ran.code == 1
    assert "knows none of the 20 facts of the ledger that it was asked" in ran.err
