"""The doctor's findings: what loads, what fits, what does not work, and that nothing is written."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from kbsync.models import DeviceMemory
from kbsync.sync import doctor as module
from kbsync.sync.doctor import doctor
from tests.conftest import Run
from tests.homes import Editable

GB = 2**30


def problem(found: dict[str, Any]) -> str:
    (told,) = found["problems"]
    assert not found["works"]
    return str(told)


def test_a_model_that_works(small: Editable, run: Run, tmp_path: Path) -> None:
    before = list(tmp_path.iterdir())
    ran = run("doctor", *small.model, "--edits", "100", "--json")
    assert (ran.code, ran.err) == (0, "")
    found = ran.json
    assert (found["works"], found["problems"], found["edits"]) == (True, [], 100)
    loads = found["loads"]
    assert (loads["family"], loads["blocks"], loads["d"], loads["m"]) == ("GPT-J", 4, 64, 256)
    assert (loads["device"], loads["dtype"], loads["bos"], loads["chat_template"]) == ("cpu", "float32", None, False)
    assert "has no preset" in loads["remark"]
    assert [row["phase"] for row in found["memory"]] == ["covariance", "prefill", "targets", "solve"]
    assert all(row["fits"] and row["total_mb"] > 0 for row in found["memory"])
    assert found["seconds"].keys() == {"covariance", "targets", "solve"}
    assert all(value > 0 for value in found["seconds"].values())
    assert found["tokenizer"] == {"subjects": 50, "misplaced": []}
    assert found["devices"][-1]["name"] == "cpu"
    assert list(tmp_path.iterdir()) == before  # not even a home


def test_it_is_shown(small: Editable, run: Run) -> None:
    ran = run("doctor", *small.model, "--edits", "300")
    assert ran.code == 0
    for text in (
        "GPT-J (GPTJForCausalLM)",
        "memory for 300 edits",
        "time for 300 edits",
        "50 of 50 difficult subjects",
    ):
        assert text in ran.out
    assert "note: 300 edits are more than the 256 keys that a layer can distinguish" in ran.out
    assert "give apply --set sequence_length=256" in ran.out
    assert ran.out.rstrip().endswith("can be edited here")


def test_a_model_of_no_known_family(tmp_path: Path, run: Run) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    ran = run("doctor", "--model", tmp_path / "model")
    assert ran.code == 1
    assert "problem: model type 'bert' is not of a family that kbsync knows" in ran.out
    assert ran.out.rstrip().endswith("cannot be edited here as it is")


def test_a_model_that_is_not_there(run: Run) -> None:
    ran = run("doctor", "--model", "./nosuch", "--json")
    assert (ran.code, ran.json["works"], ran.json["loads"]) == (1, False, None)
    assert ran.json["problems"] == ["model directory ./nosuch does not exist"]


def machine(monkeypatch: pytest.MonkeyPatch, *free: int) -> None:
    """Let the CPU have so much memory free each time that it is asked, the last for good."""
    left = list(free)

    def listed() -> list[DeviceMemory]:
        return [DeviceMemory("cpu", "", 100 * GB, left.pop(0) if len(left) > 1 else left[0])]

    monkeypatch.setattr(module, "list_devices", listed)


def test_weights_that_do_not_fit_are_not_loaded(
    small: Editable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine(monkeypatch, 1000)
    found = doctor(tmp_path, small.name, 10)
    assert "GB of weights and cpu has 0.0 GB free: use a smaller --dtype" in problem(found)
    assert found["loads"] is None


def test_a_phase_without_room_is_named(small: Editable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine(monkeypatch, GB, 40 * 2**20)
    found = doctor(tmp_path, small.name, 1_000_000)
    assert {row["phase"]: row["fits"] for row in found["memory"]} == {
        "covariance": True,
        "prefill": True,
        "targets": True,
        "solve": False,
    }
    assert problem(found).startswith("the solve needs ")


def test_weights_that_are_not_numbers(small: Editable, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(small.name, tmp_path / "model"))
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.bias"][0] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    told = problem(doctor(tmp_path, str(folder), 10))
    assert "has weights that are NaN or infinite, such as lm_head.bias" in told


def test_a_tokenizer_that_misplaces_subjects(small: Editable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from kbsync.models import Misplaced

    monkeypatch.setattr(module, "misplaced_subjects", lambda _: [Misplaced("東京", "{} is", "because")] * 3)
    found = doctor(tmp_path, small.name, 10)
    assert "the last token of 1 of 50 difficult subjects is not found, such as '東京'" in problem(found)


def test_a_homes_preset_is_known(small: Editable, run: Run, tmp_path: Path) -> None:
    (tmp_path / ".kbsync" / "presets").mkdir(parents=True)
    preset = f"model: {small.name}\nsettings: {{layers: [2], contexts: 1}}\n"
    (tmp_path / ".kbsync" / "presets" / "own.yaml").write_text(preset)
    found = run("doctor", "--model", "own", "--json").json
    assert (found["model"], found["loads"]["layers"], found["loads"]["remark"]) == ("own", [2], None)
