"""`bench speed` on a small model: both sides find the same, and the figures are what they say."""

import json
import math
from collections.abc import Iterator

import pytest
import torch

from kbsync.benchmarks import bench as edits_module
from kbsync.benchmarks import speed
from kbsync.benchmarks.bench import Pool
from kbsync.benchmarks.speed import PHASES, Work, bench_scale, bench_speed, slope
from kbsync.cli.main import main
from kbsync.errors import SettingsError
from kbsync.memit import MemitSettings
from kbsync.metrics import counterfacts
from kbsync.models import LoadedModel
from tests.tiny_models import FACTS, TEXTS, left_as_found, random_model

SETTINGS = MemitSettings(layers=(0, 1), lambda_=2.0, steps=4, clamp_norm_factor=2.0, sweeps=2, covariance_tokens=600)


@pytest.fixture
def work(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    """Six edits of a random model, which `prepare` gives whatever it is asked for."""
    with left_as_found(random_model(tmp_path_factory.getbasetemp(), "gptj")) as loaded:
        edits = counterfacts(FACTS, 6)
        made = Work("tiny", loaded, SETTINGS, TEXTS, ("{}", "In 1987. {}"), Pool("tests", FACTS), edits, []).first(6)
        monkeypatch.setattr(speed, "prepare", lambda model, edits, progress, **drawn: made.first(edits))
        yield made


def test_both_sides_find_the_same(work: Work) -> None:
    told: list[str] = []
    bench = bench_speed("tiny", 6, threads=1, progress=lambda phase, done, total: told.append(phase))
    assert bench["edits"] == 6
    assert bench["model"] == "tiny"
    assert {"device": "cpu", "dtype": "float32", "threads": 1}.items() <= bench["machine"].items()
    assert bench["covariance_tokens"] == 600
    assert bench["agreement"]["z"] < 1e-3
    assert bench["agreement"]["covariance"] < 1e-4
    assert bench["agreement"]["delta"] < 1e-5
    assert bench["S"]["plain"] is not None
    assert bench["S"]["plain"] == bench["S"]["kbsync"]
    for side in (bench["plain"], bench["kbsync"]):
        assert tuple(side) == PHASES
        assert all(seconds > 0 for seconds in side.values())
    for phase, ratio in bench["ratio"].items():  # rounded seconds are short
        assert ratio == pytest.approx(bench["plain"][phase] / bench["kbsync"][phase], rel=0.2)
    for name, rate in bench["requests_per_second"].items():
        seconds = bench[name]
        assert rate == pytest.approx(6 / (seconds["targets"] + seconds["insertion"]), rel=0.05)
    assert {"plain targets", "targets", "plain covariance", "covariance", "plain insertion", "solve"} <= set(told)


def test_threads_are_afterwards_as_before(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "SCALE", (2, 3))
    before = torch.get_num_threads()
    bench = bench_scale("tiny", 3, threads=before + 1)
    assert bench["machine"]["threads"] == before + 1
    assert torch.get_num_threads() == before


def test_seconds_by_number_of_edits(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "SCALE", (2, 4, 6, 300))
    bench = bench_scale("tiny", 6)
    assert [row["edits"] for row in bench["scale"]] == [2, 4, 6]
    for row in bench["scale"]:
        assert row["total"] == pytest.approx(row["targets"] + row["insertion"], abs=0.002)
    assert bench["exponent"].keys() == {"targets", "insertion", "total"}


def test_one_number_of_edits_shows_no_growth() -> None:
    with pytest.raises(SettingsError, match="--scale with --edits 29: ask for 30 at least"):
        bench_scale("practice", 29)


def test_the_exponent_is_the_power() -> None:
    counts = [10, 30, 100]
    assert slope(counts, [0.5 * count**0.8 for count in counts]) == pytest.approx(0.8)
    assert math.isclose(slope(counts, [3.0] * 3), 0.0, abs_tol=1e-12)


def test_json_and_table(work: Work, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "speed", "--edits", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["edits"] == 2
    for key in ("plain", "kbsync", "ratio"):
        assert found[key].keys() == {"targets", "insertion", "covariance"}
    assert {"z", "delta"} <= found["agreement"].keys()
    for key in ("S", "requests_per_second", "peak_memory_mb"):
        assert found[key].keys() == {"plain", "kbsync"}
    assert main(["bench", "speed", "--edits", "2"]) == 0
    shown = capsys.readouterr().out
    assert "2 edits of tiny" in shown
    assert "covariance over 600 tokens; cpu, float32" in shown


def test_the_scale_is_shown(work: Work, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(speed, "SCALE", (2, 3))
    assert main(["bench", "speed", "--scale", "--edits", "3"]) == 0
    assert "growth: targets edits^" in capsys.readouterr().out


def test_more_edits_than_the_model_knows_facts_is_told(known: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edits_module, "practice_requests", lambda edition: list(FACTS))
    with pytest.raises(
        SettingsError, match=r"--edits 21 needs 21 edits, and the model knows enough facts of the fixtures for \d+: ask"
    ):
        bench_speed(known.source, 21)


def test_both_sides_write_edit_prompts_alone(known: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edits_module, "practice_requests", lambda edition: list(FACTS))
    values = {"layers": [0, 1], "wordings": 5, "stop_weight": 0.2, "steps": 7}
    settings = speed.prepare(known.source, 2, lambda *_: None, values=values).settings
    assert (settings.wordings, settings.stop_weight, settings.steps) == (0, 0.0, 7)
