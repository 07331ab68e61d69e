"""Files as streams of bytes, compressed or plain, and what goes wrong with them as SourceError."""

import bz2
import gzip
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import BinaryIO, cast

from kbsync.errors import SourceError

__all__ = ["COMPRESSED", "is_compressed", "kind_of", "open_stream", "telling"]

COMPRESSED = (".gz", ".bz2", ".zst")


def is_compressed(path: Path) -> bool:
    """Whether the name says that the file is compressed."""
    return path.suffix.lower() in COMPRESSED


def kind_of(path: Path) -> str:
    """Return the suffix that names the format, in small letters: ``.nt`` for ``dump.NT`` and ``dump.nt.gz``."""
    return Path(path.stem if is_compressed(path) else path.name).suffix.lower()


def open_stream(path: Path) -> BinaryIO:
    """Open a file for reading; the bytes are those after decompression."""
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return cast(BinaryIO, gzip.open(path, "rb"))
    if suffix == ".bz2":
        return cast(BinaryIO, bz2.open(path, "rb"))
    return cast(BinaryIO, _zstd().open(path, "rb")) if suffix == ".zst" else path.open("rb")


def _zstd() -> ModuleType:
    """Return the standard library's module, or the same for an older Python; loaded where a file needs it."""
    return import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")


@contextmanager
def telling(path: Path) -> Iterator[None]:
    """Turn what goes wrong with reading the bytes of `path` into SourceError."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # gzip and bz2 say so that the bytes are wrong
            raise _damaged(path, error) from error
        raise SourceError(f"{path}: cannot be read ({error.strerror}); check the file and its permissions") from error
    except (EOFError, zlib.error) as error:
        raise _damaged(path, error) from error
    except Exception as error:
        if path.suffix.lower() != ".zst" or not isinstance(error, _zstd().ZstdError):
            raise
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> SourceError:
    return SourceError(f"{path}: cut off or damaged ({error}); get it again: nothing was taken from it")
