"""Tensors beside the database: safetensors files that appear whole, and are never overwritten with other content.

Each carries a SHA-256 of its tensors and metadata in its header, so that a changed byte is seen whenever it is read.
"""

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kbsync.errors import LedgerError
from kbsync.files import writing

if TYPE_CHECKING:
    import torch


SUFFIX = ".safetensors"
CONTENT = "content"
"""the name in the header of the hash of everything else"""
_PARTIAL = re.compile(r"\.(\d+)-[0-9a-f]+\.partial\Z")


def write_tensors(
    folder: Path, tensors: Mapping[str, "torch.Tensor"], metadata: Mapping[str, str], name_hash: str | None = None
) -> tuple[str, str]:
    """Write `tensors` to a new file in `folder`; return its name and the sha256 of its bytes.

    The name is `name_hash` (a hash of what the tensors depend on), or the content's sha256 where that is None. A file
    of that name and content is left as it is; of that name and other content too: the new file's name then also carries
    its own sha256.
    """
    with _partial(folder) as partial:
        _save(partial, tensors, metadata)
        sha256 = _sha256(partial)
        name = (name_hash or sha256).replace(":", "-")
        target = folder / f"{name}{SUFFIX}"
        if target.exists() and _sha256(target) != sha256:
            target = folder / f"{name}-{sha256}{SUFFIX}"
        if not target.exists():
            partial.rename(target)
            _fsync(folder)
    return target.name, sha256


def replace_tensors(
    path: Path, tensors: Mapping[str, "torch.Tensor"], metadata: Mapping[str, str], *, sealed: bool = True
) -> None:
    """Write `tensors` to `path`; what was there stays whole until the new file is. WriteError as above.

    Not `sealed`, the header gets no hash: for files of the user's, whose metadata has hashes of its own.
    """
    with _partial(path.parent, None if sealed else path) as partial:
        _save(partial, tensors, metadata, sealed=sealed)
        partial.replace(path)
        _fsync(path.parent)


@contextmanager
def _partial(folder: Path, told: Path | None = None) -> Iterator[Path]:
    """Give the name of an unfinished file in `folder`; it is gone afterwards, if it was not renamed.

    What goes wrong is told of the folder, or of the file `told`.
    """
    partial = folder / f".{os.getpid()}-{secrets.token_hex(4)}.partial"
    with writing(told or folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
        finally:
            partial.unlink(missing_ok=True)


def read_tensors(path: Path, sha256: str | None = None) -> dict[str, "torch.Tensor"]:
    """Return the tensors of `path`, on the CPU.

    Raises LedgerError if it is missing, cut or changed: by `sha256`, the file's, or else by the hash in its header
    (a file that is not kbsync's has none, and is taken as it is).
    """
    from safetensors.torch import load_file

    with _reading(path):
        if sha256 is not None:
            check_tensors(path, sha256)
            return load_file(path)
        metadata, tensors = _header(path), load_file(path)
        if CONTENT in metadata and metadata.pop(CONTENT) != _content_hash(tensors, metadata):
            raise LedgerError(f"{path} is not what kbsync wrote (its content's sha256 differs): {_REMEDY}")
        return tensors


def check_tensors(path: Path, sha256: str) -> None:
    """Raise LedgerError if the file at `path` is missing, unreadable, or not of this sha256. Loads no torch."""
    with _reading(path):
        if _sha256(path) != sha256:
            raise LedgerError(f"{path} is not what kbsync wrote (its sha256 differs): {_REMEDY}")


def check_sealed(path: Path) -> None:
    """Raise LedgerError unless the file has the hash of its content in its header, and is of that content."""
    if not content_of(path):
        raise LedgerError(f"{path} is not what kbsync wrote (it has no hash): {_REMEDY}")
    read_tensors(path)


def content_of(path: Path) -> str:
    """Return the hash of its content that a file's header gives, "" where it has none. LedgerError as for the rest."""
    with _reading(path):
        return str(_header(path).get(CONTENT, ""))


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata that a file was written with; {} where it is not kbsync's. LedgerError as for the tensors."""
    with _reading(path):
        return {name: value for name, value in _header(path).items() if name != CONTENT}


def _header(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        found = json.loads((file.metadata() or {}).get("kbsync", "{}"))
    return dict(found) if isinstance(found, dict) else {}


def _content_hash(tensors: Mapping[str, "torch.Tensor"], metadata: Mapping[str, str]) -> str:
    """The SHA-256 of all that a file says, whatever the order in which it says it."""
    import torch

    digest = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except FileNotFoundError:
        raise LedgerError(f"{path} is missing: restore a copy, or run `kbsync apply` to make it again") from None
    except (SafetensorError, ValueError) as error:
        raise LedgerError(f"{path} is cut or damaged ({error}): {_REMEDY}") from error
    except OSError as error:
        raise LedgerError(f"cannot read {path}: {error.strerror}") from error


_REMEDY = "restore a copy, or delete it and run `kbsync apply` to make it again"


def sweep(folder: Path) -> None:
    """Remove the unfinished files of processes that have died."""
    for path in folder.glob(".*.partial"):
        found = _PARTIAL.match(path.name)
        if found and not alive(int(found[1])):
            path.unlink(missing_ok=True)


def _save(
    path: Path, tensors: Mapping[str, "torch.Tensor"], metadata: Mapping[str, str], *, sealed: bool = True
) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    # One entry: safetensors writes several in no fixed order, and equal content would get unequal hashes.
    whole = {**metadata, CONTENT: _content_hash(tensors, metadata)} if sealed else dict(metadata)
    packed = {"kbsync": json.dumps(whole, ensure_ascii=False, sort_keys=True)}
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path, packed)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    _fsync(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def alive(pid: int) -> bool:
    """Tell whether a process of this id runs."""
    import psutil

    return bool(psutil.pid_exists(pid))
