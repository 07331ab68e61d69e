"""ledger.db and the writer's lock: opening, transactions, and who may change a model's state."""

import datetime
import json
import logging
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

from kbsync.errors import LedgerBusyError, LedgerError

if TYPE_CHECKING:
    from filelock import BaseFileLock

# sqlite-utils imports pandas where that is installed, for tables that kbsync never makes: most of a second for each
# command. It goes without where the import fails.
_blocked = "pandas" not in sys.modules and sys.modules.setdefault("pandas", None) is None  # type: ignore[arg-type]
try:
    from sqlite_utils import Database
finally:
    if _blocked:
        del sys.modules["pandas"]

# Marks a SQLite file as a kbsync ledger ("kbsy"), so that no other program's database is ever written to.
APPLICATION_ID = 0x6B627379
BUSY_SECONDS = 10.0
PATIENCE_SECONDS = 60.0
"""how long a transaction waits for another program's to end"""
RESULT_PATIENCE_SECONDS = 600.0
"""how long the result of an apply waits: a pull of millions of facts may be recorded meanwhile"""
TELL_SECONDS = 2.0
"""after which it is told what is waited for"""
LOCK_SECONDS = 0.3
"""how long the writer's lock is tried: a reader that looks whether it is free holds it for a moment"""
PAUSE_SECONDS = 0.02
_NOT_READABLE = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL)


def connect(path: Path, newest: int, *, create: bool) -> Database | None:
    """Open the SQLite file `path`; None where it holds no ledger and `create` is false.

    A new file gets kbsync's mark and WAL mode, and no tables.
    """
    if not create and not path.exists():
        return None
    with telling(path):
        db = Database(_opened(path) if create else _readable(path))
    try:
        with telling(path):
            if not _check(db, path, newest):
                if not create:
                    db.close()
                    return None
                _when_free(db, "PRAGMA journal_mode = wal", PATIENCE_SECONDS)
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        db.close()
        raise
    return db


def _readable(path: Path) -> sqlite3.Connection:
    """A connection that can write where the home can be written, and one that reads where it cannot.

    SQLite reads a file in WAL mode only with a shared-memory file beside it, which a read-only home or a full disk does
    not let it make. Then the file is read as one that does not change, if all that was written is in it.
    """
    log = path.with_name(f"{path.name}-wal")
    written = log.exists() and log.stat().st_size > 0
    *ways, last = ("rw", "ro") if written else ("rw", "ro", "ro&immutable=1")
    for way in ways:
        connection = _opened(path, way)
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF in _NOT_READABLE:
                connection.close()
                continue
        return connection  # what else is wrong with it will be told
    return _opened(path, last)


def _opened(path: Path, mode: str = "rwc") -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode={mode}", uri=True, timeout=BUSY_SECONDS)
    if mode.startswith("ro"):
        connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def _check(db: Database, path: Path, newest: int) -> bool:
    """Whether `db` holds a ledger's tables; LedgerError if it holds something that is not for us."""
    try:
        db.conn.execute("BEGIN")  # one view: another process may be making the ledger
        mark, version, tables = (
            int(db.execute(query).fetchone()[0])
            for query in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
        )
    except sqlite3.DatabaseError as error:
        if "not a database" not in str(error):
            raise
        raise LedgerError(f"{path} is not a SQLite database: move it away, or choose another --home") from error
    finally:
        db.conn.rollback()
    if mark not in (0, APPLICATION_ID) or (mark == 0 and tables):
        raise LedgerError(f"{path} is another program's database: move it away, or choose another --home")
    if version > newest:
        told = f"{path} has schema {version}, but this kbsync knows schemas up to {newest}"
        raise LedgerError(f"{told}: upgrade kbsync, or choose another --home")
    return version > 0


@contextmanager
def telling(path: Path) -> Iterator[None]:
    """Turn SQLite's errors about the file into LedgerError; those about our own statements pass through."""
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
        raise
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # of a message, too, that quotes damaged text
        raise LedgerError(f"cannot use the ledger {path}: {error}; {_remedy(str(error))}") from error


def _remedy(message: str) -> str:
    if "locked" in message:
        return "another program is writing to it: close that program and run again"
    if any(word in message for word in ("malformed", "not a database", "no such", "decode", "syntax error", "corrupt")):
        return "the file is damaged: restore a copy of it, or choose another --home"
    return "check that the disk has room and that you may write to the home, or choose another --home"


