"""One writer at a time, by a lock that a dead process does not keep; what a dead writer left is put in order."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from threading import Timer

import pytest

from kbsync.errors import LedgerBusyError, LedgerError
from kbsync.ledger import Ledger
from kbsync.ledger.edits import start_batch
from tests.ledger.helpers import ROOT, apply, fact, finish, model, new_edit, pull

HOLD = """
import os, sys, pathlib
from kbsync.ledger import Ledger
from tests.ledger.helpers import *
ledger = Ledger.open(pathlib.Path(sys.argv[1]))
with ledger.writer("apply --model practice"):
    key = model(ledger)
    batch = start_batch(ledger, key, "memit", {}, "cpu")
    ledger.db.begin()
    ledger.db.execute("UPDATE batches SET state = 'done'")
    (ledger.home / "tensors").mkdir()
    (ledger.home / "tensors" / f".{os.getpid()}-aa.partial").write_text("half")
    print("held", flush=True)
    sys.stdin.read()
"""


def start_holder(home: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock, in the middle of a transaction of a running batch."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def stop(holder: subprocess.Popen[str], number: int) -> None:
    holder.send_signal(number)
    holder.wait(timeout=30)
    for pipe in (holder.stdin, holder.stdout):
        if pipe is not None:
            pipe.close()


def test_busy_names_the_holder_and_a_dead_one_holds_nothing(home: Path) -> None:
    holder = start_holder(home)
    try:
        with Ledger.open(home, create=False) as ledger:
            said = rf"process {holder.pid} \(apply --model practice, since 20.*\) is changing .*{home}: wait"
            with pytest.raises(LedgerBusyError, match=said), ledger.writer("apply"):
                pass
            assert [batch.state for batch in ledger.batches()] == ["running"]
    finally:
        stop(holder, signal.SIGKILL)
    with Ledger.open(home, create=False) as ledger:
        # The dead writer's transaction is undone, and readers see that its batch has ended before a writer records it.
        assert [(batch.state, batch.reason) for batch in ledger.batches()] == [("failed", "interrupted")]
        assert ledger.db.execute("SELECT state FROM batches").fetchall() == [("running",)]
        assert list(ledger.tensors.iterdir())
        with ledger.writer("apply"):
            pass
        (batch,) = ledger.batches()
        assert (batch.state, batch.reason) == ("failed", "interrupted")
        assert batch.finished is not None
        assert ledger.current_batch("model:1") is None
        assert list(ledger.tensors.iterdir()) == []


def test_a_pull_is_recorded_while_an_apply_computes(home: Path, ledger: Ledger) -> None:
    key = model(ledger)
    with Ledger.open(home) as other, ledger.writer("apply"):
        batch = start_batch(ledger, key, "memit", {}, "cpu")
        pull(other, fact("A", "x"))
        assert [row.fact for row in ledger.facts()] == [fact("A", "x")]
        finish(ledger, batch)
    assert [row.state for row in ledger.batches()] == ["done"]


TRANSACTION = """
import sys, pathlib
from kbsync.ledger import Ledger
with Ledger.open(pathlib.Path(sys.argv[1])) as ledger, ledger.writing() as db:
    db.execute("UPDATE models SET used = 'later'")
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_record_waits_for_the_transaction_of_another(home: Path, ledger: Ledger) -> None:
    model(ledger)
    command = [sys.executable, "-c", TRANSACTION, str(home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert ledger.models()[0].used != "later"  # reading goes on
        end = Timer(0.2, lambda: holder.communicate(""))
        end.start()
        pull(ledger, fact("A", "x"))
        end.join()
    assert ledger.models()[0].used == "later"


def test_a_record_that_waits_hears_ctrl_c_and_gives_up(
    home: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Ledger.open(home) as other, other.writing():
        interrupt = Timer(0.1, signal.raise_signal, [signal.SIGINT])
        interrupt.start()
        with pytest.raises(KeyboardInterrupt):
            pull(ledger, fact("A", "x"))
        interrupt.join()
        monkeypatch.setattr("kbsync.ledger.db.PATIENCE_SECONDS", 0.2)
        monkeypatch.setattr("kbsync.ledger.db.TELL_SECONDS", 0)
        with pytest.raises(LedgerError, match=r"ledger\.db: database is locked; another program is writing to it"):
            pull(ledger, fact("A", "x"))
        assert [record.message for record in caplog.records] == [
            f"waiting for {ledger.path}: another program is writing to it (giving up after 0 s)"
        ]
    assert pull(ledger, fact("A", "x")).new == 1


def test_two_ledgers_of_one_process_exclude_each_other(home: Path, ledger: Ledger) -> None:
    with Ledger.open(home) as other:
        with ledger.writer("one"):
            with pytest.raises(LedgerBusyError, match=rf"process {os.getpid()} \(one, "), other.writer("two"):
                pass
            assert other.facts() == []  # reading goes on
        with other.writer("two"):
            held = json.loads((home / "lock").read_text())
            assert (held["pid"], held["purpose"]) == (os.getpid(), "two")


def test_the_lock_is_free_after_an_error(home: Path, ledger: Ledger) -> None:
    with pytest.raises(KeyError), ledger.writer("one"):
        raise KeyError
    with Ledger.open(home) as other, other.writer("two"):
        pass
    assert (home / "lock").read_text() == ""


def test_a_writer_goes_on_inside_its_own_block(home: Path, ledger: Ledger) -> None:
    with Ledger.open(home) as other, ledger.writer("outer"):
        with ledger.writer("inner"):
            pass
        with pytest.raises(LedgerBusyError, match="outer"), other.writer("two"):
            pass


def test_a_lock_whose_holder_has_no_name_yet(home: Path, ledger: Ledger) -> None:
    with Ledger.open(home) as other, ledger.writer("one"):
        (home / "lock").write_text("")
        with pytest.raises(LedgerBusyError, match="another process is changing"), other.writer("two"):
            pass


def test_own_running_batch_survives_nested_writes(ledger: Ledger) -> None:
    key = model(ledger)
    with ledger.writer("apply"):
        batch = start_batch(ledger, key, "memit", {}, "cpu")
        pull(ledger, fact("A", "x"))
        assert [row.state for row in ledger.batches()] == ["running"]
        finish(ledger, batch)
    assert [row.state for row in ledger.batches()] == ["done"]


def test_a_batch_needs_the_writer(ledger: Ledger) -> None:
    with pytest.raises(RuntimeError, match="writer"):
        start_batch(ledger, model(ledger), "memit", {}, "cpu")
    with ledger.writer("apply"):
        batch = start_batch(ledger, "model:1", "memit", {}, "cpu")
    with pytest.raises(RuntimeError, match="writer"):
        finish(ledger, batch)
    with ledger.writer("next"), pytest.raises(LedgerError, match=re.escape(f"batch {batch} is failed, not running")):
        finish(ledger, batch)


def test_an_interrupted_batch_leaves_the_state_before_it(ledger: Ledger) -> None:
    key = model(ledger)
    pull(ledger, fact("A", "x"))
    done = apply(ledger, key, added=[new_edit(ledger.facts()[0])], files={"f": "1"})
    with ledger.writer("apply"):
        start_batch(ledger, key, "memit", {}, "cpu")
    with ledger.writer("next"):
        pass
    current = ledger.current_batch(key)
    assert current is not None
    assert current.id == done
    assert [edit.batch for edit in ledger.active_edits(key)] == [done]
