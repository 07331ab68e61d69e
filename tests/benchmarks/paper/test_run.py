"""A whole run: files, what is kept of a run that was killed, and the page."""

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from kbsync.benchmarks.paper.bench import PaperBench
from kbsync.benchmarks.paper.data import evenly
from kbsync.benchmarks.paper.experiment import Heat
from kbsync.benchmarks.paper.options import chosen_experiments
from kbsync.benchmarks.paper.published import published
from kbsync.benchmarks.paper.registry import EXPERIMENTS
from kbsync.benchmarks.paper.run import run_paper
from kbsync.benchmarks.paper.units import Units
from kbsync.errors import SettingsError
from kbsync.report.bench_paper import write_page
from kbsync.report.paper_figures import write_drawing
from tests.benchmarks.paper.conftest import write_data
from tests.homes import kbsync

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
    run = run_paper(bench, chosen_experiments(WANTED), folder)
    assert run.units_made == bench.units.made > 0
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert {"settings", "seed", "sizes", "versions", "machine", "commit", "editors"} <= results.keys()
    assert list(results["experiments"]) == list(WANTED)
    with (folder / "zsre.csv").open(encoding="utf-8") as opened:
        assert len(list(csv.DictReader(opened))) == len(results["experiments"]["zsre"]["rows"])

    bench.units = Units(folder / "units.jsonl")
    again = run_paper(bench, chosen_experiments(WANTED), folder)
    assert again.units_made == 0
    assert [done.result for done in again.experiments.values()] == [done.result for done in run.experiments.values()]


def test_a_killed_run_goes_on_with_what_is_missing(bench: PaperBench, tmp_path: Path) -> None:
    def killed(phase: str, done: int, total: int) -> None:
        if bench.units.made == 2:
            raise KeyboardInterrupt

    folder, bench.progress = tmp_path / "out", killed
    with pytest.raises(KeyboardInterrupt):
        run_paper(bench, chosen_experiments(["zsre"]), folder)
    with (folder / "units.jsonl").open("a", encoding="utf-8") as opened:
        opened.write('{"key": "cut sho')

    bench.units, bench.progress = Units(folder / "units.jsonl"), lambda phase, done, total: None
    run = run_paper(bench, chosen_experiments(["zsre"]), folder)
    assert run.units_made == len(bench.editors) - 2
    assert Units(folder / "units.jsonl").values.keys() == bench.units.values.keys()


def test_the_page_holds_every_figure_and_loads_nothing(bench: PaperBench, tmp_path: Path) -> None:
    run = run_paper(bench, chosen_experiments(WANTED), tmp_path / "out")
    page = write_page(run).read_text(encoding="utf-8")
    reader = PageReader()
    reader.feed(page)
    reader.close()
    drawings = [drawing for done in run.experiments.values() for drawing in done.result.drawings]
    assert [name for name in reader.ids if name.startswith("figure-")] == [f"figure-{one.name}" for one in drawings]
    assert reader.tags.count("svg") == len(drawings)
    assert len(reader.ids) == len(set(reader.ids))
    for named in re.findall(r"url\(#([^)]*)\)|href=\"#([^\"]*)\"", page):
        assert "".join(named) in reader.ids
    assert "script" not in reader.tags
    assert reader.loaded == []
    assert "50.7" in page  # the paper's score beside ours
    for stem in WANTED:
        ElementTree.parse(tmp_path / "out" / f"{stem}.svg")
        assert (tmp_path / "out" / f"{stem}.png").read_bytes().startswith(b"\x89PNG")


def test_a_heat_map_is_drawn(tmp_path: Path) -> None:
    svg, png = write_drawing(
        tmp_path / "heat", Heat("heat", "t", "layer", "token", ("0", "1"), ("a",), ((0.1, 0.9),), "probability")
    )
    assert svg.exists()
    assert png.exists()


def test_a_wrong_name_is_told() -> None:
    with pytest.raises(SettingsError, match="no experiment mistake; there are zsre, counterfact"):
        chosen_experiments(["mistake"])
    assert [one.name for one in chosen_experiments(["scaling", "zsre"])] == ["zsre", "scaling"]


def test_the_command_tells_what_is_wrong_before_a_model_is_loaded(tmp_path: Path) -> None:
    data = write_data(tmp_path)
    for wrong, told in (
        (("mistake",), "no experiment mistake"),
        (("--editors", "memit,mistake"), "no editor mistake"),
        (("--data", data.zsre), "in zsre's form; what is asked for is a data set in counterfact's"),
    ):
        ran = kbsync("bench", "paper", "--home", tmp_path / "home", "--model", "no such model", *wrong)
        assert ran.code == 1
        assert told in ran.err
    assert not (tmp_path / "home").exists()


def test_the_papers_rows_belong_to_experiments() -> None:
    assert published().keys() <= EXPERIMENTS.keys()
    for table in published().values():
        assert {row["editor"] for row in table.rows} == {"memit", "rome", "ft", "mend", "none"}


def test_units_that_are_none_are_told(tmp_path: Path) -> None:
    (tmp_path / "units.jsonl").write_text("[]\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="delete it and run again"):
        Units(tmp_path / "units.jsonl")


def test_evenly() -> None:
    assert evenly(range(10), 3) == [0, 3, 6]
    assert evenly(range(2), 3) == [0, 1]
