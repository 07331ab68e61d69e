"""Run experiments on a model: rows and charts of each, and the files that hold the rows.

What `bench paper` shows: a table for each experiment, and one page with every table and figure.

The page has no script and loads nothing from elsewhere.
"""

import csv
import json
import platform
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from kbsync import __version__
from kbsync.benchmarks.bench import PUBLISHED
from kbsync.benchmarks.paper.appendix import ELECTIONS, STARS, TIME
from kbsync.benchmarks.paper.bench import Experiment, Measurements, PaperBench, Result
from kbsync.benchmarks.paper.data import PaperData, Published, Sizes, open_data, published_tables
from kbsync.benchmarks.paper.figures import ATTENTION, DECAY, LAMBDA, LAYERS, TRACE
from kbsync.benchmarks.paper.tables import CATEGORIES, COUNTERFACT, MIXTURE, SCALING, ZSRE
from kbsync.editors import EDITORS
from kbsync.errors import KbsyncError, SettingsError
from kbsync.ledger import Ledger
from kbsync.report.console import Parts, table
from kbsync.report.plots import Row, write_charts
from kbsync.sync.home import AS_STORED, Loading, Progress, silent
from kbsync.sync.model import choose_model

EXPERIMENTS: dict[str, Experiment] = {
    one.name: one
    for one in (
        *(ZSRE, COUNTERFACT, SCALING, CATEGORIES, MIXTURE, TRACE, DECAY, LAYERS, ATTENTION, LAMBDA, TIME),
        *(ELECTIONS, STARS),
    )
}
"""in the order of tables; a new one is a function in one of the files, a line here, and its test"""
ROWS = ("memit", PUBLISHED, *(name for name in EDITORS if name != "memit"))
"""what the tables can compare"""
USUAL = tuple(name for name in ROWS if name not in ("rome-published", "nas", "locft"))
"""what they compare where no editors are named"""


@dataclass(frozen=True, slots=True)
class PaperOptions:
    """What the user asks for."""

    folder: Path
    """of the results"""
    sizes: Sizes
    experiments: tuple[str, ...] = ()
    """names; none means all"""
    editors: tuple[str, ...] = ()
    """names of `ROWS`; none means `USUAL`"""
    without: tuple[str, ...] = ()
    """names of `ROWS` that are left out"""
    dataset: Path | None = None
    """in CounterFact's form; None is the practice model's, and so is `zsre` then"""
    zsre: Path | None = None
    corpus: Path | None = None
    text: Path | None = None
    """that perplexity is measured on; None is what the covariance leaves out of its own"""
    quick: bool = False
    """leave MEND out where its network is not there already, unless `editors` names it"""
    seed: int = 0
    values: Mapping[str, Any] = field(default_factory=dict)
    """settings of the model; those of a row are ``ROW.NAME``"""
    references: Path | None = None
    """texts for RS; None is the sentences of the data sets' own prompts"""


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
    """Run experiments, write ``results.json`` and a CSV file for each into the folder, and return all."""
    check_names("editor", (*options.editors, *options.without), ROWS)
    own, of_rows = values_by_row(options.values)
    check_names("experiment", options.experiments, EXPERIMENTS)
    # Before a model is loaded: its faults show at once.
    data = open_data(options.dataset, options.zsre, options.seed, options.references)
    experiments = chosen_experiments(options.experiments, data)
    with Ledger.open(home) as ledger, ledger.writer(f"bench paper {model}"):
        progress("loading the model", 0, 1)
        choice = choose_model(model, own, home=home, loading=loading, corpus=options.corpus)
        progress("loading the model", 1, 1)
        rows = [name for name in options.editors or USUAL if name not in options.without]
        bench = PaperBench(
            ledger,
            choice,
            Measurements(options.folder / "units.jsonl"),
            data=data,
            sizes=options.sizes,
            rows=rows,
            text=options.text,
            progress=progress,
            values=of_rows,
        )
        if "mend" in rows and options.quick and not options.editors and not bench.has_network():
            bench.rows.remove("mend")  # its training takes longer than all else of a quick run
        return run_paper(bench, experiments, options.folder)


