"""Files that were cut or changed: told by name with what to do, and what the message says helps."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from kbsync.ledger import Ledger
from tests.homes import SWAPPED, Editable, deltas_of, difference, kbsync, make_home, pull

BEFORE = {country: SWAPPED[country] for country in ("France", "Norway")}
AFTER = {**BEFORE, "Japan": SWAPPED["Japan"]}


@pytest.fixture(scope="module")
def kept(small: Editable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two edits, and a fact that is still to be applied."""
    home = make_home(tmp_path_factory.mktemp("damage") / "home", P36=BEFORE)
    small.apply(home)
    pull(home, P36=AFTER)
    with closing(sqlite3.connect(home / "ledger.db")) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return home


@pytest.fixture
def home(kept: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(kept, tmp_path / "home"))


@pytest.fixture(scope="module")
def calm(kept: Path, small: Editable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What it becomes without damage."""
    home = Path(shutil.copytree(kept, tmp_path_factory.mktemp("whole") / "home"))
    small.apply(home)
    return home


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-40] ^= 4
    path.write_bytes(content)


def refused(home: Path, *arguments: object) -> str:
    ran = kbsync(*arguments, "--home", home)
    assert (ran.code, ran.out) == (1, "")
    assert "Traceback" not in ran.err
    return ran.err.splitlines()[-1]


def target_file(home: Path) -> Path:
    with Ledger.open(home, create=False) as ledger:
        return ledger.tensors / ledger.targets()[0].file


def covariance_file(home: Path) -> Path:
    return sorted((home / "tensors").glob("covariance2-*"))[0]


@pytest.mark.parametrize("damage", [cut, flipped])
@pytest.mark.parametrize("file", [target_file, covariance_file])
def test_a_tensor_file(
    file: Callable[[Path], Path], damage: Callable[[Path], None], home: Path, calm: Path, small: Editable
) -> None:
    path, before = file(home), deltas_of(home)
    damage(path)
    said = refused(home, "apply", *small.arguments, "--yes")
    assert said.startswith(f"Error: {path} is ")
    assert "delete it" in said
    assert difference(deltas_of(home), before) == 0
    path.unlink()
    assert small.apply(home)["edits"] == len(AFTER)
    assert difference(deltas_of(home), deltas_of(calm)) < 1e-4


@pytest.mark.parametrize("command", ["apply", "status", "plan", "pull", "verify"])
def test_a_ledger_that_was_cut(command: str, home: Path, small: Editable) -> None:
    path = home / "ledger.db"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    arguments = {
        "apply": ("apply", *small.arguments, "--yes"),
        "plan": ("plan", *small.model),
        "pull": ("pull", "--relation", "P36", "--source", home / "facts.yaml"),
    }.get(command, (command,))
    ran = kbsync(*arguments, "--home", home)
    assert ran.code == 1
    assert str(path) in ran.err + ran.out
    assert "Traceback" not in ran.err
    assert "malformed" in ran.err + ran.out or "damaged" in ran.err + ran.out


EDITED = "UPDATE edits SET object = 'Lima' WHERE subject = 'France'"
OTHER_ROW = "UPDATE targets SET row = 1 - row"
NO_JSON = "UPDATE batches SET settings = substr(settings, 2)"


@pytest.mark.parametrize(
    ("change", "named"), [(EDITED, "of edits"), (OTHER_ROW, "target vectors"), (NO_JSON, "of batches")]
)
def test_a_changed_row_makes_no_other_model(change: str, named: str, home: Path, small: Editable) -> None:
    with closing(sqlite3.connect(home / "ledger.db")) as db, db:
        db.execute(change)
    said = refused(home, "apply", *small.arguments, "--yes")
    assert str(home / "ledger.db") in said
    assert named in said
    assert "restore a copy" in said


def test_a_row_that_sqlite_finds_damaged(home: Path, small: Editable) -> None:
    """An index that has lost an entry: each statement still runs, and finds too little."""
    with closing(sqlite3.connect(home / "ledger.db")) as db, db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'edits_active'").fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    path = home / "ledger.db"
    content = bytearray(path.read_bytes())
    count = (root - 1) * size + 3
    content[count : count + 2] = (int.from_bytes(content[count : count + 2], "big") - 1).to_bytes(2, "big")
    path.write_bytes(content)
    assert str(path) in refused(home, "apply", *small.arguments, "--yes")
