"""The whole story by the command line, on the practice model and a SPARQL server: the demo, smaller."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kbsync.ledger import FactRow, Ledger
from tests.homes import Editable, done, kbsync, practice_model
from tests.oxigraph_server import serve
from tests.test_readme import fewer_facts

COUNTRIES = 80
EDITS = 5


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The later edition, with the continents of some countries."""
    path = tmp_path_factory.mktemp("facts") / "later.ttl"
    fewer_facts(path, COUNTRIES)
    return path


@pytest.fixture(scope="module")
def endpoint(later: Path) -> Iterator[str]:
    with serve(later) as url:
        yield url


@pytest.fixture(scope="module")
def practice(tmp_path_factory: pytest.TempPathFactory) -> Editable:
    return practice_model(tmp_path_factory.getbasetemp(), "steps=15")


@pytest.fixture(scope="module")
def told(endpoint: str, practice: Editable, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A home after pull, plan and apply, and the JSON of each command."""
    home = tmp_path_factory.mktemp("story") / "home"
    said = {"pull": done("pull", "--home", home, "--relation", "P30", "--source", endpoint, "--json").json}
    said["plan"] = done("plan", "--home", home, *practice.model, "--json").json
    said["apply"] = practice.apply(home, "--limit", EDITS)
    said["status"] = done("status", "--home", home, "--json").json
    return home, said


def test_pull_and_plan(told: tuple[Path, dict[str, Any]]) -> None:
    (pulled,) = told[1]["pull"]["pulls"]
    assert pulled["new"] >= COUNTRIES
    assert pulled["relation"] == "P30"
    counts = told[1]["plan"]["counts"]
    assert counts["+"] + counts["!"] >= COUNTRIES
    assert counts["k"] == 0  # nobody has asked the model yet


def test_the_model_learns(told: tuple[Path, dict[str, Any]]) -> None:
    applied = told[1]["apply"]
    assert (applied["edits"], applied["optimised"]) == (EDITS, EDITS)
    for name in ("ES", "PS", "S", "recall"):
        assert applied["metrics"][name]["after"] > applied["metrics"][name]["before"], name
    assert applied["metrics"]["ES"]["after"] >= 75
    assert applied["metrics"]["NS"]["after"] >= 75


def test_status_tells_what_is_done_and_what_is_left(told: tuple[Path, dict[str, Any]]) -> None:
    home, said = told
    status = said["status"]
    assert status["model"] == "practice"
    assert status["counts"]["="] + status["counts"]["x"] == EDITS
    assert status["counts"]["x"] == len(said["apply"]["failed"])
    assert status["counts"]["k"] > COUNTRIES / 2  # the practice model knows the earlier edition
    assert status["counts"]["+"] > 0
    assert status["metrics"] == said["apply"]["metrics"]
    assert kbsync("status", "--home", home, "--check").code == 3


def test_ask_shows_base_and_edited(told: tuple[Path, dict[str, Any]]) -> None:
    home, said = told
    failed = {row["subject"] for row in said["apply"]["failed"]}
    with Ledger.open(home, create=False) as ledger:
        edits = ledger.edits(said["apply"]["batch"])
    edit = next(edit for edit in edits if edit.subject not in failed)
    prompt = edit.prompt.format(edit.subject)
    (answer,) = done("ask", "--home", home, "--model", "practice", prompt, "--json").json["answers"]
    assert answer["prompt"] == prompt
    assert answer["edited"][0]["text"] == edit.object
    assert answer["base"][0]["text"] != edit.object
    (alone,) = done("ask", "--home", home, "--model", "practice", prompt, "--base", "--json").json["answers"]
    assert (alone["base"], alone["edited"]) == (answer["base"], None)
    shown = done("ask", "--home", home, "--model", "practice", prompt).out
    assert prompt in " ".join(shown.split())
    assert "edited" in shown


def test_the_file_gives_the_same_facts_as_the_server(
    told: tuple[Path, dict[str, Any]], later: Path, tmp_path: Path
) -> None:
    done("pull", "--home", tmp_path / "home", "--relation", "P30", "--source", later)

    def facts(home: Path) -> set[tuple[str | None, ...]]:
        def values(row: FactRow) -> tuple[str | None, ...]:
            return (row.subject_id, row.subject_label, row.object_id, row.object_label, row.rank, row.since)

        with Ledger.open(home, create=False) as ledger:
            return {values(row) for row in ledger.facts()}

    assert facts(tmp_path / "home") == facts(told[0])
