"""``history``, ``log``, ``rollback``, ``retract``, ``verify`` on the command line: JSON, exit codes, what they load."""

from pathlib import Path

import pytest

from kbsync.ledger import Ledger, Metric
from kbsync.ledger.facts import record_vetoes
from tests.cli.test_main import loads_none_of
from tests.conftest import Run
from tests.ledger.helpers import apply, fact, model, new_edit, pull


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with two batches."""
    with Ledger.open(tmp_path / ".kbsync") as ledger:
        key = model(ledger)
        pull(ledger, fact("Q142/France", "Q90/Paris"), fact("Q183/Germany", "Q64/Berlin"))
        france, germany = ledger.facts()
        apply(ledger, key, added=[new_edit(france)], metrics=[Metric("S", 10.0, 91.25), Metric("ES", 0.0, 100.0)])
        apply(ledger, key, added=[new_edit(germany)])
    return tmp_path / ".kbsync"


@pytest.mark.usefixtures("home")
def test_history(run: Run) -> None:
    made = run("history", "--json").json
    assert made.keys() == {"batches", "rollbacks"}
    first, second = made["batches"]
    assert (first["batch"], first["state"], first["current"], first["active"]) == (1, "done", False, 1)
    assert first["metrics"] == {"S": 91.25, "recall_active": None, "perplexity": None}
    assert (second["batch"], second["current"], second["active"]) == (2, True, 2)
    ran = run("history")
    assert "91.25" in ran.out
    assert run("rollback", "--yes").code == 0
    ran = run("history")
    assert "rolled back" in ran.out
    assert "rollbacks" in ran.out
    assert run("history", "--json").json["rollbacks"][0]["to_batch"] == 1


@pytest.mark.usefixtures("home")
def test_rollback(run: Run) -> None:
    made = run("rollback", "--yes", "--json").json
    assert made == {"model": "practice", "from_batch": 2, "to_batch": 1, "ended": 1, "restored": 0, "active": 1}
    assert "from batch 1 to the base model; edits: 1 out, 0 back, 0 active in all" in run("rollback", "0", "--yes").out
    ran = run("rollback", "2")  # nobody there to answer
    assert ran.code == 1
    assert "from the base model to batch 2" in ran.err
    assert [batch["current"] for batch in run("history", "--json").json["batches"]] == [False, False]


@pytest.mark.usefixtures("home")
def test_log(run: Run) -> None:
    made = run("log", "--fact", "France P36", "--json").json
    assert (made["subject"], made["ids"]) == ("France", ["Q142"])
    assert [event["event"] for event in made["events"]] == ["new", "edited"]
    assert run("log", "--subject", "Q142", "--relation", "P36", "--json").json == made
    ran = run("log", "--subject", "Germany")
    assert "Berlin" in ran.out
    assert "pull 1" in ran.out


@pytest.mark.usefixtures("home")
def test_verify(home: Path, run: Run) -> None:
    made = run("verify", "--json").json
    assert made["whole"]
    assert made["checks"][0] == {"name": "database", "checked": 1, "faults": []}
    with Ledger.open(home) as ledger, ledger.writing() as db:
        db.execute("UPDATE edits SET request = 'request1:0' WHERE id = 2")
    ran = run("verify")
    assert ran.code == 1
    assert "requests: edit 2 (P36 of Germany, batch 2): its prompt, subject or object does not match" in ran.out
    assert "something is wrong; nothing was repaired" in ran.out


@pytest.mark.usefixtures("home")
def test_a_veto_without_a_model(run: Run) -> None:
    run("rollback", "0", "--yes")
    made = run("retract", "--subject", "France", "--relation", "P36", "--reason", "a test", "--yes", "--json").json
    assert made["applied"] is None
    assert made["retraction"] == {
        **{"subject": "France", "relation": "P36", "objects": ["Paris"], "model": "practice"},
        **{"written": [], "others": []},
    }
    row = run("plan", "--model", "practice", "--json").json["facts"][-1]
    assert (row["sign"], row["subject"], row["reason"][-8:]) == ("!", "France", ": a test")
    made = run("retract", "--subject", "France", "--relation", "P36", "--undo", "--json").json
    assert made == {"lifted": [{"subject": "France", "relation": "P36", "object": None}]}
    assert run("plan", "--model", "practice", "--json").json["counts"]["+"] == 2
    ran = run("retract", "--subject", "Germany", "--relation", "P36", "--object", "berlin")
    assert ran.code == 1
    assert "P36 of Germany: Berlin\nnot written into practice: nothing to take out" in ran.err
    ran = run("retract", "--subject", "Germany", "--relation", "P36", "--object", "berlin", "--yes")
    assert "P36 of Germany (Berlin) is retracted: no apply writes it until `kbsync retract --undo`" in ran.out
    assert (
        "P36 of Germany (Berlin): the next apply writes it again"
        in run("retract", "--subject", "Germany", "--relation", "P36", "--undo").out
    )


def test_torch_is_not_loaded(home: Path, tmp_path: Path) -> None:
    commands = [
        ["history"],
        ["log", "--fact", "France P36"],
        ["verify"],
        ["retract", "--subject", "Germany", "--relation", "P36", "--undo"],
        ["rollback", "--yes"],
    ]
    with Ledger.open(home) as ledger:
        record_vetoes(ledger, ledger.facts(), any_object=True, reason=None)
    loads_none_of({"torch", "transformers", "safetensors", "pyoxigraph"}, commands, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["log"], "name one fact: --fact 'France P36', or --subject France --relation P36"),
        (["log", "--fact", "France P36", "--subject", "France"], "name one fact"),
        (["log", "--fact", "France P36", "--relation", "P36"], "name one fact"),
        (["log", "--fact", "Frence P36"], "P36 of 'Frence' is not on record: did you mean France?"),
        (
            ["retract", "--subject", "France", "--relation", "P99"],
            "no fact of P99 is on record: there are facts of P36",
        ),
        (["retract", "--subject", "France", "--relation", "P36", "--undo"], "P36 of France is not retracted"),
        (
            ["retract", "--subject", "x", "--relation", "P36", "--undo", "--reason", "y"],
            "--undo allows the fact again in all",
        ),
        (["rollback", "7"], "practice has no batch 7: `kbsync history` lists its batches"),
        (["history", "--model", "gpt-9"], "model gpt-9 is not on record here; there are practice"),
        (["verify", "--home", "nosuch"], "no ledger in nosuch"),
    ],
)
@pytest.mark.usefixtures("home")
def test_bad_input(arguments: list[str], said: str, run: Run) -> None:
    ran = run(*arguments)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"Error: {said}")
    assert ran.err.count("\n") == 1
