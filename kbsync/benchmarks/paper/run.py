"""Run experiments on a model: rows and drawings of each, and the files that hold the rows."""

import csv
import json
import platform
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from kbsync import __version__
from kbsync.benchmarks.paper.bench import PaperBench
from kbsync.benchmarks.paper.data import checked_dataset
from kbsync.benchmarks.paper.experiment import Experiment, Result, Row
from kbsync.benchmarks.paper.options import PaperOptions, check_editors, chosen_experiments, make_bench
from kbsync.benchmarks.paper.published import Published, published
from kbsync.benchmarks.paper.units import Units
from kbsync.errors import SettingsError
from kbsync.ledger import Ledger
from kbsync.workflows.choice import choose_model
from kbsync.workflows.loading import AS_STORED, Loading
from kbsync.workflows.progress import Progress, silent

__all__ = ["Done", "PaperRun", "bench_paper", "run_paper"]

UNITS = "units.jsonl"


@dataclass(frozen=True, slots=True)
class Done:
    """One experiment's result, beside the paper's own rows where they are known."""

    title: str
    paper: str
    seconds: float
    """that this run took for it: near 0 where all of it was kept"""
    result: Result
    published: Published | None


@dataclass(frozen=True, slots=True)
class PaperRun:
    """All experiments of one run."""

    model: str
    folder: Path
    about: dict[str, Any]
    """settings, seed, sizes, versions, machine, git commit"""
    units_made: int
    """measurements of this run; the others were kept from earlier ones"""
    experiments: dict[str, Done]


def bench_paper(
    home: Path, model: str, options: PaperOptions, loading: Loading = AS_STORED, progress: Progress = silent
) -> PaperRun:
    """Run experiments, write ``results.json`` and a CSV file for each into the folder, and return all.

    Raises SettingsError for an experiment or editor that does not exist, a data set of another form, or a model without
    a corpus, and what loading a model raises.
    """
    experiments = chosen_experiments(options.experiments)
    check_editors(options.editors)
    checked_dataset(options.data.counterfact, "counterfact")  # before a model is loaded, so that it shows at once
    checked_dataset(options.data.zsre, "zsre")
    with Ledger.open(home) as ledger, ledger.writer(f"bench paper {model}"):
        progress("loading the model", 0, 1)
        choice = choose_model(model, options.values, home=home, loading=loading, corpus=options.corpus)
        progress("loading the model", 1, 1)
        bench = make_bench(ledger, choice, options, Units(options.folder / UNITS), progress)
        return run_paper(bench, experiments, options.folder)


def run_paper(bench: PaperBench, experiments: Sequence[Experiment], folder: Path) -> PaperRun:
    """Run experiments, one after another; the files are written anew after each."""
    run = PaperRun(bench.choice.name, folder, about(bench), 0, {})
    for experiment in experiments:
        finish(run, bench, experiment)
    return replace(run, units_made=bench.units.made)


def finish(run: PaperRun, bench: PaperBench, experiment: Experiment) -> None:
    """Run an experiment and write its files."""
    bench.progress(f"experiment: {experiment.name}", len(run.experiments), 0)
    began = time.monotonic()
    result = experiment.run(bench)
    run.experiments[experiment.name] = Done(
        experiment.title,
        experiment.paper,
        round(time.monotonic() - began, 2),
        result,
        published().get(experiment.name),
    )
    write_files(run, experiment.name)


def about(bench: PaperBench) -> dict[str, Any]:
    """Return what the run's figures depend on, and what they were made with."""
    return {
        "model": bench.choice.name,
        "device": str(bench.loaded.device),
        "dtype": str(bench.loaded.model.dtype).removeprefix("torch."),
        "data": str(bench.data.counterfact),
        "zsre": str(bench.data.zsre),
        "seed": bench.data.seed,
        "sizes": asdict(bench.sizes),
        "settings": bench.settings.as_dict(),
        "editors": {name: asdict(bench.editor(name).settings) for name in bench.editors},
        "versions": {
            "kbsync": __version__,
            "python": platform.python_version(),
            **{package: version(package) for package in ("torch", "transformers")},
        },
        "machine": {
            "system": platform.system(),
            "processor": platform.machine(),
            "threads": torch.get_num_threads(),
        },
        "commit": commit(),
    }


def commit() -> str | None:
    """Return the git commit of the checkout that this file lies in; None where there is none."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def write_files(run: PaperRun, name: str) -> None:
    """Write an experiment's CSV file, and ``results.json`` anew; SettingsError where that fails."""
    try:
        run.folder.mkdir(parents=True, exist_ok=True)
        write_csv(run.folder / f"{name}.csv", run.experiments[name].result.rows)
        write_results(run)
    except OSError as error:
        raise SettingsError(f"--to {run.folder}: cannot be written ({error.strerror or error})") from error


def write_csv(file: Path, rows: Sequence[Row]) -> None:
    """Write rows as CSV; columns are those of all rows, in the order in which they first stand."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, columns)
        writer.writeheader()
        writer.writerows(rows)


def write_results(run: PaperRun) -> None:
    """Write everything but the drawings as JSON."""
    content = {
        **run.about,
        "experiments": {
            name: {"title": done.title, "paper": done.paper, "rows": done.result.rows, "note": done.result.note}
            for name, done in run.experiments.items()
        },
    }
    text = json.dumps(content, indent=1, ensure_ascii=False)
    (run.folder / "results.json").write_text(text + "\n", encoding="utf-8")
