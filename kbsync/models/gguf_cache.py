"""GGUF files that were read once, kept as checkpoints of transformers in the user's cache: those load in a second.

A copy lies in a folder named by the SHA-256 of its file and by what read it, and is taken only while the hashes of all
that is in it are those that it was written with. It can be deleted at any time.
"""

import hashlib
import json
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerBase, __version__

HASHES = "hashes.json"
"""the file of a copy that holds the SHA-256 of each other one"""
MOST_BYTES = 4 * 2**30
"""of a copy: a larger model is read from its file each time"""
ABANDONED = 24 * 3600
"""seconds after which an unfinished copy is nobody's"""


def cache_folder() -> Path:
    """Return the folder of what can be made again: KBSYNC_CACHE, else ``kbsync`` in the user's cache."""
    if own := os.environ.get("KBSYNC_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "kbsync")


def copy_of(file: Path) -> Path:
    """Return the folder for the copy of a GGUF file, whether there is one or not."""
    return cache_folder() / f"gguf-{sha256_of(file)}-{__version__}"


def is_whole(copy: Path) -> bool:
    """Tell whether there is a copy, and all of it is as it was written."""
    try:
        hashes: object = json.loads((copy / HASHES).read_text(encoding="utf-8"))
        return hashes == {file.name: sha256_of(file) for file in copy.iterdir() if file.name != HASHES}
    except (OSError, ValueError, RecursionError):
        return False


def keep(copy: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write the copy of a file that was read; a disk without room, or one that cannot be written, is no error."""
    size = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    if size > MOST_BYTES:
        return
    with suppress(OSError, SafetensorError):
        copy.parent.mkdir(parents=True, exist_ok=True)
        for left in copy.parent.glob("*.partial"):
            if time.time() - left.stat().st_mtime > ABANDONED:
                shutil.rmtree(left, ignore_errors=True)
        if shutil.disk_usage(copy.parent).free < 2 * size:
            return
        with tempfile.TemporaryDirectory(dir=copy.parent, suffix=".partial", ignore_cleanup_errors=True) as made:
            partial = Path(made, "copy")
            model.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
            hashes = {file.name: sha256_of(file) for file in partial.iterdir()}
            (partial / HASHES).write_text(json.dumps(hashes, indent=1), encoding="utf-8")
            shutil.rmtree(copy, ignore_errors=True)
            partial.rename(copy)


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
