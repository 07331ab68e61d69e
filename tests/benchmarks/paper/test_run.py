"""A whole run: files, what is kept of a run that was killed, and the page."""

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from statistics import harmonic_mean
from xml.etree import ElementTree

import pytest

from kbsync.benchmarks.paper.bench import Measurements, PaperBench
from kbsync.benchmarks.paper.data import evenly, open_data, published_tables
from kbsync.benchmarks.paper.run import EXPERIMENTS, chosen_experiments, run_paper, write_page
from kbsync.errors import SettingsError
from kbsync.metrics.registry import MEANS
from kbsync.report.plots import Chart, Series, write_charts
from tests.benchmarks.paper.conftest import write_data
from tests.homes import kbsync
from tests.tiny_models import FACTS

WANTED = ("zsre", "lambda")


class PageReader(HTMLParser):
    """Notes what a page would load, and which elements it has."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take an element."""
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.loaded += [
            value for name, value in attrs if name in ("src", "href", "xlink:href") and value and value[0] not in "#d"
        ]


def test_a_run_writes_its_files_and_a_second_one_makes_nothing(bench: PaperBench, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    run = run_paper(bench, chosen_experiments(WANTED, bench.data), folder)
    assert run.units_made == bench.measurements.made > 0
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert {"settings", "seed", "sizes", "versions", "machine", "commit", "editors"} <= results.keys()
    assert list(results["experiments"]) == list(WANTED)
    with (folder / "zsre.csv").open(encoding="utf-8") as opened:
        assert len(list(csv.DictReader(opened))) == len(results["experiments"]["zsre"]["rows"])

    bench.measurements = Measurements(folder / "units.jsonl")
    again = run_paper(bench, chosen_experiments(WANTED, bench.data), folder)
    assert again.units_made == 0
    assert [done["result"] for done in again.experiments.values()] == [
        done["result"] for done in run.experiments.values()
    ]


def test_a_killed_run_goes_on_with_what_is_missing(bench: PaperBench, tmp_path: Path) -> None:
    def killed(phase: str, done: int, total: int) -> None:
        if bench.measurements.made == 2:
            raise KeyboardInterrupt

    folder, bench.progress = tmp_path / "out", killed
    with pytest.raises(KeyboardInterrupt):
        run_paper(bench, chosen_experiments(["zsre"], bench.data), folder)
    with (folder / "units.jsonl").open("a", encoding="utf-8") as opened:
        opened.write('{"key": "cut sho')

    bench.measurements, bench.progress = Measurements(folder / "units.jsonl"), lambda phase, done, total: None
    run = run_paper(bench, chosen_experiments(["zsre"], bench.data), folder)
    assert run.units_made == len(bench.rows) - 2
    assert Measurements(folder / "units.jsonl").values.keys() == bench.measurements.values.keys()


def test_the_page_holds_every_figure_and_loads_nothing(bench: PaperBench, tmp_path: Path) -> None:
    run = run_paper(bench, chosen_experiments(WANTED, bench.data), tmp_path / "out")
    page = write_page(run).read_text(encoding="utf-8")
    reader = PageReader()
    reader.feed(page)
    reader.close()
    charts = [chart for done in run.experiments.values() for chart in done["result"].charts]
    assert [name for name in reader.ids if name.startswith("figure-")] == [f"figure-{one.name}" for one in charts]
    assert reader.tags.count("svg") == len(charts)
    assert len(reader.ids) == len(set(reader.ids))
    for named in re.findall(r"url\(#([^)]*)\)|href=\"#([^\"]*)\"", page):
        assert "".join(named) in reader.ids
    assert "script" not in reader.tags
    assert reader.loaded == []
    assert "50.7" in page  # the paper's score beside ours
    for stem in WANTED:
        ElementTree.parse(tmp_path / "out" / f"{stem}.svg")
        assert (tmp_path / "out" / f"{stem}.png").read_bytes().startswith(b"\x89PNG")


def test_a_map_is_drawn(tmp_path: Path) -> None:
    rows = (Series("a", (0, 1), (0.1, 0.9)), Series("b", (0, 1), (None, 0.5)))
    _, svg = write_charts(tmp_path / "map", [Chart("map", "map", "t", "layer", "token", rows, unit="probability")])
    assert svg.read_bytes().startswith(b"<?xml")
    assert svg.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_experiments_come_in_the_order_of_tables_and_zsre_only_where_there_is_its_data(tmp_path: Path) -> None:
    counterfact, zsre = write_data(tmp_path)
    both, one = open_data(counterfact, zsre, 0), open_data(counterfact, None, 0)
    assert chosen_experiments(["scaling", "zsre"], both) == ["zsre", "scaling"]
    assert chosen_experiments([], one) == [name for name in EXPERIMENTS if name != "zsre"]
    with pytest.raises(SettingsError, match="the experiment zsre needs a data set in zsRE's form: --zsre FILE"):
        chosen_experiments(["zsre"], one)


def test_texts_about_objects_may_be_of_a_file(tmp_path: Path) -> None:
    counterfact, zsre = write_data(tmp_path)
    own, target = open_data(counterfact, zsre, 0), FACTS[1].target
    assert all(case.references for case in own.counterfact)
    (tmp_path / "about").mkdir()
    (tmp_path / "about" / f"{target}.txt").write_text("A city by the sea.", encoding="utf-8")
    found = open_data(counterfact, zsre, 0, tmp_path / "about")
    assert {case.request.target: case.references for case in found.counterfact if case.references} == {
        target: ("A city by the sea.",)
    }
    assert (own.references, found.references) == ("the sentences of the data's own prompts", "about")


def test_the_command_tells_what_is_wrong_before_a_model_is_loaded(tmp_path: Path) -> None:
    _, zsre = write_data(tmp_path)
    for wrong, told in (
        (("mistake",), "no experiment mistake"),
        (("--editors", "memit,mistake"), "no editor mistake"),
        (("--without", "mistake"), "no editor mistake"),
        (("--set", "mistake.lr=1"), "no editor mistake"),
        (("--references", tmp_path / "none"), "--references"),
        (("--dataset", zsre), "in zsre's form; a data set in counterfact's form is needed here"),
        (("--size", "mistake"), "--size mistake: choose one of quick, standard, paper"),
    ):
        ran = kbsync("bench", "paper", "--home", tmp_path / "home", "--model", "no such model", *wrong)
        assert ran.code == 1
        assert told in ran.err
    assert not (tmp_path / "home").exists()


def test_the_papers_rows_belong_to_experiments() -> None:
    assert published_tables().keys() <= EXPERIMENTS.keys()
    for name, parts in MEANS.items():
        table = published_tables()["counterfact" if name == "S" else "zsre"]
        assert {row["editor"] for row in table["rows"]} == {"memit", "rome", "ft", "mend", "none"}
        for row in table["rows"]:  # as they are rounded there
            assert row[name] == pytest.approx(harmonic_mean([row[part] for part in parts]), abs=0.15)


def test_units_that_are_none_are_told(tmp_path: Path) -> None:
    (tmp_path / "units.jsonl").write_text("[]\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="delete it and run again"):
        Measurements(tmp_path / "units.jsonl")


def test_evenly() -> None:
    assert evenly(range(10), 3) == [0, 3, 6]
    assert evenly(range(2), 3) == [0, 1]
