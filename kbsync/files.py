"""Files that users name: opened, unpacked and read within bounds; what goes wrong is one error for each direction.

    with reading(path):                  errors of the system and of the packing become SourceError
        for line in lines_of(path): ...  bytes, line by line, unpacked
    with writing(path):                  errors of the system become WriteError

A file that changes while it is read gives half of each state: `Unchanged` refuses that. Only regular files are opened,
as a pipe or a device may never end.

The bounds on what is read from outside. Each has a name, a default, and an environment variable that changes it.

A message that tells of a bound ends with `Limit.told`, so that the reader knows which variable to set. Standard
library only.
"""

import bz2
import errno
import gzip
import hashlib
import io
import os
import re
import shutil
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

from kbsync.errors import SettingsError, SourceError, WriteError

MEGABYTE = 2**20


@dataclass(frozen=True, slots=True)
class Limit:
    """A bound: the environment variable that changes it, its default, and the unit of both."""

    variable: str
    default: int
    unit: str

    @property
    def value(self) -> int:
        """The bound in its unit; raises SettingsError where the variable holds no whole number above 0."""
        text = os.environ.get(self.variable)
        if text is None:
            return self.default
        if not (text.isascii() and text.isdecimal() and len(text) < 16 and int(text) > 0):
            raise SettingsError(f"{self.variable}={text[:40]!r}: write a whole number of {self.unit} above 0")
        return int(text)

    @property
    def bytes(self) -> int:
        """The bound in bytes, where its unit is MB."""
        return self.value * MEGABYTE

    @property
    def told(self) -> str:
        """The bound and how to change it, for the end of a message."""
        return f"at most {self.value:,} {self.unit}; {self.variable} sets another bound"


ANSWER = Limit("KBSYNC_MOST_ANSWER", 512, "MB")
"""of one answer of an endpoint, unpacked"""
RATIO = Limit("KBSYNC_MOST_RATIO", 200, "times its packed size")
"""that an answer may grow to when it is unpacked"""
ERROR_BODY = Limit("KBSYNC_MOST_ERROR_BODY", 65_536, "bytes")
"""of an endpoint's message of an error"""
SILENCE = Limit("KBSYNC_SILENCE", 75, "seconds")
"""without a byte from an endpoint; Wikidata itself gives up on a query after 60"""
DEADLINE = Limit("KBSYNC_DEADLINE", 300, "seconds")
"""for one request to an endpoint, from the connection to the last byte"""
REDIRECTS = Limit("KBSYNC_MOST_REDIRECTS", 5, "redirects")
"""of one request"""
SUBJECTS = Limit("KBSYNC_MOST_SUBJECTS", 100_000_000, "subjects")
"""of one relation at an endpoint"""
SKIPPED = Limit("KBSYNC_MOST_SKIPPED", 100_000, "statements")
"""of one relation that a pull leaves out and that the ledger keeps, with the reason"""
LINE = Limit("KBSYNC_MOST_LINE", 64, "MB")
"""of one line or value in a file, unpacked"""
ROW = Limit("KBSYNC_MOST_ROW", 1, "MB")
"""of one line of a table, unpacked"""
DOCUMENT = Limit("KBSYNC_MOST_DOCUMENT", 64, "MB")
"""of a file that has no lines to be read one by one: YAML, RDF/XML, JSON-LD, a list of subjects"""
DEPTH = Limit("KBSYNC_MOST_DEPTH", 100, "levels")
"""of lists and mappings in one another, in YAML, JSON and XML"""


COMPRESSED = (".gz", ".bz2", ".zst")
TEMPORARY = Path(os.environ.get("TMPDIR") or "/tmp")
"""where temporary files lie that have no target"""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MARK = b"\xef\xbb\xbf"
_OF_SAFETENSORS = re.compile(r"^(Error while serializing: )?(I/O error: )?| \(os error \d+\)$")
"""words that it puts around the system's"""


def is_compressed(path: Path) -> bool:
    """Whether the name says that the file is compressed."""
    return path.suffix.lower() in COMPRESSED


def kind_of(path: Path) -> str:
    """Return the suffix that names the format, in small letters: ``.nt`` for ``dump.NT`` and ``dump.nt.gz``."""
    return Path(path.stem if is_compressed(path) else path.name).suffix.lower()


