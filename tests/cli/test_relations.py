"""``kbsync relations``: the table, and the search."""

from pathlib import Path

import pytest

from tests.conftest import Run
from tests.homes import make_home


def test_the_table_and_its_json(run: Run, tmp_path: Path) -> None:
    make_home(tmp_path / "home", P36={"France": "Paris", "Peru": "Lima"})
    ran = run("relations", "--home", "home")
    assert ran.code == 0, ran.err
    assert ["P36", "capital", "yes", "2", "0", "-"] in [line.split() for line in ran.out.splitlines()]
    assert "no model has been asked yet" in ran.out
    found = run("relations", "--home", "home", "--json").json
    assert found["model"] is None
    (row,) = [row for row in found["relations"] if row["relation"] == "P36"]
    assert row == {
        **{"relation": "P36", "label": "capital", "template": True},
        **{"facts": 2, "conflicts": 0, "asked": 0, "known": None},
    }


def test_the_search(run: Run) -> None:
    ran = run("relations", "--search", "head of state")
    rows = [line.split() for line in ran.out.splitlines()]
    assert [row[0] for row in rows if row and row[0].startswith("P")] == ["P35"]
    assert run("relations", "--search", "head of state", "--json").json["relations"][0]["relation"] == "P35"
    assert (
        "no relation with 'zzz': try another word (--online asks an endpoint)"
        in run("relations", "--search", "zzz").out
    )


def test_online_needs_a_word_and_an_endpoint(run: Run) -> None:
    assert run("relations", "--online").code == 2
    ran = run("relations", "--online", "--search", "x", "--source", "facts.yaml")
    assert (ran.code, ran.out) == (1, "")
    assert "'facts.yaml' is not an http(s) address" in ran.err


@pytest.mark.parametrize(
    "command",
    [("relations",), ("relations", "--search", "capital"), ("eval", "--model", "practice", "--dataset", "x.json")],
)
def test_a_home_that_was_named_and_is_not_there(command: tuple[str, ...], run: Run, tmp_path: Path) -> None:
    ran = run(*command, "--home", tmp_path / "mistyped")
    assert ran.code == 1
    assert ran.err.splitlines()[-1].startswith(f"Error: no ledger in {tmp_path / 'mistyped'}: name another --home")
