"""A ledger with changed bytes: each command tells it in one error, or gives what it gave; none fails in its own way."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbsync.ledger import Ledger
from kbsync.ledger.edits import roll_back
from kbsync.ledger.facts import record_vetoes
from tests.fuzz import damaged, each, within_memory
from tests.homes import kbsync, write_facts
from tests.ledger.helpers import apply, fact, model, new_edit, pull

COMMANDS = (
    ("status",),
    ("plan", "--model", "practice", "--json"),
    ("history",),
    ("log", "--fact", "A P36"),
    ("verify",),
    ("relations",),
    ("rollback", "0", "--yes"),
    ("pull", "--relation", "P36", "--source"),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with facts, conflicts, two batches, a rollback and a suppression."""
    home = tmp_path_factory.mktemp("whole") / "home"
    with Ledger.open(home) as ledger:
        pull(ledger, fact("Q1/A", "Q2/x"), fact("B", "x"), fact("C", "x"), fact("C", "y"), source="wikidata")
        rows = {row.subject_label: row for row in ledger.facts()}
        one = model(ledger)
        first = apply(ledger, one, added=[new_edit(rows["A"])], files={"d1": "aa"})
        last = apply(ledger, one, added=[new_edit(rows["B"])], files={"d2": "bb"})
        roll_back(ledger, one, first)
        roll_back(ledger, one, last)
        record_vetoes(ledger, [rows["B"]], any_object=True, reason="wrong")
    with Ledger.open(home) as ledger:
        ledger.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    write_facts(home / "facts.yaml", P36={"A": "z"})
    return home


@each(0.5)
@given(data=st.data())
def test_damaged_ledgers(data: st.DataObject, whole: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    home = Path(shutil.copytree(whole, tmp_path_factory.mktemp("damaged") / "home"))
    path = home / "ledger.db"
    content = path.read_bytes()
    if data.draw(st.booleans(), label="in place"):
        place = data.draw(st.integers(0, len(content) - 1), label="place")
        new = data.draw(st.binary(min_size=1, max_size=16), label="bytes")
        path.write_bytes(content[:place] + new + content[place + len(new) :])
    else:
        path.write_bytes(damaged(data, content))
    command = data.draw(st.sampled_from(COMMANDS), label="command")
    ran = kbsync(*command, *([home / "facts.yaml"] if command[0] == "pull" else []), "--home", home)
    assert ran.code in (0, 1, 3)
    assert "has a bug" not in ran.err
    assert "Traceback" not in ran.err
    within_memory()
    shutil.rmtree(home.parent)
