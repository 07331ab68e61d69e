"""Export: the edited model as a checkpoint that transformers opens."""

import json
import os
import re
import secrets
import shutil
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from kbsync.errors import KbsyncError, LedgerError, SettingsError
from kbsync.ledger import Ledger
from kbsync.ledger.edits import active_after
from kbsync.ledger.tensors import alive
from kbsync.memit import edited
from kbsync.sync.home import AS_STORED, Loading
from kbsync.sync.model import choose_model, current_deltas, known_model

__all__ = ["Exported", "ended_by_signals", "export", "unfinished"]

_UNFINISHED = re.compile(r"\.kbsync-export-(\d+)-[0-9a-f]+\Z")


@dataclass(frozen=True, slots=True)
class Exported:
    """Where the checkpoint lies, and what is in it."""

    folder: Path
    model: str
    batch: int
    edits: int
    dtype: str


def export(
    home: Path,
    model: str,
    folder: Path,
    *,
    loading: Loading = AS_STORED,
) -> Exported:
    """Write the edited model and its tokenizer to `folder`, whole or not at all.

    Raises SettingsError where `folder` exists and is not empty, LedgerError where nothing was applied.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SettingsError(f"{folder} exists already: name a new folder with --to")
    with Ledger.open(home, create=False) as ledger:
        choice = choose_model(model, home=home, loading=loading)
        known = known_model(ledger, choice)
        batch = ledger.current_batch(known.key) if known else None
        if known is None or batch is None:
            raise LedgerError(f"nothing was applied to {choice.name} in {home}: run `kbsync apply` first")
        edits = active_after(ledger, known.key, batch.id)  # an apply may make another batch current meanwhile
        deltas = current_deltas(ledger, batch)
    record = {"model": choice.name, "base_sha256": known.weights_sha256, "batch": batch.id, "edits": len(edits)}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with ended_by_signals(), unfinished(folder.parent) as made:
            with edited(choice.loaded, deltas), warnings.catch_warnings():
                # Of an offloaded model one shard at a time is in memory; transformers warns as if it were 50 GB.
                warnings.filterwarnings("ignore", "Attempting to save a model with offloaded modules")
                choice.loaded.model.save_pretrained(made, max_shard_size="5GB")
            choice.loaded.tokenizer.save_pretrained(made)
            Path(made, "kbsync.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
            as_umask_says(made)
            if folder.exists():
                folder.rmdir()
            shutil.move(made, folder)
    except (OSError, SafetensorError) as error:
        raise KbsyncError(f"cannot write {folder}: {_why(error)}{_room(folder.parent)}") from error
    return Exported(folder, choice.name, batch.id, len(edits), str(choice.loaded.model.dtype).removeprefix("torch."))


def _why(error: OSError | SafetensorError) -> str:
    """What the system says; safetensors puts words of its own around that."""
    said = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return re.sub(r"^(Error while serializing: )?(I/O error: )?| \(os error \d+\)$", "", said)


def _room(parent: Path) -> str:
    try:
        return f" ({shutil.disk_usage(parent).free / 1e6:.0f} MB are free in {parent})"
    except OSError:  # there is no such folder
        return ""


def as_umask_says(folder: Path) -> None:
    """Let others read what is in `folder` as far as they may read the folder: safetensors lets its owner alone."""
    mode = folder.stat().st_mode & 0o666
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)


@contextmanager
def unfinished(parent: Path) -> Iterator[Path]:
    """Give a folder in `parent` to write into; it is gone afterwards, unless it was moved to its place.

    What an export left there whose process was killed is taken away first.
    """
    for left in parent.glob(".kbsync-export-*"):
        found = _UNFINISHED.match(left.name)
        if found and not alive(int(found[1])):
            shutil.rmtree(left, ignore_errors=True)
    made = parent / f".kbsync-export-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the work as an error would, so that what is unfinished is taken away."""

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    wanted = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        wanted = []  # only the main thread may
    before = {number: signal.getsignal(number) for number in wanted}
    for number, handler in before.items():
        if handler == signal.SIG_DFL:  # not where it is ignored, as under nohup
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
