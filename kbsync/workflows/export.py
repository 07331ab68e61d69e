"""Export: the edited model as a checkpoint that transformers opens."""

import json
import shutil
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

from kbsync.errors import KbsyncError, LedgerError, SettingsError
from kbsync.ledger import Ledger
from kbsync.ledger.edits import active_after
from kbsync.memit import edited
from kbsync.workflows.choice import choose_model
from kbsync.workflows.loading import AS_STORED, Loading
from kbsync.workflows.state import current_deltas, known_model

__all__ = ["Exported", "export"]


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
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".kbsync-export-") as unfinished:
            made = Path(unfinished, "checkpoint")
            with edited(choice.loaded, deltas), warnings.catch_warnings():
                # Of an offloaded model one shard at a time is in memory; transformers warns as if it were 50 GB.
                warnings.filterwarnings("ignore", "Attempting to save a model with offloaded modules")
                choice.loaded.model.save_pretrained(made, max_shard_size="5GB")
            choice.loaded.tokenizer.save_pretrained(made)
            Path(made, "kbsync.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
            if folder.exists():
                folder.rmdir()
            shutil.move(made, folder)
    except OSError as error:
        raise KbsyncError(f"cannot write {folder}: {error.strerror or error}") from error
    return Exported(folder, choice.name, batch.id, len(edits), str(choice.loaded.model.dtype).removeprefix("torch."))
