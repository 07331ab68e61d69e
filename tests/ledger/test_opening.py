"""A home is opened, made or refused; the schema is brought up to date."""

import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlite_utils import Database

from kbsync.errors import LedgerError
from kbsync.ledger import Ledger
from kbsync.ledger.migrations import STEPS, migrate
from tests.ledger.helpers import ROOT, apply, fact, model, pull

TABLES = {
    *("pulls", "facts", "fact_history", "conflicts", "models"),
    *("targets", "answers", "batches", "edits", "metrics"),
    *(
        "endings",
        "rollbacks",
        "vetoes",
        "aliases",
        "file_readings",
        "pages",
        "sources",
        "streams",
        "seals",
        "skipped",
        "base_scores",
    ),
}


def version(db: Database) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def test_a_blank_home_gets_all_tables_and_views(home: Path) -> None:
    with Ledger.open(home / "deep" / "er") as ledger:
        assert set(ledger.db.table_names()) == TABLES
        assert set(ledger.db.view_names()) == {"v_status", "v_edits"}
        assert version(ledger.db) == len(STEPS)
        assert ledger.db.journal_mode == "wal"
        assert ledger.db.execute("PRAGMA foreign_keys").fetchone() == (1,)


def test_opened_again_it_holds_what_it_held(home: Path) -> None:
    with Ledger.open(home) as ledger:
        pull(ledger, fact("A", "x"))
    with Ledger.open(home, create=False) as ledger:
        assert [row.fact for row in ledger.facts()] == [fact("A", "x")]
        assert ledger.db.execute("PRAGMA foreign_keys").fetchone() == (1,)


def test_a_failing_step_leaves_the_version_before_it() -> None:
    db = Database(memory=True)

    def broken(db: Database) -> None:
        db.execute("CREATE TABLE half (a)")
        db.execute("INSERT INTO nowhere VALUES (1)")

    with pytest.raises(sqlite3.OperationalError):
        migrate(db, [*STEPS, broken])
    assert version(db) == len(STEPS)
    assert set(db.table_names()) == TABLES
    later: list[str] = []
    migrate(db, [*STEPS, lambda db: later.append("ran")])
    migrate(db, [*STEPS, lambda db: later.append("ran")])
    assert later == ["ran"]


def test_processes_that_open_a_blank_home_together(home: Path) -> None:
    code = "import sys, pathlib; from kbsync.ledger import Ledger; Ledger.open(pathlib.Path(sys.argv[1])).close()"
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(home)], stderr=subprocess.PIPE, cwd=ROOT) for _ in range(4)
    ]
    for process in running:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors.decode()
    with Ledger.open(home, create=False) as ledger:
        assert set(ledger.db.table_names()) == TABLES


def test_no_ledger_to_read(home: Path) -> None:
    with pytest.raises(LedgerError, match=r"no ledger in .*home: run `kbsync pull` first"):
        Ledger.open(home, create=False)
    assert not home.exists()


def test_an_empty_database_file_is_no_ledger_yet(home: Path) -> None:
    home.mkdir()
    (home / "ledger.db").touch()  # as left by a process that was killed while it made the ledger
    with pytest.raises(LedgerError, match="no ledger in"):
        Ledger.open(home, create=False)
    assert (home / "ledger.db").stat().st_size == 0
    with Ledger.open(home) as ledger:
        assert set(ledger.db.table_names()) == TABLES


@pytest.mark.parametrize("create", [True, False])
def test_a_newer_schema_is_refused_and_left_alone(home: Path, create: bool) -> None:
    with Ledger.open(home) as ledger:
        ledger.db.execute("PRAGMA user_version = 99")
    with pytest.raises(LedgerError, match=r"ledger\.db has schema 99, .*upgrade kbsync"):
        Ledger.open(home, create=create)
    with sqlite3.connect(home / "ledger.db") as db:
        assert db.execute("PRAGMA user_version").fetchone() == (99,)
    db.close()


@pytest.mark.parametrize("create", [True, False])
def test_a_file_that_is_no_database(home: Path, create: bool) -> None:
    home.mkdir()
    (home / "ledger.db").write_bytes(b"these are my notes " * 100)
    with pytest.raises(LedgerError, match=r"ledger\.db is not a SQLite database: move it away"):
        Ledger.open(home, create=create)
    assert (home / "ledger.db").read_bytes() == b"these are my notes " * 100


