"""The benchmark of a dump: what it makes, and that every way reads all of it."""

from pathlib import Path

import pytest
from pyoxigraph import RdfFormat, parse

from kbsync.benchmarks import pull
from kbsync.benchmarks.measured import EVERY, LINES, dump_lines
from kbsync.benchmarks.pull import WAYS, bench_dump, dump_view
from kbsync.errors import SourceError
from kbsync.report.console import to_plain
from tests.conftest import Run
from tests.report.test_report import drawn

TRIPLES = 3 * EVERY * LINES


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ways are processes of their own, and kbsync may not be installed."""
    monkeypatch.setenv("PYTHONPATH", str(Path(pull.__file__).parents[2]))


@pytest.mark.parametrize("triples", [1, 26, TRIPLES])
def test_as_many_statements_are_made_as_asked_for(triples: int) -> None:
    assert len(set(parse("".join(dump_lines(triples)), format=RdfFormat.N_TRIPLES))) == triples


def test_every_way_reads_all_of_the_dump(tmp_path: Path) -> None:
    file = tmp_path / "dump.nt"
    file.write_text("".join(dump_lines(TRIPLES)))
    found = {way: read(file, tmp_path / way) for way, (_, read) in WAYS.items()}
    assert found == {"kbsync": 2 * 3, "memory": TRIPLES, "disk": TRIPLES}


def test_each_way_is_taken() -> None:
    done = bench_dump(TRIPLES)
    found = {name: way["found"] for name, way in done["ways"].items()}
    assert found == {
        "kbsync": 6,
        "memory": TRIPLES,
        "disk": TRIPLES,
    }
    for way in done["ways"].values():
        assert way["triples_per_second"] == pytest.approx(TRIPLES / way["seconds"])
        assert way["peak_mb"] > 1
    assert done["ratio"]["disk"] == pytest.approx(done["ways"]["disk"]["seconds"] / done["ways"]["kbsync"]["seconds"])
    assert to_plain(done)
    assert "3,000 triples" in drawn(dump_view(done))


def test_a_way_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull, "dump_lines", lambda triples: ["no triple\n"])
    with pytest.raises(SourceError, match=r"reading the dump failed \(kbsync\): .*holds no statement that can be read"):
        bench_dump(1)


def test_a_dump_too_small_to_be_streamed_is_refused(run: Run) -> None:
    ran = run("bench", "dump", "--triples", 1000)
    assert ran.code == 2
    assert "--triples" in ran.err