def check_regular(path: Path) -> None:
    """Raise SourceError where `path` is no regular file, and OSError where it cannot be looked at."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        what = kinds.get(stat.S_IFMT(mode), "a device")
        raise SourceError(f"{path}: {what}, not a file; name a file")


def open_stream(path: Path) -> BinaryIO:
    """Open a file for reading, behind its byte order mark; the bytes are those after decompression."""
    check_regular(path)
    suffix = path.suffix.lower()
    opening: dict[str, Callable[[Path], Any]] = {".gz": gzip.GzipFile, ".bz2": bz2.BZ2File}
    if suffix == ".zst":
        opening[suffix] = _zstd().open
    stream: BinaryIO = opening.get(suffix, partial(open, mode="rb"))(path)
    try:
        if stream.read(len(_MARK)) != _MARK:
            stream.seek(0)
    except BaseException:
        stream.close()
        raise
    return stream


def lines_of(path: Path, most: Limit = LINE) -> Iterator[bytes]:
    """Yield a file's lines with their ends (``\\n``); raises SourceError for a line longer than `most` (in MB)."""
    longest, number, rest = most.bytes, 1, b""
    with open_stream(path) as stream:
        while block := stream.read(MEGABYTE):
            *whole, rest = io.BytesIO(rest + block).readlines()
            if rest.endswith(b"\n"):
                whole, rest = [*whole, rest], b""
            if len(rest) > longest or (len(whole) and len(whole[0]) > longest):
                raise SourceError(f"{path}:{number + (len(rest) > longest) * len(whole)}: line too long ({most.told})")
            yield from whole
            number += len(whole)
        if rest:
            yield rest


def text_lines(path: Path, most: Limit = LINE) -> Iterator[str]:
    """Yield a file's lines as text with their ends; raises SourceError, with the line, where the bytes are no UTF-8."""
    for number, line in enumerate(lines_of(path, most), start=1):
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            raise SourceError(f"{path}:{number}: not UTF-8 text; save the file as UTF-8") from error


def read_text(path: Path) -> str:
    """Return a UTF-8 file's text; raises SourceError, with the line where the bytes are no UTF-8."""
    with reading(path), open_stream(path) as stream:
        data = stream.read(DOCUMENT.bytes + 1)
    if len(data) > DOCUMENT.bytes:
        raise SourceError(f"{path}: too large to read at once ({DOCUMENT.told}); split it, or use a table")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SourceError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from error


def is_text(text: str) -> bool:
    """Whether `text` can be written as UTF-8: JSON can name halves of surrogate pairs, which are no letters."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


class Unchanged:
    """Sees that a file stays as it was when it was first looked at: its size, time of change and place on the disk.

    Of a file that is not large its content is compared, too: a quick change may leave the time as it was.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._first: tuple[object, ...] | None = None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Tell what goes wrong as `reading` does; at the end raise SourceError where the file has changed."""
        with reading(self._path):
            if self._first is None:
                check_regular(self._path)
                self._first = self._now()
            try:
                yield
            finally:  # what is wrong with a changing file is, first of all, that it changes
                ended = isinstance(sys.exception(), GeneratorExit | KeyboardInterrupt)
                if not ended and self._now() != self._first:
                    raise SourceError(
                        f"{self._path}: changed during reading; nothing was taken from it: run the command again when "
                        "nobody writes to it"
                    )

    def _now(self) -> tuple[object, ...]:
        now, content = self._path.stat(), ""
        if now.st_size <= DOCUMENT.bytes:
            with self._path.open("rb") as file:
                content = hashlib.file_digest(file, "blake2b").hexdigest()
        return (now.st_size, now.st_mtime_ns, now.st_ino, now.st_dev, content)


def _zstd() -> ModuleType:
    """Return the standard library's module, or the same for an older Python; loaded where a file needs it."""
    return import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong with reading the bytes of `path` into SourceError."""
    wrong: tuple[type[Exception], ...] = (EOFError, zlib.error)
    if path.suffix.lower() == ".zst":
        wrong = (*wrong, _zstd().ZstdError)
    try:
        yield
    except OSError as error:
        full = error.errno in _FULL or any(os.strerror(number) in str(error) for number in _FULL)
        if full and (error.filename is None or os.path.abspath(error.filename) != os.path.abspath(path)):
            raise _cannot_write(TEMPORARY, error) from error  # what is read goes into temporary files
        if error.errno is None:  # gzip and bz2 say so that the bytes are wrong
            raise _damaged(path, error) from error
        reason = os.strerror(error.errno)
        raise SourceError(f"{path}: cannot be read ({reason}); check the name and its permissions") from error
    except wrong as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> SourceError:
    return SourceError(f"{path}: cut off or damaged ({error}); get it again: nothing was taken from it")


def write_new(path: Path, text: str) -> None:
    """Write a file that is not there yet, whole or not at all; raises FileExistsError, and OSError."""
    with path.open("x", encoding="utf-8") as opened:
        try:
            opened.write(text)
            opened.flush()
        except OSError:
            path.unlink(missing_ok=True)
            raise


@contextmanager
def writing(path: Path, *others: type[Exception]) -> Iterator[None]:
    """Turn what goes wrong with writing `path` (OSError, and `others`) into WriteError, with the room that there is."""
    wrong: tuple[type[Exception], ...] = (OSError, *others)
    try:
        yield
    except wrong as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: Exception) -> WriteError:
    reason = (error.strerror if isinstance(error, OSError) else None) or _OF_SAFETENSORS.sub("", str(error))
    place = next(folder for folder in (path, *path.absolute().parents) if folder.is_dir())
    return WriteError(
        f"cannot write {path}: {reason} ({shutil.disk_usage(place).free / 1e6:,.0f} MB are free in {place})"
    )