def test_another_programs_database_is_not_touched(home: Path) -> None:
    home.mkdir()
    db = sqlite3.connect(home / "ledger.db")
    db.execute("CREATE TABLE notes (text)")
    db.close()
    before = (home / "ledger.db").read_bytes()
    with pytest.raises(LedgerError, match="another program's database"):
        Ledger.open(home)
    assert (home / "ledger.db").read_bytes() == before


def test_a_damaged_ledger_is_told(home: Path) -> None:
    with Ledger.open(home) as ledger:
        pull(ledger, *(fact(f"S{place}", f"o{place}") for place in range(2000)))
    path = home / "ledger.db"
    content = bytearray(path.read_bytes())
    content[4096 * 12 :] = b"\xff" * (len(content) - 4096 * 12)
    path.write_bytes(content)
    with pytest.raises(LedgerError, match=r"ledger\.db: .*the file is damaged"), Ledger.open(home) as ledger:
        ledger.facts()


def test_home_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for create in (True, False):
        with pytest.raises(LedgerError, match="file is a file, not a folder"):
            Ledger.open(tmp_path / "file", create=create)
    with pytest.raises(LedgerError, match=r"cannot use .*below.* as a home"):
        Ledger.open(tmp_path / "file" / "below")


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder for a user who is not root (root may write everywhere): tmp_path is closed to others."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("home", ["", "below"])
def test_a_home_that_cannot_be_written(reachable: Path, home: str) -> None:
    code = (
        "import os, sys, pathlib\nfrom kbsync.errors import LedgerError\nfrom kbsync.ledger import Ledger\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "try: Ledger.open(pathlib.Path(sys.argv[1]))\nexcept LedgerError as error: print(error)"
    )
    reachable.chmod(0o555)
    command = [sys.executable, "-c", code, str(reachable / home)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert str(reachable) in done.stdout, done.stderr
    assert "choose another --home" in done.stdout
    assert list(reachable.iterdir()) == []


READ = """
import importlib.metadata, os, pathlib, sys, sqlite_utils
from filelock import FileLock, Timeout
from kbsync.errors import LedgerError
from kbsync.ledger import Ledger
sqlite_utils.Database(memory=True)  # so that nothing is left to be imported by a user who may not
FileLock(os.devnull)
if os.geteuid() == 0: os.setuid(65534)
try:
    with Ledger.open(pathlib.Path(sys.argv[1]), create=False) as ledger:
        print(*(row.subject_label for row in ledger.facts()), len(ledger.batches()))
        with ledger.writer("apply"): pass
except LedgerError as error:
    print(error)
"""


def test_a_home_that_can_only_be_read_is_read(reachable: Path) -> None:
    home = reachable / "home"
    with Ledger.open(home) as ledger:
        pull(ledger, fact("A", "x"), fact("B", "x"))
        apply(ledger, model(ledger))
    assert not (home / "ledger.db-wal").exists()
    home.chmod(0o555)
    done = subprocess.run([sys.executable, "-c", READ, str(home)], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.stdout.splitlines()[0] == "A B 1", done.stderr
    assert "cannot write" in done.stdout.splitlines()[1]
    assert sorted(path.name for path in home.iterdir()) == ["ledger.db", "lock"]
    home.chmod(0o755)


def test_reading_never_loads_torch(home: Path) -> None:
    with Ledger.open(home) as ledger:
        pull(ledger, fact("A", "x"))
    code = (
        "import sys, pathlib\nfrom kbsync.ledger import Ledger\n"
        "with Ledger.open(pathlib.Path(sys.argv[1]), create=False) as ledger:\n"
        "    assert len(ledger.facts()) == 1\n"
        "    with ledger.writer('test'): pass\n"
        "assert not {'torch', 'safetensors'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(home)], check=True, timeout=60, cwd=ROOT)


def test_disk_full_is_told_and_changes_nothing(ledger: Ledger) -> None:
    pull(ledger, fact("A", "x"))
    pages = ledger.db.execute("PRAGMA page_count").fetchone()[0]
    ledger.db.execute(f"PRAGMA max_page_count = {pages + 1}").fetchone()
    with pytest.raises(LedgerError, match=r"ledger\.db: .*full.*room"):
        pull(ledger, *(fact(f"S{place}", f"o{place}") for place in range(2000)))
    with pytest.raises(LedgerError, match=r"full.*room"), ledger.writing():
        ledger.db.execute("CREATE TABLE large AS SELECT randomblob(1000000) AS blob")
    assert [row.fact for row in ledger.facts()] == [fact("A", "x")]
    assert len(ledger.pulls()) == 1
