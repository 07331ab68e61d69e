"""``kbsync plan`` and ``kbsync status``: exit codes, JSON, and what they do not load."""

from pathlib import Path

import pytest

from kbsync.ledger import Ledger
from tests.cli.test_main import loads_none_of
from tests.conftest import Run
from tests.ledger.helpers import apply, fact, model, new_edit, pull

KEYS = {"model", "counts", "facts", "metrics"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home that knows one fact and a model without edits."""
    with Ledger.open(tmp_path / ".kbsync") as ledger:
        pull(ledger, fact("Ada", "Babbage", "works_with"), relation="works_with")
        pull(ledger, fact("Q142/France", "Q90/Paris"))
        model(ledger)
    return tmp_path / ".kbsync"


def test_json(home: Path, run: Run) -> None:
    made = run("plan", "--model", "practice", "--json").json
    assert made.keys() == KEYS
    assert made["counts"] == {"+": 1, "~": 0, "-": 0, "=": 0, "k": 0, "!": 0, "?": 1, "x": 0}
    assert [row["sign"] for row in made["facts"]] == ["+", "?"]
    assert run("status", "--json").json == {**made, "notes": []}


def test_check_exits_3_where_there_is_a_difference(home: Path, run: Run) -> None:
    for command in (("plan", "--model", "practice"), ("status",)):
        assert run(*command).code == 0
        ran = run(*command, "--check")
        assert ran.code == 3
        assert "France" in ran.out
        # Of works_with, nothing can be edited: that is no difference.
        ran = run(*command, "--check", "--relation", "works_with")
        assert ran.code == 0
        assert "nothing to apply; what is left: 1 without a template (`kbsync templates new`)" in ran.out


def test_status_after_the_first_pull_shows_the_knowledge_base(tmp_path: Path, run: Run) -> None:
    rows = ("France,P36,Paris", "Bolivia,P36,Sucre", "Bolivia,P36,La Paz", "Ada,works_with,Babbage")
    (tmp_path / "facts.csv").write_text("\n".join(("subject,relation,object", *rows)), encoding="utf-8")
    assert run("pull", "--source", "facts.csv", "--relation", "P36", "--relation", "works_with").code == 0
    ran = run("status")
    assert (ran.code, ran.err) == (0, "")
    shown = [line.split() for line in ran.out.splitlines()]
    assert ran.out.splitlines()[0].strip() == "no model edited yet"
    assert ["+", "P36", "France", "Paris", "new"] in shown
    assert any(line[:3] == ["!", "P36", "Bolivia"] for line in shown)
    assert any(line[:4] == ["?", "works_with", "Ada", "Babbage"] for line in shown)
    told = run("status", "--json").json
    assert (told["model"], told["metrics"]) == (None, {})
    assert {sign: count for sign, count in told["counts"].items() if count} == {"+": 1, "!": 1, "?": 1}


def test_a_withdrawn_edit_is_a_difference_and_a_kept_one_is_not(home: Path, run: Run) -> None:
    with Ledger.open(home) as ledger:
        (row,) = ledger.facts(["P36"])
        apply(ledger, "model:1", added=[new_edit(row)])
        pull(ledger)
    ran = run("status", "--check", "--json")
    assert (ran.code, ran.json["counts"]["-"]) == (3, 1)
    assert ran.json["facts"][0] == {
        "sign": "-",
        "subject": "France",
        "relation": "P36",
        "object": None,
        "previous": "Paris",
        "reason": "withdrawn from the source",
        "sources": [],
    }


@pytest.mark.usefixtures("home")
def test_torch_is_not_loaded(tmp_path: Path) -> None:
    libraries = {"torch", "transformers", "accelerate", "pyoxigraph", "pandas"}
    commands = [["status"], ["plan", "--model", "practice"], ["status", "--json"]]
    assert all("France" in out for out in loads_none_of(libraries, commands, tmp_path))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plan", "--model", "practice", "--relation", "P17 } #"], "'P17 } #' is not a relation id"),
        (["status", "--relation", "P17 } #"], "'P17 } #' is not a relation id"),
        (["plan", "--model", " "], "the model's name is empty"),
        (["plan", "--model", "practice", "--home", "nosuch"], "no ledger in nosuch: run `kbsync pull` first"),
        (["status", "--home", "nosuch"], "no ledger in nosuch: run `kbsync pull` first"),
    ],
)
def test_bad_input(arguments: list[str], said: str, home: Path, run: Run, tmp_path: Path) -> None:
    ran = run(*arguments)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"Error: {said}")
    assert ran.err.count("\n") == 1
    assert not (tmp_path / "nosuch").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan"],
        ["apply"],
        ["ask", "--model", "practice"],
        ["export", "--model", "practice"],
        ["plan", "--on-conflict", "x"],
    ],
)
def test_wrong_usage(arguments: list[str], run: Run) -> None:
    ran = run(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert "Usage: kbsync" in ran.err


def test_demo_has_help(run: Run) -> None:
    ran = run("demo", "--help")
    assert ran.code == 0
    assert "Show everything in a temporary home" in ran.out
