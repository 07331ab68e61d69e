"""What changed in an N-Triples file since it was last read, so that the rest need not be read again.

A digest holds a hash of the lines of each subject. A fact depends on the lines of its subject, on those of its
statement nodes, and on the labels of its subject and object. So the subjects to read again are those whose lines
changed, those that name one of them as an object, and, through a statement node, those that name such a node. They are
put, with all that their facts depend on, into a small store that is read as the whole file would be.
"""

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import groupby
from pathlib import Path

from kbsync.files import lines_of
from kbsync.shapes import short_id

__all__ = ["Changed", "Digest", "changed_lines", "digest_of"]

MOST_SUBJECTS = 4_000_000
"""Subjects that a digest is made for; a larger file is read whole each time, as a digest lies in memory."""
MOST_AGAIN = 0.3
"""Share of the subjects above which the file is better read whole."""

_NODE = b"<http://www.wikidata.org/prop/P"
_LABEL = b"<http://www.w3.org/2000/01/rdf-schema#label>"
_KEPT = b"<http://www.w3.org/2002/07/owl#sameAs>"
_TIMES = tuple(
    b"<http://www.wikidata.org/prop/qualifier/" + way for way in (b"P580>", b"P582>", b"value/P580>", b"value/P582>")
)
# One line as every dump writes it: terms set apart by single spaces, IRIs without escapes.
_LINE = re.compile(rb'(<[^<>\\\s]+>|_:\S+) (<[^<>\\\s]+>) (<[^<>\\\s]+>|_:\S+|"(?:[^"\\]|\\.)*"\S*) \.\r?\n?')
_BYTES = 16


@dataclass(frozen=True, slots=True)
class Digest:
    """A hash for each subject (as the file writes it); `timed`: whether what is current may depend on the day."""

    subjects: dict[bytes, int]
    timed: bool

    def pack(self) -> bytes:
        """Return the digest in few bytes."""
        lines = [subject + b" " + number.to_bytes(_BYTES).hex().encode() for subject, number in self.subjects.items()]
        return zlib.compress(b"\n".join([b"timed" if self.timed else b"", *lines]), 1)

    @classmethod
    def unpack(cls, packed: bytes) -> "Digest":
        """Return the digest that `packed` holds."""
        first, *lines = zlib.decompress(packed).split(b"\n")
        pairs = (line.split(b" ") for line in lines)
        return cls({subject: int(number, 16) for subject, number in pairs}, first == b"timed")


@dataclass(frozen=True, slots=True)
class Changed:
    """What is to be read again: `lines` of N-Triples, whose facts are those of the subjects with these `keys`."""

    lines: bytes
    keys: frozenset[str]


def digest_of(path: Path) -> Digest | None:
    """Return the digest of an N-Triples file; None for one with redirects, lines of another form, or too many."""
    subjects: dict[bytes, int] = {}
    timed = False
    for subject, lines in groupby(lines_of(path), _subject):
        told = blake2b(digest_size=_BYTES)
        for line in lines:
            if _KEPT in line or (subject is None and line.strip() and not line.lstrip().startswith(b"#")):
                return None
            timed = timed or any(time in line for time in _TIMES)
            told.update(line.rstrip(b"\r\n") + b"\n")
        if subject is None:
            continue
        number = int.from_bytes(told.digest())
        subjects[subject] = (subjects.get(subject, 0) + number) % 2 ** (8 * _BYTES)
        if len(subjects) > MOST_SUBJECTS:
            return None
    return Digest(subjects, timed)


def changed_lines(path: Path, earlier: Digest, now: Digest) -> Changed | None:
    """Return what to read again of the file with digest `now`; None where it is better read whole."""
    changed = {subject for subject, number in now.subjects.items() if earlier.subjects.get(subject) != number}
    changed.update(subject for subject in earlier.subjects if subject not in now.subjects)
    if not changed:
        return Changed(b"", frozenset())
    naming: set[bytes] = set()
    nodes_named = False
    for subject, predicate, value, _ in _triples(path):
        nodes_named = nodes_named or predicate.startswith(_NODE)
        if value in changed:
            naming.add(subject)
    again = changed | naming
    if nodes_named:
        again |= {subject for subject, p, value, _ in _triples(path) if p.startswith(_NODE) and value in again}
    if len(again) > MOST_AGAIN * len(now.subjects):
        return None
    return Changed(_lines_about(path, again), frozenset(_key(one) for one in again if one[:1] == b"<"))


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


def _key(subject: bytes) -> str:
    """Return the key that facts of this subject have."""
    return short_id(subject.decode()[1:-1])
