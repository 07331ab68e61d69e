"""The name that the ledger knows a model by. Loads no torch, so that plan and status stay quick."""

from pathlib import Path

from kbsync.errors import KbsyncError
from kbsync.resources import preset_file

__all__ = ["model_name"]


def model_name(name: str, home: Path | None = None) -> str:
    """Return a preset's name (of `home` or kbsync's own) or hub id as it is, and a directory or file resolved."""
    if not name.strip():
        raise KbsyncError("the model's name is empty: name a preset, a hub id, a directory or a GGUF file")
    if preset_file(name, home) is not None:
        return name
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() else name
