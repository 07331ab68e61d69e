"""Facts from a local RDF file, plain or compressed, loaded into an Oxigraph store and asked as an endpoint is.

Of a large or compressed file in lines (N-Triples, N-Quads) only what the asked relations need is loaded. A file of
another format is loaded whole, a large or compressed one into a store on disk.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from xml.parsers import expat

from pyoxigraph import RdfFormat

from kbsync.errors import SourceError
from kbsync.sources.base import Ask, Reading, locate
from kbsync.sources.queries import property_id
from kbsync.sources.rdf_changes import Digest, changed_lines, digest_of
from kbsync.sources.rdf_store import LARGE, REMEDY, RdfStore, Sifted, TemporaryFolder
from kbsync.sources.streams import is_compressed, kind_of, open_stream, telling

__all__ = ["ChangedPart", "RdfFile"]

_FORMATS = {
    ".ttl": RdfFormat.TURTLE,
    ".nt": RdfFormat.N_TRIPLES,
    ".nq": RdfFormat.N_QUADS,
    ".rdf": RdfFormat.RDF_XML,
    ".n3": RdfFormat.N3,
    ".trig": RdfFormat.TRIG,
}
_IN_LINES = (RdfFormat.N_TRIPLES, RdfFormat.N_QUADS)


@dataclass(frozen=True, slots=True)
class ChangedPart:
    """What changed in a file, to be read as the file is: all facts of the subjects with these `keys`, no others."""

    name: str
    loaded: RdfStore
    keys: frozenset[str]

    def read(self, ask: Ask) -> Reading:
        """Read the current facts of `ask`'s relation."""
        with locate(f"{self.name}, relation {ask.relation}"):
            return self.loaded.read(self.name, ask)


class RdfFile:
    """An RDF file in Wikidata's shape; its suffix says its format. Loaded once for `asks`, at the first reading.

    What is loaded of a large file lies in a temporary folder, so that the memory that it takes does not grow with the
    file.
    """

    def __init__(self, path: Path, asks: tuple[Ask, ...] = ()) -> None:
        self._path = path
        self._form = _FORMATS[kind_of(path)]
        self._folder = TemporaryFolder()
        self._sifted = Sifted(path, lambda: _lines(path), self._form, asks)
        self.name = str(path.resolve())

    def read(self, ask: Ask) -> Reading:
        """Read the current facts of `ask`'s relation; raises SourceError if the file is not whole."""
        property_id(ask.relation, f"RDF file {self._path}")
        loaded = self._loaded_for(ask)
        with locate(f"{self._path}, relation {ask.relation}"):
            return loaded.read(self.name, ask)

    def digest(self) -> Digest | None:
        """Return what tells later which subjects have changed; None for a file that is not plain N-Triples.

        Raises SourceError if the file cannot be read.
        """
        if self._path.suffix.lower() != ".nt":
            return None
        with self._telling():
            return digest_of(self._path)

    def changed_since(self, earlier: Digest, now: Digest) -> "ChangedPart | None":
        """Return the part of the file to read again; None where it is better read whole."""
        with self._telling():
            changed = changed_lines(self._path, earlier, now)
            if changed is None:
                return None
            loaded = RdfStore()
            try:
                loaded.store.bulk_load(changed.lines, format=RdfFormat.N_TRIPLES)
            except SyntaxError:
                return None  # a reading of the whole file tells the line
            return ChangedPart(self.name, loaded, changed.keys)

    def _loaded_for(self, ask: Ask) -> RdfStore:
        with self._telling():
            return self._sifted.store_for(ask) if self._form in _IN_LINES and self._is_large() else self._loaded

    @cached_property
    def _loaded(self) -> RdfStore:
        if self._form == RdfFormat.RDF_XML:
            self._check_xml()
        loaded = RdfStore(self._folder.path if self._is_large() else None)
        with open_stream(self._path) as file:
            loaded.store.bulk_load(file, format=self._form)
        if len(loaded.store) == 0:
            raise SourceError(f"{self._path}: holds no statement; {REMEDY}")
        return loaded

    def _is_large(self) -> bool:
        return is_compressed(self._path) or self._path.stat().st_size > LARGE

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Turn what goes wrong with the file into SourceError."""
        with telling(self._path):
            try:
                yield
            except expat.ExpatError as error:
                place = f"{self._path}:{error.lineno}:{error.offset}"
                raise SourceError(f"{place}: not whole XML ({expat.ErrorString(error.code)}); {REMEDY}") from error
            except SyntaxError as error:
                place = f"{self._path}:{error.lineno or '?'}"
                raise SourceError(f"{place}: not whole RDF ({error.msg}); {REMEDY}") from error

    def _check_xml(self) -> None:
        # pyoxigraph takes RDF/XML that ends between two elements for a whole document.
        with open_stream(self._path) as file:
            expat.ParserCreate().ParseFile(file)


def _lines(path: Path) -> Iterator[bytes]:
    with open_stream(path) as file:
        yield from file
