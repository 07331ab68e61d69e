"""``kbsync eval`` as from a shell, on the practice model."""

from pathlib import Path

import pytest

from kbsync.resources import fixtures_folder
from tests.conftest import Run
from tests.homes import WIDE, Editable, done, practice_model, pull

NAMES = ("ES", "PS", "NS", "EM", "PM", "NM", "efficacy", "paraphrase", "specificity", "recall", "GE", "RS")
SETS = fixtures_folder()


@pytest.fixture(scope="module")
def practice(tmp_path_factory: pytest.TempPathFactory) -> Editable:
    return practice_model(tmp_path_factory.getbasetemp(), "steps=15", "contexts=1")


@pytest.fixture(scope="module")
def home(practice: Editable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three edits of the practice model."""
    home = tmp_path_factory.mktemp("practice") / "home"
    pull(home, P36={"France": "Lyon", "Japan": "Oslo", "Kenya": "Nairobi"}, P37={"Slovakia": "Turkish"})
    done("apply", "--home", home, *practice.solving, *WIDE, "--yes")
    return home


def test_the_ledgers_edits(run: Run, home: Path) -> None:
    ran = run("eval", "--home", home, "--model", "practice", "--metrics", ",".join(NAMES), "--json")
    assert ran.code == 0, ran.err
    found = ran.json
    assert (found["model"], found["measured"], found["cases"], found["batch"]) == ("practice", "ledger", 3, 1)
    assert found["base"].keys() == found["edited"].keys() == {*NAMES, "S", "score"}
    assert found["edited"]["recall"] > found["base"]["recall"] == 0
    assert found["edited"]["ES"] > found["base"]["ES"]
    low, high = found["intervals"]["edited"]["ES"]
    assert low <= found["edited"]["ES"] <= high
    assert {name: one["cases"] for name, one in found["relations"].items()} == {"P36": 2, "P37": 1}
    status = run("status", "--home", home, "--json").json["metrics"]
    assert status["eval_GE"] == {"before": found["base"]["GE"], "after": found["edited"]["GE"]}


@pytest.mark.parametrize(("name", "figure"), [("counterfact", "NS"), ("zsre", "specificity")])
def test_a_data_set(name: str, figure: str, run: Run, home: Path, practice: Editable) -> None:
    file, text = SETS / f"{name}-practice.json", ("--corpus", practice.corpus)
    found = run("eval", "--home", home, *practice.model, *text, "--dataset", file, "--sample", 6, "--json").json
    assert (found["cases"], found["unplaced"], found["batch"]) == (6, 0, None)
    assert found["base"][figure] > 90  # the practice model knows the facts that no record edits
    assert found["base"]["S" if name == "counterfact" else "score"] < 60


def test_the_tables(run: Run, home: Path, practice: Editable) -> None:
    ran = run("eval", "--home", home, *practice.model, "--corpus", practice.corpus)
    assert "practice: 3 cases of the ledger's edits" in ran.out
    assert "on record with batch 1" in ran.out
    assert "0.0 → 100.0" in ran.out
    assert " lines of practice-corpus.txt" in ran.out
    assert "lower is better: " in ran.out
    assert "measuring, edited model" in ran.err
    assert "measuring perplexity, edited model" in ran.err
    file = SETS / "zsre-practice.json"
    ran = run("eval", "--model", "practice", "--dataset", file, "--sample", 2, "--metrics", "efficacy")
    assert "this home has no edits of the model: only the base model was measured" in ran.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--metrics", "BLEU"], "unknown metric BLEU"),
        (["--dataset", "nosuch.json"], "nosuch.json: cannot be read"),
        (["--dataset", SETS / "zsre-practice.json", "--metrics", "ES"], "ES: no case has what this needs"),
        ([], "no ledger in .kbsync"),
    ],
)
def test_bad_input(arguments: list[object], said: str, run: Run) -> None:
    ran = run("eval", "--model", "practice", *arguments)
    assert (ran.code, ran.out) == (1, "")
    assert f"Error: {said}" in ran.err
