"""History and rollback as the ledger has them: no model is loaded."""

import hashlib
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest

from kbsync.errors import LedgerError, SettingsError
from kbsync.ledger import Ledger, Metric
from kbsync.ledger.edits import fail_batch, start_batch
from kbsync.sync.history import history
from kbsync.sync.plan import plan_for
from kbsync.sync.rollback import rollback
from tests.homes import snapshot
from tests.ledger.helpers import apply, fact, model, new_edit, pull


def file_of(home: Path, name: str) -> dict[str, str]:
    """A file beside the ledger, as a batch records it."""
    (home / "tensors").mkdir(exist_ok=True)
    (home / "tensors" / name).write_text(name)
    return {name: hashlib.sha256(name.encode()).hexdigest()}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Three batches of one model: A, B; A changed, B taken out; one that failed; C. And one of another."""
    home = tmp_path / "home"
    with Ledger.open(home) as ledger:
        key = model(ledger)
        pull(ledger, fact("A", "x"), fact("B", "x"))
        first = ledger.facts()
        figures = [Metric("S", 10.0, 90.0), Metric("recall_active", 0.0, 80.0), Metric("perplexity", 3.0, 3.1)]
        apply(
            ledger,
            key,
            added=list(map(new_edit, first)),
            metrics=figures,
            seconds={"total": 2.5},
            files=file_of(home, "1"),
        )
        edits = {edit.subject: edit.id for edit in ledger.active_edits(key)}
        pull(ledger, fact("A", "y"))
        changed = new_edit(ledger.facts(withdrawn=False)[0])
        apply(ledger, key, added=[changed], superseded=[edits["A"]], retracted=[edits["B"]], files=file_of(home, "2"))
        with ledger.writer("apply"):
            fail_batch(ledger, start_batch(ledger, key, "memit", {}, "cpu"), "no memory", {})
        pull(ledger, fact("A", "y"), fact("C", "x"))
        third = next(row for row in ledger.facts() if row.subject_label == "C")
        apply(ledger, key, added=[new_edit(third)], files=file_of(home, "4"))
        other = model(ledger, "model:2", "gpt-j")
        apply(ledger, other, added=[new_edit(third)], files=file_of(home, "5"))
        model(ledger)  # used last
    return home


def back(home: Path, batch: int | None = None, model: str | None = None) -> list[object]:
    """Go back; return the model, both batches, and the edits that ended, are restored, and are active."""
    return [*(rollback(home, batch, model, lambda planned: True) or {}).values()]


def counts(found: dict[str, Any]) -> list[tuple[int, str, int, int, int, int | None]]:
    return [itemgetter("batch", "state", "added", "superseded", "retracted", "active")(b) for b in found["batches"]]


def test_batches_with_what_they_did(home: Path) -> None:
    found = history(home)
    assert counts(found) == [
        (1, "done", 2, 0, 0, 2),
        (2, "done", 1, 1, 1, 1),
        (3, "failed", 0, 0, 0, None),
        (4, "done", 1, 0, 0, 2),
        (5, "done", 1, 0, 0, 1),
    ]
    assert [batch["batch"] for batch in found["batches"] if batch["current"]] == [4, 5]
    first = found["batches"][0]
    assert (first["metrics"], first["seconds"]) == ({"S": 90.0, "recall_active": 80.0, "perplexity": 3.1}, 2.5)
    assert found["batches"][2]["reason"] == "no memory"
    assert {batch["model"] for batch in found["batches"]} == {"practice", "gpt-j"}
    assert found["rollbacks"] == []
    assert [batch["batch"] for batch in history(home, "gpt-j")["batches"]] == [5]


def test_back_by_one_is_the_default(home: Path) -> None:
    assert back(home) == ["practice", 4, 2, 1, 0, 1]
    assert back(home) == ["practice", 2, 1, 1, 2, 2]
    assert back(home) == ["practice", 1, 0, 2, 0, 0]
    with pytest.raises(SettingsError, match="practice is at the base model already: there is nothing to roll back"):
        back(home)
    found = history(home)
    assert [batch["state"] for batch in found["batches"]] == [
        *("rolled back", "rolled back", "failed", "rolled back"),
        "done",
    ]
    assert [batch["active"] for batch in found["batches"]] == [2, 1, None, 2, 1]  # what they were, whatever is current
    assert [(move["model"], move["from_batch"], move["to_batch"]) for move in found["rollbacks"]] == [
        ("practice", 4, 2),
        ("practice", 2, 1),
        ("practice", 1, 0),
    ]
    assert back(home, 4) == ["practice", 0, 4, 0, 2, 2]  # and forward again


def test_the_plan_shows_what_the_model_now_lacks(home: Path) -> None:
    back(home, 1)
    signs = {row.subject: (row.sign, row.previous, row.object) for row in plan_for(home, "practice").rows}
    assert signs == {"A": ("~", "x", "y"), "B": ("-", "x", None), "C": ("+", None, "x")}


def test_a_batch_says_which_model_is_meant(home: Path) -> None:
    assert back(home, 0, "gpt-j") == ["gpt-j", 5, 0, 1, 0, 0]
    assert back(home, 5) == ["gpt-j", 0, 5, 0, 1, 1]  # practice was used last
    assert [batch["batch"] for batch in history(home)["batches"] if batch["current"]] == [4, 5]


def test_refused_it_changes_nothing(home: Path) -> None:
    before = snapshot(home)
    asked: list[dict[str, Any]] = []

    def refuse(planned: dict[str, Any]) -> bool:
        asked.append(planned)
        return False

    assert rollback(home, 1, None, refuse) is None
    assert [(one["to_batch"], one["active"]) for one in asked] == [(1, 2)]
    assert snapshot(home) == before


@pytest.mark.parametrize(
    ("batch", "model", "said"),
    [
        (4, None, "practice is at batch 4 already"),
        (3, None, "batch 3 is failed and left no state"),
        (99, None, "practice has no batch 99: `kbsync history` lists its batches"),
        (5, "practice", "practice has no batch 5"),
        (1, "gpt-2", "model gpt-2 is not on record here; there are practice, gpt-j"),
        (5, None, "gpt-j is at batch 5 already"),
    ],
)
def test_where_there_is_no_going(home: Path, batch: int, model: str | None, said: str) -> None:
    before = snapshot(home)
    with pytest.raises(SettingsError, match=said):
        back(home, batch, model)
    assert snapshot(home) == before


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_state_whose_files_are_not_whole_is_not_gone_to(home: Path, damage: str) -> None:
    path = home / "tensors" / "1"
    if damage == "gone":
        path.unlink()
    else:
        path.write_text("other")
    before = snapshot(home)
    with pytest.raises(
        LedgerError, match=r"cannot go to batch 1: .*tensors/1 is (missing|not what kbsync wrote)"
    ) as told:
        back(home, 1)
    assert str(told.value).endswith("Nothing was changed")
    assert snapshot(home) == before
    assert back(home, 2)
    assert back(home, 0)


def test_nothing_on_record(tmp_path: Path) -> None:
    for look in (history, back):
        with pytest.raises(LedgerError, match="no ledger in"):
            look(tmp_path / "none")
    with Ledger.open(tmp_path / "home"):
        pass
    assert history(tmp_path / "home") == {"batches": [], "rollbacks": []}
    with pytest.raises(SettingsError, match="no model has been edited here yet"):
        back(tmp_path / "home")
