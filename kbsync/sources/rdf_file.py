"""Facts from a local RDF file, plain or compressed, loaded into an Oxigraph store and asked as an endpoint is.

Of a large or compressed file in lines (N-Triples, N-Quads) only what the asked relations need is loaded. A file of
another format is loaded whole, a large or compressed one into a store on disk.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from xml.parsers import expat

from pyoxigraph import RdfFormat

from kbsync.errors import SourceError
from kbsync.files import DEPTH, DOCUMENT, LINE, MEGABYTE, Unchanged, is_compressed, kind_of, lines_of, open_stream
from kbsync.sources.base import Ask, Counted, Reading, locate, shown
from kbsync.sources.dump_lines import NeededLines
from kbsync.sources.file_facts import counted
from kbsync.sources.own_query import OwnQuery
from kbsync.sources.queries import in_its_form
from kbsync.sources.rdf_changes import Digest, changed_lines, digest_of
from kbsync.sources.rdf_store import IN_LINES, LARGE, REMEDY, CutError, RdfStore, TemporaryFolder, reason_of
from kbsync.sources.results import Row

_FORMATS = {
    ".ttl": RdfFormat.TURTLE,
    ".nt": RdfFormat.N_TRIPLES,
    ".nq": RdfFormat.N_QUADS,
    ".rdf": RdfFormat.RDF_XML,
    ".owl": RdfFormat.RDF_XML,
    ".jsonld": RdfFormat.JSON_LD,
    ".n3": RdfFormat.N3,
    ".trig": RdfFormat.TRIG,
}
_DOCUMENTS = (RdfFormat.RDF_XML, RdfFormat.JSON_LD)


@dataclass(frozen=True, slots=True)
class ChangedPart:
    """What changed in a file, to be read as the file is: all facts of the subjects with these `keys`, no others."""

    name: str
    loaded: RdfStore
    keys: frozenset[str]

    def read(self, ask: Ask) -> Reading:
        with locate(f"{self.name}, relation {ask.relation}"):
            return self.loaded.read(self.name, ask)


class RdfFile:
    """An RDF file; its suffix says its format. Loaded once for `asks`, at the first reading.

    What is loaded of a large file lies in a temporary folder, so that the memory that it takes does not grow with the
    file.
    """

    def __init__(self, path: Path, asks: tuple[Ask, ...] = (), own: OwnQuery | None = None) -> None:
        self._path, self._state, self.name = path, Unchanged(path), str(path.resolve())
        self._own = own
        self._form = _FORMATS[kind_of(path)]
        self._folder = TemporaryFolder()
        self._needed = NeededLines(path, lambda: lines_of(path), self._form, asks)

    def read(self, ask: Ask) -> Reading:
        """Read the current facts of `ask`'s relation; raises SourceError if the file is not whole."""
        if self._own is not None:
            with self._reading():
                loaded = self._loaded
            with locate(f"{self._path}, {self._own.place}"):
                return self._own.read(self.name, loaded.rows, ask)
        ask = replace(ask, shape=ask.found(f"RDF file {self._path}"))
        return in_its_form(self._read, lambda ask: self._store_for(ask).rows.select, ask)

    def _read(self, ask: Ask) -> Reading:
        loaded = self._store_for(ask)
        with locate(f"{self._path}, relation {ask.relation}"):
            return loaded.read(self.name, ask)

    def _store_for(self, ask: Ask) -> RdfStore:
        with self._reading():
            return self._needed.store_for(ask) if self._form in IN_LINES and self._is_large() else self._loaded

    def select(self, query: str) -> list[Row]:
        with self._reading():
            return self._loaded.rows.select(query)

    def predicates(self) -> Counted | None:
        """Return each predicate with its number of statements and one of them, most first; None if not in lines."""
        if self._form not in IN_LINES:
            return None
        with self._reading():
            lines = (line.split(None, 2) for line in lines_of(self._path))
            found = counted(
                (fields[1], fields[0], fields[2])
                for fields in lines
                if len(fields) == 3 and fields[1][:1] == b"<" and fields[0][:1] in (b"<", b"_")
            )
        return [(_written(iri), (count, _written(one), _written(other))) for iri, (count, one, other) in found]

    def digest(self) -> Digest | None:
        """Return what tells later which subjects have changed; None for a file that is not plain N-Triples.

        Raises SourceError if the file cannot be read.
        """
        if self._path.suffix.lower() != ".nt" or self._own is not None:
            return None
        with self._reading():
            return digest_of(self._path)

    def changed_since(self, earlier: Digest, now: Digest) -> "ChangedPart | None":
        """Return the part of the file to read again; None where it is better read whole."""
        with self._reading():
            changed = changed_lines(self._path, earlier, now)
            if changed is None:
                return None
            loaded, (lines, keys) = RdfStore(), changed
            try:
                loaded.store.bulk_load(lines, format=RdfFormat.N_TRIPLES)
            except SyntaxError:
                return None  # a reading of the whole file tells the line
            return ChangedPart(self.name, loaded, keys)

    @cached_property
    def _loaded(self) -> RdfStore:
        if self._form in _DOCUMENTS:
            _check_document(self._path, self._form)
        loaded = RdfStore(self._folder if self._is_large() else None)
        loaded.load(lambda: io.BufferedReader(_Lines(self._path), MEGABYTE), self._form)
        if len(loaded.store) == 0:
            raise SourceError(f"{self._path}: holds no statement that can be read; {REMEDY}")
        return loaded

    def _is_large(self) -> bool:
        return is_compressed(self._path) or self._path.stat().st_size > LARGE

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Turn what goes wrong with the file into SourceError."""
        with self._state.reading():
            try:
                yield
            except expat.ExpatError as error:
                place = f"{self._path}:{error.lineno}:{error.offset}"
                raise SourceError(f"{place}: not whole XML ({expat.ErrorString(error.code)}); {REMEDY}") from error
            except CutError as error:
                raise SourceError(f"{self._path}:{error.line}: not whole RDF ({error}); {REMEDY}") from error
            except SyntaxError as error:
                place = f"{self._path}:{error.lineno or '?'}"
                raise SourceError(f"{place}: not whole RDF ({reason_of(error)}); {REMEDY}") from error


def _written(term: bytes) -> str:
    return term.rstrip(b" .\r\n").decode("utf-8", "replace").removeprefix("<").removesuffix(">")


class _Lines(io.RawIOBase):
    """A file's stream that ends with an error where a line is too long, as the parser would take all of it."""

    def __init__(self, path: Path) -> None:
        self._path, self._stream = path, open_stream(path)
        self._number, self._length, self._most = 1, 0, LINE.bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._stream.read(len(buffer))
        buffer[: len(piece)] = piece
        ends = piece.count(b"\n")
        self._length = len(piece) - piece.rfind(b"\n") - 1 if ends else self._length + len(piece)
        self._number += ends
        if self._length > self._most:
            raise SourceError(f"{self._path}:{self._number}: line too long ({LINE.told})")
        return len(piece)

    def close(self) -> None:
        self._stream.close()
        super().close()


