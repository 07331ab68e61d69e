"""A day's work in a folder of one's own: kbsync.yaml, sync, a change, sync again."""

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from tests.conftest import Ran
from tests.homes import SMALL_SETTINGS, SWAPPED, TEMPLATES, Editable, done, kbsync, small, write_facts

__all__ = ["small"]


@pytest.fixture
def folder(tmp_path: Path, small: Editable, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project on the small model, and the working directory in it; three facts in its source."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KBSYNC_HOME", raising=False)
    write_facts(tmp_path / "facts.yaml", P36=dict(list(SWAPPED.items())[:3]))
    (tmp_path / ".kbsync" / "templates").mkdir(parents=True)
    (tmp_path / ".kbsync" / "templates" / "capital.yaml").write_text(TEMPLATES)
    settings = dict(one.split("=") for one in SMALL_SETTINGS)
    text = {
        "model": small.name,
        "sources": [{"source": "facts.yaml", "relations": ["P36"]}],
        "corpus": str(small.corpus),
        "settings": settings,
        "bounds": {"max_perplexity_increase": 1e6, "max_specificity_loss": 100, "max_weight_change": 1e12},
        "export": {"to": "out"},
    }
    (tmp_path / "kbsync.yaml").write_text(yaml.safe_dump(text))
    return tmp_path


def counts(ran: Ran) -> dict[str, int]:
    found = json.loads(ran.out)["counts"]
    return {sign: count for sign, count in found.items() if count}


def test_a_day_and_the_next(folder: Path) -> None:
    planned = done("sync", "--dry-run", "--json")
    assert counts(planned) == {"+": 3}
    assert not (folder / ".kbsync" / "ledger.db").exists()
    assert kbsync("sync", "--dry-run", "--check").code == 3

    first = json.loads(done("sync", "--json").out)
    assert first["applied"]["edits"] == 3
    assert Path(first["exported"]) == folder / "out"
    assert json.loads((folder / "out" / "kbsync.json").read_text())["edits"] == 3

    again = json.loads(done("sync", "--json").out)
    assert (again["applied"], again["exported"]) == (None, None)
    text = (folder / "kbsync.yaml").read_text()
    (folder / "kbsync.yaml").write_text(text.replace("steps: '20'", "steps: 21"))
    assert json.loads(done("sync", "--json").out)["applied"]["optimised"] == 3

    facts = dict(list(SWAPPED.items())[:4])
    write_facts(folder / "facts.yaml", P36=facts)
    assert counts(done("sync", "--dry-run", "--json"))["+"] == 1
    assert json.loads(done("sync", "--json").out)["applied"]["edits"] == 4
    assert json.loads((folder / "out" / "kbsync.json").read_text())["edits"] == 4


def test_commands_take_their_defaults_from_the_file(folder: Path) -> None:
    below = folder / "a" / "b"
    below.mkdir(parents=True)
    os.chdir(below)
    assert "3" in done("pull").out
    assert counts(done("plan", "--json")) == {"+": 3}
    assert json.loads(done("apply", "--yes", "--limit", "1", "--json").out)["edits"] == 1
    with closing(sqlite3.connect(folder / ".kbsync" / "ledger.db")) as ledger:
        (settings,) = ledger.execute("select settings from batches").fetchone()
    assert json.loads(settings)["layers"] == [1, 2]
    assert counts(done("status", "--json"))["+"] == 2
    assert kbsync("apply", "--yes", "--set", "steps=0").code == 1  # the command line goes before the file


def test_a_failed_sync_leaves_the_state(folder: Path) -> None:
    done("sync")
    before = done("history", "--json").out
    (folder / "facts.yaml").write_text("P36: {Atlantis: Rome}\n")  # all three withdrawn
    ran = kbsync("sync")
    assert (ran.code, "far fewer facts than before" in ran.err) == (3, True)
    (folder / "facts.yaml").write_text("P36: [\n")
    assert kbsync("sync").code == 1
    assert done("history", "--json").out == before


def test_show_says_where_values_come_from(folder: Path) -> None:
    found = {one["name"]: one for one in json.loads(done("config", "show", "--json").out)["values"]}
    assert (found["home"]["origin"], found["settings.steps"]["origin"]) == ("file", "file")
    assert (found["settings.lr"]["origin"], found["settings.steps"]["value"]) == ("default", 20)
    assert found["bounds.max_specificity_loss"]["value"] == 100
    other = json.loads(done("config", "show", "--home", "elsewhere", "--json").out)["values"]
    assert {"name": "home", "value": "elsewhere", "origin": "flag"} in other
    assert json.loads(done("config", "schema").out)["title"] == "kbsync.yaml"
    assert "1 sources" in done("config", "check").out


def test_init_writes_a_file_that_is_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "kbsync init" in kbsync("sync").err
    done("init", "--model", "practice", "--source", "facts.yaml", "--relation", "P36", "--relation", "P6")
    assert done("config", "check", "--json").out
    text = (tmp_path / "kbsync.yaml").read_text()
    assert yaml.safe_load(text)["sources"] == [{"source": "facts.yaml", "relations": ["P36", "P6"]}]
    assert "exists already" in kbsync("init", "--model", "practice", "--relation", "P36").err
    assert (tmp_path / "kbsync.yaml").read_text() == text
    bad = kbsync("init", "--model", "m", "--relation", "not a name")
    assert (bad.code, "no relation's name" in bad.err) == (1, True)


def test_a_bad_file_stops_each_command_but_help(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kbsync.yaml").write_text("modle: practice\n")
    for command in (["status"], ["pull"], ["config", "show"], ["config", "check"], ["plan", "--model", "practice"]):
        ran = kbsync(*command)
        assert (ran.code, "kbsync.yaml:1:1: there is no 'modle' here" in ran.err) == (1, True), ran
    done("plan", "--help")
    done("config", "schema")


def test_a_page_of_the_status(folder: Path) -> None:
    done("pull")
    assert "differ in 3 facts" in done("status", "--format", "markdown").out
    done("sync")
    write_facts(folder / "facts.yaml", P36=dict(list(SWAPPED.items())[:3]) | {'"<b>Oz</b>|`x`"': '"[a](b)"'})
    done("pull")
    text = done("status", "--format", "markdown").out
    assert "(batch 1)" in text
    assert "| recall | " in text
    assert "\\<b\\>Oz\\</b\\>\\|\\`x\\` |" in text
    done("status", "--format", "html", "--to", "report.html")
    page = (folder / "report.html").read_text()
    assert "&lt;b&gt;Oz" in page
    assert "<b>Oz" not in page
    assert "http" not in page
    assert kbsync("status", "--format", "html", "--to", "none/report.html").code == 1
    assert kbsync("status", "--to", "x").code == 2
    assert kbsync("status", "--format", "html", "--check", "--to", "report.html").code == 3
