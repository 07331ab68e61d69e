"""Where a model's files lie: a directory, a repository of the hub, or one GGUF file of either."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.utils.import_utils import is_gguf_available

from kbsync.errors import ModelError
from kbsync.models.hub import from_hub

__all__ = ["Checkpoint", "find_checkpoint"]

GGUF = ".gguf"
PART_OF_SEVERAL = re.compile(r"-\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What `load_model` opens."""

    source: str
    """directory, hub id or GGUF file, as messages name it"""
    place: str
    """directory or hub id"""
    gguf: str | None = None
    """name of the GGUF file in `place`; None for a checkpoint of transformers"""

    def arguments(self, revision: str | None = None) -> dict[str, Any]:
        """Return what each ``from_pretrained`` is given beside `place`; no code of a model's is ever run.

        Raises ModelError where the files are to come from a hub that does not answer.
        """
        hub = from_hub(self.place, self.gguf or "config.json", revision)
        file = {} if self.gguf is None else {"gguf_file": self.gguf}
        return {"trust_remote_code": False, "revision": revision, **file, **hub}


def find_checkpoint(source: str) -> Checkpoint:
    """Return where the files of `source` lie: a directory, ``FILE.gguf``, a hub id or ``owner/repo:FILE.gguf``.

    Raises ModelError where there is no such directory or file, or it is of another form.
    """
    path = Path(source).expanduser()
    if source.lower().endswith(GGUF) and not path.is_dir():
        return find_gguf(source, path)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"model directory {path} has no config.json: point --model at a transformers checkpoint")
        return Checkpoint(str(path), str(path))
    if source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise ModelError(f"model directory {source} does not exist")
    return Checkpoint(source, source)


def find_gguf(source: str, path: Path) -> Checkpoint:
    """Return where a GGUF file lies, on this machine or on the hub; raises as `find_checkpoint` does."""
    if not is_gguf_available():
        raise ModelError(f"model {source}: GGUF files are read with the package gguf: pip install 'kbsync[gguf]'")
    if PART_OF_SEVERAL.search(source):
        raise ModelError(f"model {source} is one part of several: join them first (llama-gguf-split --merge)")
    repository, colon, name = source.partition(":")
    if not path.is_file() and colon and re.fullmatch(r"[\w.-]+/[\w.-]+", repository) and ".." not in name.split("/"):
        return Checkpoint(source, repository, name.lstrip("/"))
    try:
        with path.open("rb") as opened:
            magic = opened.read(4)
    except OSError as error:
        raise ModelError(f"model file {source} cannot be read: {error.strerror or error}") from error
    if magic != b"GGUF":
        raise ModelError(f"model file {source} is no GGUF file: it does not begin with the letters GGUF")
    return Checkpoint(str(path), str(path.parent), path.name)
