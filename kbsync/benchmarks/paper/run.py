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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from kbsync import __version__
from kbsync.benchmarks.bench import PUBLISHED
from kbsync.benchmarks.paper import appendix, figures, tables
from kbsync.benchmarks.paper.bench import Measurements, PaperBench, Result
from kbsync.benchmarks.paper.data import PaperData, Sizes, published_tables
from kbsync.editors import EDITORS
from kbsync.errors import SettingsError
from kbsync.files import writing
from kbsync.ledger import Ledger
from kbsync.report.console import Parts, table
from kbsync.report.plots import Row, write_charts
from kbsync.sync.home import AS_STORED, Loading, Progress, silent
from kbsync.sync.model import choose_model


class Experiment(NamedTuple):
    """An experiment of the paper, and the table or figure that it is made after."""

    title: str
    paper: str
    run: Callable[[PaperBench], Result]


EXPERIMENTS = {
    "zsre": Experiment("Questions of zsRE", "Table 1", tables.zsre),
    "counterfact": Experiment("Counterfactual edits", "Table 2", tables.counterfact),
    "scaling": Experiment("Over the number of edits", "Figure 5", tables.scaling),
    "categories": Experiment("By relation", "Figure 6", tables.categories),
    "mixture": Experiment("Two relations together", "Figures 7 and 10", tables.mixture),
    "trace": Experiment("Causal tracing", "Figures 3 and 8", figures.trace),
    "decay": Experiment("FT-W's weight decay", "Figure 9", figures.decay),
    "layers": Experiment("Edited layers", "Figure 11", figures.layers),
    "attention": Experiment("Attention edited in place of the MLP", "Figure 12", figures.attention),
    "lambda": Experiment("Weight of the covariance", "Figure 13", figures.lambda_),
    "time": Experiment("What an edit costs", "Appendix B.1-B.4", appendix.time_),
    "elections": Experiment("Results of elections", "Appendix E", appendix.elections),
    "stars": Experiment("Stars and their constellations", "Appendix E", appendix.constellations),
}
"""in the order of tables; a new one is a function in one of the files, a line here, and its test"""
ROWS = ("memit", PUBLISHED, *(name for name in EDITORS if name != "memit"))
"""what the tables can compare"""
USUAL = tuple(name for name in ROWS if name not in ("rome-published", "nas", "locft"))
"""what they compare where no editors are named"""


@dataclass(frozen=True, slots=True)
class PaperRun:
    model: str
    folder: Path
    about: dict[str, Any]
    """settings, seed, sizes, versions, machine, git commit"""
    units_made: int
    """measurements of this run; the others were kept from earlier ones"""
    experiments: dict[str, dict[str, Any]]
    """of each its title, what of the paper it is, seconds of this run, result, and the paper's own rows or None"""


def bench_paper(
    home: Path,
    model: str,
    data: PaperData,
    folder: Path,
    sizes: Sizes,
    *,
    experiments: Sequence[str] = (),
    editors: Sequence[str] = (),
    without: Sequence[str] = (),
    corpus: Path | None = None,
    text: Path | None = None,
    quick: bool = False,
    values: Mapping[str, Any] = MappingProxyType({}),
    loading: Loading = AS_STORED,
    progress: Progress = silent,
) -> PaperRun:
    """Run experiments (all, if none is named), write ``results.json`` and a CSV file for each into the folder.

    `editors` (names of `ROWS`, `USUAL` if there is none) are compared, less those of `without`; `text` is for
    perplexity; `quick` leaves MEND out where its network is not there already, unless `editors` names it. `values` are
    settings of the model, those of a row as ``ROW.NAME``.
    """
    check_names("editor", (*editors, *without), ROWS)
    own, of_rows = values_by_row(values)
    check_names("experiment", experiments, EXPERIMENTS)
    chosen = chosen_experiments(experiments, data)
    with Ledger.open(home) as ledger, ledger.writer(f"bench paper {model}"):
        progress("loading the model", 0, 1)
        choice = choose_model(model, own, home=home, loading=loading, corpus=corpus)
        progress("loading the model", 1, 1)
        rows = [name for name in editors or USUAL if name not in without]
        kept = Measurements(folder / "units.jsonl")
        given: dict[str, Any] = {"data": data, "sizes": sizes, "rows": rows, "text": text, "values": of_rows}
        bench = PaperBench(ledger, choice, kept, progress=progress, **given)
        if "mend" in rows and quick and not editors and not bench.has_network():
            bench.rows.remove("mend")  # its training takes longer than all else of a quick run
        return run_paper(bench, chosen, folder)


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


