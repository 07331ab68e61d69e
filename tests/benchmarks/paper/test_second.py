"""The second process of a run: it measures what one process would, and its loss costs nothing but time."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kbsync.benchmarks.paper.bench import PaperBench
from kbsync.benchmarks.paper.options import PaperOptions
from kbsync.benchmarks.paper.run import PaperRun, bench_paper
from kbsync.benchmarks.paper.second import Job, SecondProcess
from kbsync.benchmarks.paper.units import Units
from tests.benchmarks.paper.conftest import write_data
from tests.homes import SMALL_SETTINGS, Editable, small

__all__ = ["small"]

VALUES = dict(one.split("=") for one in SMALL_SETTINGS)
FOUND = "units.second.jsonl"


@pytest.fixture
def two_threads() -> Iterator[None]:
    """There is a second process where there are two threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def asked(tmp_path: Path, small: Editable) -> PaperOptions:
    """Two experiments that compare editors, one that does not, and one that measures time."""
    return PaperOptions(
        experiments=("zsre", "categories", "lambda", "time"),
        editors=("memit", "rome", "none"),
        data=write_data(tmp_path),
        folder=tmp_path / "out",
        edits=4,
        quick=True,
        values=VALUES,
        corpus=small.corpus,
    )


def rows(run: PaperRun) -> dict[str, object]:
    """Return every row that is not a time."""
    return {name: done.result.rows for name, done in run.experiments.items() if name != "time"}


def test_two_processes_measure_what_one_does(
    small: Editable, asked: PaperOptions, tmp_path: Path, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    taken: set[str] = set()
    take = Units.take

    def noted(self: Units, file: Path) -> None:
        if file.exists():
            taken.update(json.loads(line)["about"]["editor"] for line in file.read_text(encoding="utf-8").splitlines())
        take(self, file)

    monkeypatch.setattr(Units, "take", noted)
    both = bench_paper(tmp_path / "home", small.name, asked, progress=lambda phase, *_: told.append(phase))
    assert any(phase.startswith("second process") for phase in told)
    assert taken == {"rome"}
    assert not (asked.folder / FOUND).exists()
    assert torch.get_num_threads() == 2
    assert list(both.experiments) == list(asked.experiments)
    results = json.loads((asked.folder / "results.json").read_text(encoding="utf-8"))
    assert list(results["experiments"]) == list(asked.experiments)
    times = {row["editor"] for row in both.experiments["time"].result.rows}
    assert times == {"memit", "rome"}

    torch.set_num_threads(1)
    one = bench_paper(tmp_path / "other", small.name, replace(asked, folder=tmp_path / "one"))
    assert rows(one) == rows(both)
    assert one.units_made == both.units_made


def test_a_second_process_that_is_lost_is_made_up_for(
    small: Editable, asked: PaperOptions, tmp_path: Path, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = SecondProcess.__enter__

    def lost(self: SecondProcess) -> SecondProcess:
        begin(self).process.kill()
        return self

    monkeypatch.setattr(SecondProcess, "__enter__", lost)
    run = bench_paper(tmp_path / "home", small.name, asked)
    assert {row["editor"] for row in run.experiments["zsre"].result.rows} == {"memit", "rome", "none"}


def test_an_interrupted_run_ends_its_second_process(
    small: Editable, asked: PaperOptions, tmp_path: Path, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[SecondProcess] = []
    begin = SecondProcess.__enter__

    def noted(self: SecondProcess) -> SecondProcess:
        begun.append(self)
        return begin(self)

    def interrupted(phase: str, done: int, total: int) -> None:
        if begun:
            raise KeyboardInterrupt

    monkeypatch.setattr(SecondProcess, "__enter__", noted)
    with pytest.raises(KeyboardInterrupt):
        bench_paper(tmp_path / "home", small.name, asked, progress=interrupted)
    assert not begun[0].process.is_alive()
    assert torch.get_num_threads() == 2


def test_a_second_process_ends_where_the_first_one_is_gone(
    small: Editable,
    asked: PaperOptions,
    tmp_path: Path,
    two_threads: None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    codes: list[int | None] = []
    begin, join = SecondProcess.__init__, SecondProcess.join

    def of_another(self: SecondProcess, job: Job) -> None:
        begin(self, replace(job, parent=0))

    def noted(self: SecondProcess, bench: PaperBench) -> None:
        join(self, bench)
        codes.append(self.process.exitcode)

    monkeypatch.setattr(SecondProcess, "__init__", of_another)
    monkeypatch.setattr(SecondProcess, "join", noted)
    run = bench_paper(tmp_path / "home", small.name, replace(asked, experiments=("zsre",)))
    assert codes == [1]
    assert "the process that this one worked for is gone" in capfd.readouterr().err
    assert len(run.experiments["zsre"].result.rows) == 3


def test_what_another_process_measured_is_taken_over(tmp_path: Path) -> None:
    own, other = Units(tmp_path / "own.jsonl"), Units(tmp_path / "other.jsonl", tmp_path / "own.jsonl")
    own.add({"what": 1}, {"figure": 1})
    other.add({"what": 2}, {"figure": 2})
    with other.file.open("a", encoding="utf-8") as opened:
        opened.write('{"key": "cut sho')
    own.take(other.file)
    assert own.find({"what": 2}) == {"figure": 2}
    assert not other.file.exists()
    assert [json.loads(line)["value"] for line in own.file.read_text().splitlines()] == [{"figure": 1}, {"figure": 2}]
    assert Units(tmp_path / "third.jsonl", own.file).values == own.values
