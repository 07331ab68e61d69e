"""Facts from a local RDF file, loaded into an Oxigraph store and asked as an endpoint is."""

from functools import cached_property
from pathlib import Path
from xml.parsers import expat

from pyoxigraph import QueryResultsFormat, QuerySolutions, RdfFormat, Store

from kbsync.errors import SourceError
from kbsync.sources.base import Ask, Reading, locate
from kbsync.sources.queries import property_id, whole
from kbsync.sources.results import Row, parse_results
from kbsync.sources.statements import read_aliases, read_facts

__all__ = ["RdfFile"]

_FORMATS = {
    ".ttl": RdfFormat.TURTLE,
    ".nt": RdfFormat.N_TRIPLES,
    ".rdf": RdfFormat.RDF_XML,
    ".n3": RdfFormat.N3,
    ".trig": RdfFormat.TRIG,
}
_REMEDY = "the file may have been cut off: get it again, or mend that line; nothing was taken from it"


class RdfFile:
    """An RDF file in Wikidata's shape; its suffix says its format. Loaded once, at the first reading."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = str(path.resolve())

    def read(self, ask: Ask) -> Reading:
        """Read the current facts of `ask`'s relation; raises SourceError if the file is not whole."""
        property_id(ask.relation, f"RDF file {self._path}")
        query = whole(ask).text()
        with locate(f"{self._path}, relation {ask.relation}"):
            facts, skipped = read_facts(self._select, ask)
            aliases = read_aliases(self._select, facts, ask)
        return Reading(self.name, query, facts, skipped, aliases)

    def _select(self, query: str) -> list[Row]:
        solutions = self._store.query(query, use_default_graph_as_union=True)
        assert isinstance(solutions, QuerySolutions)
        return parse_results(solutions.serialize(format=QueryResultsFormat.JSON) or b"")

    @cached_property
    def _store(self) -> Store:
        store = Store()
        form = _FORMATS[self._path.suffix.lower()]
        try:
            if form == RdfFormat.RDF_XML:
                self._check_xml()
            store.bulk_load(path=self._path, format=form)
        except expat.ExpatError as error:
            place = f"{self._path}:{error.lineno}:{error.offset}"
            raise SourceError(f"{place}: not whole XML ({expat.ErrorString(error.code)}); {_REMEDY}") from error
        except SyntaxError as error:
            raise SourceError(f"{self._path}:{error.lineno or '?'}: not whole RDF ({error.msg}); {_REMEDY}") from error
        except (OSError, ValueError) as error:
            raise SourceError(f"{self._path}: cannot be read ({error}); check the file and its permissions") from error
        if len(store) == 0:
            raise SourceError(f"{self._path}: holds no statement; {_REMEDY}")
        return store

    def _check_xml(self) -> None:
        # pyoxigraph takes RDF/XML that ends between two elements for a whole document.
        with self._path.open("rb") as file:
            expat.ParserCreate().ParseFile(file)
