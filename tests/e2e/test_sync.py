"""A day's work in a folder of one's own: kbsync.yaml, sync, a change, sync again."""

import hashlib
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from kbsync.errors import KbsyncError
from tests.browser import WIDTHS, as_shown, asked_for, browser, needs_browser
from tests.conftest import Ran
from tests.homes import SMALL_SETTINGS, SWAPPED, TEMPLATES, Editable, done, kbsync, small, write_facts

__all__ = ["browser", "small"]


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
    assert first["probed"]["asked"] == 3
    assert first["probed"]["held"] == first["probed"]["recalled"]  # a checkpoint loses nothing
    assert json.loads((folder / "out" / "kbsync.json").read_text())["edits"] == 3

    again = json.loads(done("sync", "--json").out)
    assert (again["applied"], again["exported"]) == (None, None)
    text = (folder / "kbsync.yaml").read_text()
    text = text.replace("steps: '6'", "steps: 7").replace("  to: out", "  to: out\n  format: lora\n  rank: 8")
    (folder / "kbsync.yaml").write_text(text)
    assert json.loads(done("sync", "--json").out)["applied"]["optimised"] == 3
    assert json.loads((folder / "out" / "kbsync.json").read_text())["format"] == "lora"
    assert json.loads((folder / "out" / "adapter_config.json").read_text())["r"] == 8

    facts = dict(list(SWAPPED.items())[:4])
    write_facts(folder / "facts.yaml", P36=facts)
    assert counts(done("sync", "--dry-run", "--json"))["+"] == 1
    assert json.loads(done("sync", "--json").out)["applied"]["edits"] == 4
    assert json.loads((folder / "out" / "kbsync.json").read_text())["edits"] == 4


def test_a_second_run_with_nothing_new_writes_nothing(folder: Path) -> None:
    done("sync")
    before = contents(folder)
    again = json.loads(done("sync", "--json").out)
    assert contents(folder) == before
    (pulled,) = again["pulls"]
    assert (pulled["unchanged"], pulled["new"], pulled["changes"]) == (3, 0, [])
    assert pulled["pull"] == 1  # the one that it repeats
    text = (folder / "kbsync.yaml").read_text()
    (folder / "kbsync.yaml").write_text(text.replace("source: facts.yaml", "source: facts.yaml\n  priority: 1"))
    done("sync")
    assert contents(folder)[".kbsync/ledger.db"] != before[".kbsync/ledger.db"]


def contents(folder: Path) -> dict[str, str]:
    """Return the hashes of all files."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


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


def test_an_export_that_holds_no_edit_does_not_take_the_last_one_s_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (folder / "kbsync.yaml").read_text()
    (folder / "kbsync.yaml").write_text(text.replace("to: out", "to: out\n  format: delta"))
    assert json.loads(done("sync", "--json").out)["probed"]["asked"] == 3
    kept = sorted((path.name, path.read_bytes()) for path in (folder / "out").iterdir())
    write_facts(folder / "facts.yaml", P36=dict(list(SWAPPED.items())[:4]))

    def broken(*_: object, **__: object) -> None:
        raise KbsyncError("the exported files hold 0 of 4 edits")

    monkeypatch.setattr("kbsync.sync.export.probe", broken)
    ran = kbsync("sync")
    assert (ran.code, "hold 0 of 4 edits" in ran.err) == (1, True)
    assert sorted((path.name, path.read_bytes()) for path in (folder / "out").iterdir()) == kept
    assert [path.name for path in folder.iterdir() if path.name.startswith(".out")] == []


def test_the_canaries_beside_the_file_are_asked(folder: Path) -> None:
    (folder / "canaries.yaml").write_text("- {prompt: The capital of Peru is, must_contain: Atlantis}")
    ran = kbsync("sync")
    assert (ran.code, "canary 'The capital of Peru is' fails" in ran.err) == (1, True)
    assert not (folder / "out").exists()
    page = done("status", "--format", "markdown").out
    assert "**The last apply failed, and the state before it stays:** canary" in page


def test_show_says_where_values_come_from(folder: Path) -> None:
    found = {one["name"]: one for one in json.loads(done("config", "show", "--json").out)["values"]}
    assert (found["home"]["origin"], found["settings.steps"]["origin"]) == ("file", "file")
    assert (found["settings.lr"]["origin"], found["settings.steps"]["value"]) == ("default", 6)
    assert found["bounds.max_specificity_loss"]["value"] == 100
    assert "name facts.yaml" in found["sources.0"]["value"]
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


def test_a_page_of_a_sync(folder: Path) -> None:
    page = done("sync", "--format", "markdown").out
    assert "changed in the knowledge base by the newest pulls: 3" in page
    assert "what the model answers since batch 1: 3" in page
    assert "| The capital of France is | Paris |" in page
    write_facts(folder / "facts.yaml", P36=dict(list(SWAPPED.items())[:2]))
    dry = done("sync", "--dry-run", "--format", "html").out
    assert "Knowledge base and model differ in 1 fact" in dry
    assert kbsync("sync", "--format", "html", "--json").code == 2


@needs_browser
def test_the_page_in_a_browser(folder: Path, browser: Chrome) -> None:
    """Two syncs, so that there are plots; then a change, a conflict, and a withdrawal."""
    done("sync")
    write_facts(folder / "facts.yaml", P36=dict(list(SWAPPED.items())[:6]))
    done("sync")
    write_facts(folder / "facts.yaml", P36=dict(list(SWAPPED.items())[1:7]) | {"Norway": "Riga"})
    write_facts(folder / "other.yaml", P36={"Japan": "Vienna"})
    done("pull")
    done("pull", "--relation", "P36", "--source", "other.yaml")
    done("status", "--format", "html", "--to", "report.html")
    page = (folder / "report.html").as_uri()
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        browser.get(page)
        ink, paper = browser.execute_script(
            "const s = getComputedStyle(document.documentElement); return [s.color, s.backgroundColor]"
        )
        assert ink != paper
        for width in WIDTHS:
            as_shown(browser, width, folder / f"page-{scheme}-{width}.png")
            plots = browser.find_elements(By.CSS_SELECTOR, "svg")
            assert plots
            assert all(plot.is_displayed() and min(plot.size.values()) > 0 for plot in plots)
            assert {"!", "~", "-", "+"} <= {one.text for one in browser.find_elements(By.CSS_SELECTOR, "code")}
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    assert {url for url in asked_for(browser, page) if not url.startswith("data:")} == {page}
