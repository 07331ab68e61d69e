"""The benchmark of a large ledger, in small: what it makes, and that every step runs."""

import json
from pathlib import Path

import pytest

from kbsync.benchmarks.ledger import bench_ledger, curve_view, ledger_view
from kbsync.benchmarks.measured import write_facts
from kbsync.errors import KbsyncError
from kbsync.ledger import Ledger
from kbsync.report.console import to_plain
from kbsync.sources import Ask, open_source
from tests.report.test_plan import drawn

RELATIONS = [f"P{number}" for number in range(1, 9)]


def facts(path: Path) -> set[tuple[str, str, str]]:
    source = open_source(str(path))
    read = [fact for relation in RELATIONS for fact in source.read(Ask(relation)).facts]
    return {(fact.subject.key, fact.relation, fact.object.key) for fact in read}


def test_the_file_holds_as_many_facts_as_asked_for_and_a_share_of_them_changes(tmp_path: Path) -> None:
    path = tmp_path / "facts.nt"
    write_facts(path, 3000, RELATIONS)
    made, text = facts(path), path.read_text()
    assert 2990 <= len(made) <= 3000  # a second object may be the first one again
    write_facts(path, 3000, RELATIONS)
    assert path.read_text() == text
    write_facts(path, 3000, RELATIONS, changed=0.1)
    assert 0.07 < len(made - facts(path)) / 3000 < 0.12
    write_facts(path, 3000, RELATIONS, seed=1)
    assert len(made & facts(path)) < 10


def test_every_step_is_run_and_taken(tmp_path: Path) -> None:
    done = bench_ledger(tmp_path / "home", 400, 50)
    assert list(done["steps"]) == [
        "pull",
        "status",
        "plan",
        "plan --json",
        "status --json",
        "pull, 1% changed",
        "status after it",
        "verify",
    ]
    for step in done["steps"].values():
        assert step.keys() == {"seconds", "cpu_seconds", "peak_mb"}
        assert min(step["seconds"], step["cpu_seconds"], step["peak_mb"] - 10) > 0
    assert "second pull" in drawn(ledger_view(done))
    curve = drawn(curve_view({"curve": [done, done]}))
    assert curve.count("400 facts") == 2
    assert curve.count(" MB") == 2 * len(done["steps"])
    assert json.dumps(to_plain(done))
    with Ledger.open(tmp_path / "home", create=False) as ledger:
        assert len(ledger.active_edits("model:made-up")) == 50
        assert len(ledger.pulls()) == 2 * done["relations"]
    with pytest.raises(KbsyncError, match="holds a ledger already"):
        bench_ledger(tmp_path / "home", 400, 50)


def test_more_edits_than_facts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KbsyncError, match="--edits 300 is too many for 400 facts"):
        bench_ledger(tmp_path, 400, 300)
