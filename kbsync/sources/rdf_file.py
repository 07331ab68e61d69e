"""Facts from a local RDF file, loaded into an Oxigraph store and asked as an endpoint is."""

import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from xml.parsers import expat

from pyoxigraph import BlankNode, Literal, NamedNode, QuerySolutions, RdfFormat, Store

from kbsync.errors import SourceError
from kbsync.sources.base import Ask, Reading, locate
from kbsync.sources.queries import property_id, whole
from kbsync.sources.rdf_changes import Digest, changed_lines, digest_of
from kbsync.sources.results import TEXT, Row, Term
from kbsync.sources.statements import read_aliases, read_facts, take_all

__all__ = ["ChangedPart", "RdfFile", "RdfStore"]

LARGE = 32 * 2**20
"""Bytes; a file above this is loaded into a store on disk."""

_FORMATS = {
    ".ttl": RdfFormat.TURTLE,
    ".nt": RdfFormat.N_TRIPLES,
    ".rdf": RdfFormat.RDF_XML,
    ".n3": RdfFormat.N3,
    ".trig": RdfFormat.TRIG,
}
_REMEDY = "the file may have been cut off: get it again, or mend that line; nothing was taken from it"


class RdfStore:
    """Statements in an Oxigraph store, asked as an endpoint is. `folder` holds them; None: the memory does."""

    def __init__(self, folder: Path | None = None) -> None:
        self.store = Store() if folder is None else Store(folder)

    def read(self, name: str, ask: Ask) -> Reading:
        """Return `ask`'s facts, with `name` as their source."""
        facts, skipped = read_facts(self._select, ask, rows_of=take_all)
        aliases = read_aliases(self._select, facts, ask, rows_of=take_all)
        return Reading(name, whole(ask).text(), facts, skipped, aliases)

    def _select(self, query: str) -> list[Row]:
        solutions = self.store.query(query, use_default_graph_as_union=True)
        assert isinstance(solutions, QuerySolutions)
        names = [variable.value for variable in solutions.variables]
        return [
            {name: _term(value) for name, value in zip(names, solution, strict=True) if value is not None}
            for solution in solutions
        ]


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
    """An RDF file in Wikidata's shape; its suffix says its format. Loaded once, at the first reading.

    What is loaded of a large file lies in a temporary folder (about as large as the file), so that the memory that
    it takes does not grow with the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = str(path.resolve())

    def read(self, ask: Ask) -> Reading:
        """Read the current facts of `ask`'s relation; raises SourceError if the file is not whole."""
        property_id(ask.relation, f"RDF file {self._path}")
        with locate(f"{self._path}, relation {ask.relation}"):
            return self._loaded.read(self.name, ask)

    def digest(self) -> Digest | None:
        """Return what tells later which subjects have changed; None for a file that is not N-Triples.

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

    @cached_property
    def _loaded(self) -> RdfStore:
        form = _FORMATS[self._path.suffix.lower()]
        with self._telling():
            if form == RdfFormat.RDF_XML:
                self._check_xml()
            loaded = RdfStore(self._folder if self._path.stat().st_size > LARGE else None)
            loaded.store.bulk_load(path=self._path, format=form)
        if len(loaded.store) == 0:
            raise SourceError(f"{self._path}: holds no statement; {_REMEDY}")
        return loaded

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Turn what goes wrong with the file into SourceError."""
        try:
            yield
        except expat.ExpatError as error:
            place = f"{self._path}:{error.lineno}:{error.offset}"
            raise SourceError(f"{place}: not whole XML ({expat.ErrorString(error.code)}); {_REMEDY}") from error
        except SyntaxError as error:
            raise SourceError(f"{self._path}:{error.lineno or '?'}: not whole RDF ({error.msg}); {_REMEDY}") from error
        except (OSError, ValueError) as error:
            raise SourceError(f"{self._path}: cannot be read ({error}); check the file and its permissions") from error

    @cached_property
    def _folder(self) -> Path:
        folder = tempfile.mkdtemp(prefix="kbsync-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)  # also at exit
        return Path(folder)

    def _check_xml(self) -> None:
        # pyoxigraph takes RDF/XML that ends between two elements for a whole document.
        with self._path.open("rb") as file:
            expat.ParserCreate().ParseFile(file)


def _term(value: object) -> Term:
    if isinstance(value, NamedNode):
        return Term(value.value)
    if isinstance(value, BlankNode):
        return Term(value.value, "blank")
    assert isinstance(value, Literal)
    datatype = value.datatype.value
    return Term(value.value, "literal", (value.language or "").lower(), "" if datatype in TEXT else datatype)