def chosen_experiments(names: Sequence[str], data: PaperData) -> list[str]:
    """Return the named experiments, all where none is named, in the order of tables.

    Without zsRE's data its experiment is left out; SettingsError where it was named.
    """
    if not data.zsre and "zsre" in names:
        raise SettingsError("the experiment zsre needs a data set in zsRE's form: --zsre FILE")
    return [one for one in EXPERIMENTS if (not names or one in names) and (data.zsre or one != "zsre")]


def check_names(what: str, names: Sequence[str], known: Sequence[str] | Mapping[str, Any]) -> None:
    """Raise SettingsError for a name that is not known."""
    if unknown := [name for name in names if name not in known]:
        raise SettingsError(f"there is no {what} {', '.join(unknown)}; there are {', '.join(known)}")


def run_paper(bench: PaperBench, experiments: Sequence[str], folder: Path) -> PaperRun:
    """Run experiments, one after another; the files are written anew after each."""
    run = PaperRun(bench.choice.name, folder, about(bench), 0, {})
    for name in experiments:
        bench.progress(f"experiment: {name}", len(run.experiments), 0)
        began, (title, paper, experiment) = time.monotonic(), EXPERIMENTS[name]
        result = experiment(bench)
        told = {"title": title, "paper": paper, "seconds": round(time.monotonic() - began, 2)}
        run.experiments[name] = {**told, "result": result, "published": published_tables().get(name)}
        write_files(run, name)
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
    """Write an experiment's CSV file, and ``results.json`` anew; WriteError where that fails."""
    with writing(run.folder):
        run.folder.mkdir(parents=True, exist_ok=True)
        rows = run.experiments[name]["result"].rows
        with (run.folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as opened:
            writer = csv.DictWriter(opened, list(dict.fromkeys(column for row in rows for column in row)))
            writer.writeheader()
            writer.writerows(rows)
        told = {
            name: {"title": one["title"], "paper": one["paper"], "rows": one["result"].rows, "note": one["result"].note}
            for name, one in run.experiments.items()
        }
        text = json.dumps({**run.about, "experiments": told}, indent=1, ensure_ascii=False)
        (run.folder / "results.json").write_text(text + "\n", encoding="utf-8")


TABLE_ROWS = 24  # rows of a table on the terminal; all are in the CSV file and on the page
LONG = 30  # letters of a cell that stays on one line


def paper_view(run: PaperRun) -> Parts:
    for done in run.experiments.values():
        rows, columns = done["result"].rows, shown_columns(done["result"].rows)
        cells = [[figure_text(row.get(name), places=2) for name in columns] for row in rows[:TABLE_ROWS]]
        yield table(columns, cells, title="{title} ({paper})".format(**done))
        if len(rows) > TABLE_ROWS:
            yield f"and {len(rows) - TABLE_ROWS} further rows"
    yield f"{run.units_made} measurements made; all results are in {run.folder}, the page is index.html"


def write_page(run: PaperRun) -> Path:
    """Write every figure as SVG and PNG, and ``index.html``; return its path. WriteError where that fails."""
    drawn: dict[str, str] = {}
    for name, done in run.experiments.items():
        for chart in done["result"].charts:
            stem = chart.name if chart.name.startswith(name) else f"{name}-{chart.name}"
            svg = write_charts(run.folder / stem, [chart])[1].read_text(encoding="utf-8")
            drawn[chart.name] = inlined(svg, chart.name)
    page = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True).get_template("page.html")
    about = json.dumps(run.about, indent=1, ensure_ascii=False)
    tools = {"shown_columns": shown_columns, "column_class": column_class, "figure_text": figure_text}
    file = run.folder / "index.html"
    with writing(file):
        file.write_text(page.render(run=run, figures=drawn, about=about, **tools), encoding="utf-8")
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