def values_by_row(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the model's settings, and those of rows, which are written as ``ROW.NAME``."""
    own: dict[str, Any] = {}
    of_rows: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        row, dot, setting = name.rpartition(".")
        if dot:
            check_names("editor", [row], ROWS)
        if row in ("", "memit"):
            own[setting] = value
        else:
            of_rows.setdefault(row, {})[setting] = value
    return own, of_rows


def chosen_experiments(names: Sequence[str], data: PaperData) -> list[Experiment]:
    """Return the named experiments, all where none is named, in the order of tables.

    Without zsRE's data its experiment is left out; SettingsError where it was named.
    """
    if not data.zsre and "zsre" in names:
        raise SettingsError("the experiment zsre needs a data set in zsRE's form: --zsre FILE")
    return [one for one in EXPERIMENTS.values() if (not names or one.name in names) and (data.zsre or one is not ZSRE)]


def check_names(what: str, names: Sequence[str], known: Sequence[str] | Mapping[str, Any]) -> None:
    """Raise SettingsError for a name that is not known."""
    if unknown := [name for name in names if name not in known]:
        raise SettingsError(f"there is no {what} {', '.join(unknown)}; there are {', '.join(known)}")


def run_paper(bench: PaperBench, experiments: Sequence[Experiment], folder: Path) -> PaperRun:
    """Run experiments, one after another; the files are written anew after each."""
    run = PaperRun(bench.choice.name, folder, about(bench), 0, {})
    for experiment in experiments:
        bench.progress(f"experiment: {experiment.name}", len(run.experiments), 0)
        began = time.monotonic()
        result = experiment.run(bench)
        seconds = round(time.monotonic() - began, 2)
        table = published_tables().get(experiment.name)
        run.experiments[experiment.name] = Done(experiment.title, experiment.paper, seconds, result, table)
        write_files(run, experiment.name)
    return replace(run, units_made=bench.measurements.made)


def about(bench: PaperBench) -> dict[str, Any]:
    """Return what the run's figures depend on, and what they were made with."""
    return {
        "model": bench.choice.name,
        "device": str(bench.loaded.device),
        "dtype": str(bench.loaded.model.dtype).removeprefix("torch."),
        "data": [str(file) for file in bench.data.files],
        "seed": bench.data.seed,
        "sizes": asdict(bench.sizes),
        "text": bench.held_out.corpus,
        "settings": bench.settings.as_dict(),
        "published": bench.settings_for(PUBLISHED).as_dict(),
        "editors": {name: asdict(bench.editor(name).settings) for name in bench.rows},
        "versions": {
            "kbsync": __version__,
            "python": platform.python_version(),
            **{package: version(package) for package in ("torch", "transformers")},
        },
        "machine": {"system": platform.system(), "processor": platform.machine(), "threads": torch.get_num_threads()},
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


TABLE_ROWS = 24
"""rows of a table on the terminal; all are in the CSV file and on the page"""
LONG = 30
"""letters of a cell that stays on one line"""


def paper_view(run: PaperRun) -> Parts:
    """Yield a table for each experiment, and where the rest is."""
    for done in run.experiments.values():
        rows, columns = done.result.rows, shown_columns(done.result.rows)
        cells = [[figure_text(row.get(name), places=2) for name in columns] for row in rows[:TABLE_ROWS]]
        yield table(columns, cells, title=f"{done.title} ({done.paper})")
        if len(rows) > TABLE_ROWS:
            yield f"and {len(rows) - TABLE_ROWS} further rows"
    yield f"{run.units_made} measurements made; all results are in {run.folder}, the page is index.html"


def write_page(run: PaperRun) -> Path:
    """Write every figure as SVG and PNG, and ``index.html``; return its path. KbsyncError where that fails."""
    figures: dict[str, str] = {}
    for name, done in run.experiments.items():
        for chart in done.result.charts:
            stem = chart.name if chart.name.startswith(name) else f"{name}-{chart.name}"
            svg = write_charts(run.folder / stem, [chart])[1].read_text(encoding="utf-8")
            figures[chart.name] = inlined(svg, chart.name)
    page = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True).get_template("page.html")
    about = json.dumps(run.about, indent=1, ensure_ascii=False)
    tools = {"shown_columns": shown_columns, "column_class": column_class, "figure_text": figure_text}
    file = run.folder / "index.html"
    try:
        file.write_text(page.render(run=run, figures=figures, about=about, **tools), encoding="utf-8")
    except OSError as error:
        raise KbsyncError(f"the page {file} cannot be written: {error.strerror or error}") from error
    return file


def inlined(svg: str, name: str) -> str:
    """Return the SVG element alone, its ids under `name`, so that those of one page differ."""
    start = re.search(r"<svg\b", svg)
    element = svg[start.start() :] if start else svg
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", element)


def shown_columns(rows: Sequence[Row]) -> list[str]:
    """Return the columns of rows in the order in which they first stand, without the bounds of intervals."""
    columns = dict.fromkeys(name for row in rows for name in row)
    return [name for name in columns if not name.endswith(("_low", "_high"))]


def column_class(rows: Sequence[Row], name: str) -> Markup:
    """Return the attribute of a column of numbers, or of long text, which may break."""
    values = [row.get(name) for row in rows]
    if all(isinstance(value, int | float | None) for value in values):
        return Markup(' class="number"')
    return Markup(' class="long"' if any(len(str(value)) > LONG for value in values) else "")


def figure_text(value: object, places: int | None = None) -> object:
    """Return a float with so many places, else with one, or three digits where it is small; others as they are."""
    if not isinstance(value, float):
        return "" if value is None else value
    if places is not None:
        return round(value, places)
    return f"{value:.1f}" if abs(value) >= 10 or value == 0 else f"{value:.3g}"
