"""An Oxigraph store that is asked as an endpoint is."""

import shutil
import tempfile
import weakref
from functools import cached_property
from pathlib import Path

from pyoxigraph import BlankNode, Literal, NamedNode, QuerySolutions, RdfFormat, Store

from kbsync.errors import SourceError
from kbsync.sources.base import Ask, Reading
from kbsync.sources.queries import whole
from kbsync.sources.results import TEXT, Row, Term
from kbsync.sources.sift import LineError, Lines, Need, sift
from kbsync.sources.statements import read_aliases, read_facts, take_all

__all__ = ["LARGE", "REMEDY", "RdfStore", "Sifted", "TemporaryFolder"]

LARGE = 32 * 2**20
"""Bytes; what is above this is loaded into a store on disk."""
REMEDY = "the file may have been cut off: get it again, or mend that line; nothing was taken from it"


class RdfStore:
    """Statements in an Oxigraph store, asked as an endpoint is. `folder` holds them; None: the memory does."""

    def __init__(self, folder: Path | None = None) -> None:
        self.store = Store() if folder is None else Store(folder)

    def read(self, name: str, ask: Ask) -> Reading:
        """Return `ask`'s facts, with `name` as their source."""
        facts, skipped, nameless = read_facts(self._select, ask, rows_of=take_all)
        aliases = read_aliases(self._select, facts, ask, rows_of=take_all)
        return Reading(name, whole(ask).text(), facts, skipped, aliases, nameless)

    def _select(self, query: str) -> list[Row]:
        solutions = self.store.query(query, use_default_graph_as_union=True)
        assert isinstance(solutions, QuerySolutions)
        names = [variable.value for variable in solutions.variables]
        return [
            {name: _term(value) for name, value in zip(names, solution, strict=True) if value is not None}
            for solution in solutions
        ]


class TemporaryFolder:
    """A folder that is there once it is asked for, and goes with this object, at exit at the latest."""

    @cached_property
    def path(self) -> Path:
        """The folder."""
        folder = tempfile.mkdtemp(prefix="kbsync-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return Path(folder)


class Sifted:
    """A dump's lines, sifted for what is asked and loaded (`kbsync.sources.sift`); `asks` are sifted for together."""

    def __init__(self, path: Path, lines: Lines, form: RdfFormat, asks: tuple[Ask, ...] = ()) -> None:
        self._path, self._lines, self._form = path, lines, form
        self._need = Need.of(asks)
        self._loaded: tuple[Need, RdfStore] | None = None
        self._folder = TemporaryFolder()

    def store_for(self, ask: Ask) -> RdfStore:
        """Return a store with all that `ask` needs; raises SourceError for a bad line, and OSError."""
        need = Need.of([ask])
        if self._loaded is None or self._loaded[0] | need != self._loaded[0]:
            self._need |= need
            self._loaded = None
            self._folder = TemporaryFolder()
            self._loaded = (self._need, self._load())
        return self._loaded[1]

    def _load(self) -> RdfStore:
        kept = self._folder.path / "kept.nq"
        try:
            with kept.open("wb") as out:
                count = sift(self._lines, self._form, self._need, out)
        except LineError as error:
            raise SourceError(f"{self._path}:{error.line}: not whole RDF ({error}); {REMEDY}") from error
        if not count:
            raise SourceError(f"{self._path}: holds no statement; {REMEDY}")
        loaded = RdfStore(self._folder.path / "store" if kept.stat().st_size > LARGE else None)
        try:
            loaded.store.bulk_load(path=kept, format=self._form)
        except SyntaxError as error:
            place = f"{self._path}:{self._number_of(_line(kept, error.lineno or 1))}"
            raise SourceError(f"{place}: not whole RDF ({error.msg}); {REMEDY}") from error
        kept.unlink()
        return loaded

    def _number_of(self, bad: bytes) -> int | str:
        """Return the number that a kept line has in the dump."""
        return next((number for number, line in enumerate(self._lines(), start=1) if line.strip() == bad.strip()), "?")


def _line(path: Path, wanted: int) -> bytes:
    with path.open("rb") as file:
        return next((line for number, line in enumerate(file, start=1) if number == wanted), b"")


def _term(value: object) -> Term:
    if isinstance(value, NamedNode):
        return Term(value.value)
    if isinstance(value, BlankNode):
        return Term(value.value, "blank")
    assert isinstance(value, Literal)
    datatype = value.datatype.value
    return Term(value.value, "literal", (value.language or "").lower(), "" if datatype in TEXT else datatype)
