"""What changed in an N-Triples file since it was last read, so that the rest need not be read again.

A digest holds a hash of the lines of each subject, by subject. A fact depends on the lines of its subject, on those of
its statement nodes, and on the labels of its subject and object. So the subjects to read again are those whose lines
changed, those that name one of them as an object, and, through a statement node, those that name such a node. They are
put, with all that their facts depend on, into a small store that is read as the whole file would be.
"""

import heapq
import re
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from itertools import groupby, islice
from pathlib import Path

from kbsync.files import MEGABYTE, TEMPORARY, lines_of, writing
from kbsync.shapes import short_id

MOST_SUBJECTS = 2_000_000
"""Subjects that a digest is made for; a larger file is read whole each time, as a digest (packed) lies in memory."""
MOST_AGAIN = 0.3  # Share of the subjects above which the file is better read whole
MOST_CHANGED = 50_000
"""Subjects above which it is read whole too, as what is said of those that changed lies in memory."""

_NODE = b"<http://www.wikidata.org/prop/P"
_LABEL = b"<http://www.w3.org/2000/01/rdf-schema#label>"
_KEPT = b"<http://www.w3.org/2002/07/owl#sameAs>"
_TIMES = tuple(
    b"<http://www.wikidata.org/prop/qualifier/" + way for way in (b"P580>", b"P582>", b"value/P580>", b"value/P582>")
)
# One line as every dump writes it: terms set apart by single spaces, IRIs without escapes.
_LINE = re.compile(rb'(<[^<>\\\s]+>|_:\S+) (<[^<>\\\s]+>) (<[^<>\\\s]+>|_:\S+|"(?:[^"\\]|\\.)*"\S*) \.\r?\n?')
_BYTES = 16
_FORM = b"sorted"
_PART = 10_000  # subjects packed at once


@dataclass(frozen=True, slots=True)
class Digest:
    """A hash for each subject (as the file writes it), packed; `timed`: whether what is current depends on the day."""

    packed: bytes
    timed: bool

    @classmethod
    def of(cls, pairs: Iterable[tuple[bytes, bytes]], *, timed: bool) -> "Digest":
        """Pack subjects in their order, each with its hash."""
        squeeze = zlib.compressobj(1)
        packed = bytearray(squeeze.compress(_FORM + (b" timed" if timed else b"")))
        pairs = iter(pairs)
        while part := [b"\n%b %b" % (subject, number.hex().encode()) for subject, number in islice(pairs, _PART)]:
            packed += squeeze.compress(b"".join(part))
        packed += squeeze.flush()
        return cls(bytes(packed), timed)

    @classmethod
    def unpack(cls, packed: bytes) -> "Digest | None":
        """Return the digest that `packed` holds; None for one of an earlier form."""
        first = zlib.decompressobj().decompress(packed, len(_FORM) + 6).partition(b"\n")[0]
        return cls(packed, first.endswith(b" timed")) if first.startswith(_FORM) else None

    def lines(self) -> Iterator[bytes]:
        """Yield each subject with its hash, by subject."""
        loosen, rest, first = zlib.decompressobj(), b"", True
        waiting = self.packed
        while waiting or not loosen.eof:
            piece = loosen.decompress(waiting, MEGABYTE)
            waiting = loosen.unconsumed_tail
            *whole, rest = (rest + piece).split(b"\n")
            yield from whole[1:] if first and whole else whole
            first = first and not whole
        if not first:
            yield rest