@contextmanager
def immediate(
    db: Database, last: Callable[[Database], None] = lambda db: None, patience: float | None = None
) -> Iterator[None]:
    """One transaction that holds SQLite's write lock from its start; inside another one, a part of that.

    `last` is done before it commits; `patience` is in seconds.

    A deferred one could fail half way: SQLite lets no reader become a writer once another has written.
    """
    if not db.conn.in_transaction:
        _when_free(db, "BEGIN IMMEDIATE", PATIENCE_SECONDS if patience is None else patience)
        try:
            yield
            last(db)
        except BaseException:
            db.rollback()
            raise
        db.commit()
    else:
        with db.atomic():
            yield


def _when_free(db: Database, statement: str, patience: float) -> None:
    """Do what needs the file for itself as soon as it is free. Not left to SQLite, whose waiting hears no Ctrl-C."""
    began, told = time.monotonic(), False
    db.conn.execute("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                db.conn.execute(statement)
                return
            except sqlite3.OperationalError as error:
                busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                waited = time.monotonic() - began
                if not busy or waited > patience:
                    raise
                if waited > TELL_SECONDS and not told:
                    told = True
                    path = db.execute("PRAGMA database_list").fetchone()[2]
                    logging.getLogger(__name__).warning(
                        f"waiting for {path}: another program is writing to it (giving up after {patience:.0f} s)"
                    )
            time.sleep(PAUSE_SECONDS)
    finally:
        db.conn.execute(f"PRAGMA busy_timeout = {round(1000 * BUSY_SECONDS)}")


def insert(db: Database, table: str, values: Mapping[str, object]) -> int:
    return cast(int, db.table(table).insert(dict(values)).last_pk)


def iso(time: datetime.datetime) -> str:
    """`time` in UTC as the ledger writes it (a time without a zone is a local one)."""
    return time.astimezone(datetime.UTC).isoformat(timespec="milliseconds")


def now() -> str:
    return iso(datetime.datetime.now(datetime.UTC))


class WriterLock:
    """The lock file of a home, which no dead process holds. While held it names its holder: pid, purpose, since when.

    Records that change no model's state (a pull, an answer) need only SQLite's own lock, for a moment: they are made
    while an apply computes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.held = False
        """whether this object (not merely this process) holds the lock"""

    def taken(self) -> bool:
        """Tell whether a living process holds the lock; yes where that cannot be told."""
        if self.held or not self._path.exists():
            return self.held
        try:
            with _file_lock(self._path, 0):
                return False
        except OSError:  # a Timeout is one
            return True

    @contextmanager
    def hold(self, purpose: str) -> Iterator[None]:
        """Hold the lock. Raises LedgerBusyError, almost at once, when another holds it."""
        from filelock import Timeout

        lock = _file_lock(self._path, LOCK_SECONDS)
        try:
            lock.acquire()
        except Timeout:
            raise self._busy() from None
        except OSError as error:
            raise self._not_written(error) from error
        try:
            self._name(json.dumps({"pid": os.getpid(), "purpose": purpose, "since": now()}))
            self.held = True
            yield
        finally:
            self.held = False
            self._name("")
            lock.release()

    def _name(self, holder: str) -> None:
        with suppress(OSError):  # where a locked file cannot be written, or the disk is full
            self._path.write_text(holder, encoding="utf-8")

    def _busy(self) -> LedgerError:
        try:
            holder = json.loads(self._path.read_text(encoding="utf-8"))
            who = f"process {holder['pid']} ({holder['purpose']}, since {holder['since']})"
        except FileNotFoundError as error:  # filelock takes it for a file that is just being made
            return self._not_written(error)
        except (OSError, ValueError, KeyError, TypeError):
            who = "another process"  # it has the lock and has not written its name yet
        return LedgerBusyError(
            f"{who} is changing a model's state in {self._path.parent}: wait for it to end, then run again"
        )

    def _not_written(self, error: OSError) -> LedgerError:
        return LedgerError(f"cannot write {self._path}: {error.strerror}; choose another --home")


def _file_lock(path: Path, seconds: float) -> "BaseFileLock":
    from filelock import FileLock  # 30 ms, which reading does not need

    return FileLock(path, timeout=seconds, poll_interval=0.02)