def _check_document(path: Path, form: RdfFormat) -> None:
    """Raise SourceError for a document that is too large or would grow beyond measure, and ExpatError for bad XML.

    pyoxigraph takes RDF/XML that ends between two elements for a whole document, and puts in whatever its entities
    stand for.
    """
    with open_stream(path) as stream:
        text = stream.read(DOCUMENT.bytes + 1)
    if len(text) > DOCUMENT.bytes:
        raise SourceError(f"{path}: too large ({DOCUMENT.told}); save it as N-Triples (.nt), which is read in lines")
    if form != RdfFormat.RDF_XML:
        return
    depth, length = 0, 0

    def bound(count: int) -> None:
        nonlocal length
        length += count
        if length > DOCUMENT.bytes:
            raise SourceError(f"{path}: its entities (<!ENTITY ...>) stand for too much text ({DOCUMENT.told})")

    def begin(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEPTH.value:
            raise SourceError(f"{path}:{parser.CurrentLineNumber}: nested too deeply ({DEPTH.told})")
        bound(sum(map(len, attributes.values())))

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1

    def entity(name: str, parameter: bool, value: str | None, *_: object) -> None:
        if value is None or "&" in value:
            raise SourceError(
                f"{path}:{parser.CurrentLineNumber}: entity {shown(name, 40)!r} stands for a file or for other "
                "entities; write out what it stands for"
            )

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = begin, end
    parser.CharacterDataHandler, parser.EntityDeclHandler = lambda data: bound(len(data)), entity
    try:
        parser.Parse(text, True)
    except (LookupError, ValueError) as error:  # an encoding that expat does not know
        raise SourceError(f"{path}: XML that cannot be read ({shown(str(error))}); save it as UTF-8") from error
