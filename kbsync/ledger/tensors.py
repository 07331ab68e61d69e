"""Tensors beside the database: safetensors files that appear whole, and are never overwritten with other content."""

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

if TYPE_CHECKING:
    import torch

__all__ = ["check_tensors", "read_tensors", "sweep", "write_tensors"]

SUFFIX = ".safetensors"
_PARTIAL = re.compile(r"\.(\d+)-[0-9a-f]+\.partial\Z")


def write_tensors(
    folder: Path, tensors: Mapping[str, "torch.Tensor"], metadata: Mapping[str, str], name_hash: str | None = None
) -> tuple[str, str]:
    """Write `tensors` to a new file in `folder`; return its name and the sha256 of its bytes.

    The name is `name_hash` (a hash of what the tensors depend on), or the content's sha256 where that is None. A
    file of that name and content is left as it is; of that name and other content too: the new file's name then
    also carries its own sha256. Raises LedgerError, and leaves nothing, where the folder cannot be written.
    """
    partial = folder / f".{os.getpid()}-{secrets.token_hex(4)}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            _save(partial, tensors, metadata)
            sha256 = _sha256(partial)
            target = _free_name(folder, (name_hash or sha256).replace(":", "-"), sha256)
            if not target.exists():
                partial.rename(target)
                _fsync(folder)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        remedy = "see that the disk has room and that the folder is yours to write"
        raise LedgerError(f"cannot write tensors in {folder}: {error.strerror or error}; {remedy}") from error
    return target.name, sha256


def read_tensors(path: Path, sha256: str | None = None) -> dict[str, "torch.Tensor"]:
    """Return the tensors of `path`, on the CPU. LedgerError if it is missing, cut, or not of this sha256."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    with _telling(path):
        if sha256 is not None:
            check_tensors(path, sha256)
        try:
            return load_file(path)
        except SafetensorError as error:
            raise LedgerError(f"{path} is cut or damaged ({error}): {_REMEDY}") from error


def check_tensors(path: Path, sha256: str) -> None:
    """Raise LedgerError if the file at `path` is missing, unreadable, or not of this sha256. Loads no torch."""
    with _telling(path):
        if _sha256(path) != sha256:
            raise LedgerError(f"{path} is not as kbsync wrote it (its sha256 differs): {_REMEDY}")


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise LedgerError(f"{path} is missing: put back a copy, or run `kbsync apply` to make it again") from None
    except OSError as error:
        raise LedgerError(f"cannot read {path}: {error.strerror}") from error


_REMEDY = "put back a copy, or delete it and run `kbsync apply` to make it again"


def sweep(folder: Path) -> None:
    """Remove the unfinished files of processes that have died."""
    for path in folder.glob(".*.partial"):
        found = _PARTIAL.match(path.name)
        if found and not _alive(int(found[1])):
            path.unlink(missing_ok=True)


def _save(path: Path, tensors: Mapping[str, "torch.Tensor"], metadata: Mapping[str, str]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    # One entry: safetensors writes several in no fixed order, and equal content would get unequal hashes.
    packed = {"kbsync": json.dumps(dict(metadata), ensure_ascii=False, sort_keys=True)}
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path, packed)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    _fsync(path)


def _free_name(folder: Path, name: str, sha256: str) -> Path:
    """The path of this name, unless a file of other content has it."""
    path = folder / f"{name}{SUFFIX}"
    if path.exists() and _sha256(path) != sha256:
        return folder / f"{name}-{sha256}{SUFFIX}"
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