def digest_of(path: Path) -> Digest | None:
    """Return the digest of an N-Triples file; None for one with redirects, lines of another form, or too many.

    It is sorted on disk. Raises WriteError where that is full.
    """
    told = _Told(path)
    with closing(sqlite3.connect("")) as base:
        base.execute("CREATE TABLE read (subject BLOB, number BLOB)")
        hashes, count = iter(told), 0
        while count <= MOST_SUBJECTS and (part := list(islice(hashes, _PART))):
            count += len(part)
            with writing(TEMPORARY, sqlite3.Error):
                base.executemany("INSERT INTO read VALUES (?, ?)", part)
        if told.odd or count > MOST_SUBJECTS:
            return None
        with writing(TEMPORARY, sqlite3.Error):
            rows = base.execute("SELECT subject, number FROM read ORDER BY subject")
            groups = groupby(rows, key=lambda row: bytes(row[0]))
            sums = ((subject, sum(int.from_bytes(number) for _, number in group)) for subject, group in groups)
            pairs = ((subject, (number % 2 ** (8 * _BYTES)).to_bytes(_BYTES)) for subject, number in sums)
            return Digest.of(pairs, timed=told.timed)


class _Told:
    """A file's subjects with a hash of their lines; `odd`: whether one was met for which there is no digest."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.timed = self.odd = False

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        for subject, lines in groupby(lines_of(self._path), _subject):
            told = blake2b(digest_size=_BYTES)
            for line in lines:
                if _KEPT in line or (subject is None and line.strip() and not line.lstrip().startswith(b"#")):
                    self.odd = True
                    return
                self.timed = self.timed or any(time in line for time in _TIMES)
                told.update(line.rstrip(b"\r\n") + b"\n")
            if subject is not None:
                yield subject, told.digest()


def changed_lines(path: Path, earlier: Digest, now: Digest) -> tuple[bytes, frozenset[str]] | None:
    """Return what to read again of the file with digest `now`; None where it is better read whole.

    It is lines of N-Triples, whose facts are those of the subjects with these keys.
    """
    changed: set[bytes] = set()
    subjects = 0
    pairs = (line.split(b" ") for line in heapq.merge(earlier.lines(), now.lines()))
    for subject, numbers in groupby(pairs, key=lambda pair: pair[0]):
        subjects += 1
        known = [number for _, number in numbers]
        if len(known) == 1 or known[0] != known[1]:
            changed.add(subject)
        if len(changed) > MOST_CHANGED:
            return None
    if not changed:
        return b"", frozenset()
    naming: set[bytes] = set()
    nodes_named = False
    for subject, predicate, value, _ in _triples(path):
        nodes_named = nodes_named or predicate.startswith(_NODE)
        if value in changed:
            naming.add(subject)
    again = changed | naming
    if nodes_named:
        again |= {subject for subject, p, value, _ in _triples(path) if p.startswith(_NODE) and value in again}
    if len(again) > min(MOST_CHANGED, MOST_AGAIN * subjects):
        return None
    return _lines_about(path, again), frozenset(short_id(one.decode()[1:-1]) for one in again if one[:1] == b"<")


def _lines_about(path: Path, again: set[bytes]) -> bytes:
    """Return the lines of the subjects `again`, of their statement nodes, and the labels of what both name."""
    nodes = {value for subject, p, value, _ in _triples(path) if p.startswith(_NODE) and subject in again}
    # How precise a time is, is said of a node of its own.
    times = {value for subject, p, value, _ in _triples(path) if p in _TIMES and subject in nodes}
    told = again | nodes | times
    named = {value for subject, _, value, _ in _triples(path) if subject in told}
    return b"\n".join(
        line.strip()
        for subject, predicate, _, line in _triples(path)
        if subject in told or (predicate == _LABEL and subject in named)
    )


def _triples(path: Path) -> Iterator[tuple[bytes, bytes, bytes, bytes]]:
    """Yield subject, predicate, object and line; a line that is cut gives what there is."""
    for line in lines_of(path):
        if line[:1] in (b"<", b"_"):
            subject, predicate, rest = (line + b"  ").split(b" ", 2)
            yield subject, predicate, rest.strip().removesuffix(b".").rstrip(), line


def _subject(line: bytes) -> bytes | None:
    """Return the subject of a line; None for a comment, an empty line, and one that is written in another form."""
    return found[1] if (found := _LINE.fullmatch(line)) else None
