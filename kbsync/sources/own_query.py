"""A query of the user's own in place of a relation's shape: its text, and the facts that its rows state.

SPARQL is a SELECT with ``?subject`` and ``?object`` and, if it likes, ``?subjectLabel``, ``?objectLabel``, ``?since``
and ``?relation``; labels that it does not give are asked for as usual. It is paged only if a comment says how, in the
order that it asks for: ``# page: 10000``. SQL gives the columns of a table file (`kbsync.sources.table_file`).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from kbsync.errors import SettingsError, SourceError
from kbsync.facts import Entity
from kbsync.files import read_text
from kbsync.shapes import PREFIXES, Shape, short_id, short_name, wikibase
from kbsync.sources.base import Ask, Reading, clean, shown
from kbsync.sources.paging import Rows
from kbsync.sources.queries import with_prefixes
from kbsync.sources.results import Row
from kbsync.sources.statements import read_aliases, read_facts

_SUFFIXES = (".rq", ".sparql", ".sql")
_PAGE = re.compile(r"^[ \t]*#[ \t]*page:[ \t]*(\d{1,9})[ \t]*$", re.MULTILINE)
_WRONG = re.compile(r"error at (\d+):(\d+): (.*)", re.DOTALL)


def read_query(told: str) -> "OwnQuery":
    """Return the query that `told` is or, if it ends with .rq, .sparql or .sql, names the file of.

    Raises SettingsError for a text that is neither, SourceError for a file that cannot be read.
    """
    if told.lower().endswith(_SUFFIXES):
        return OwnQuery(read_text(Path(told)), told)
    if not re.search(r"\s", told.strip()):
        raise SettingsError(f"--query {shown(told, 80)!r} is no query: write its text, or a file {' '.join(_SUFFIXES)}")
    return OwnQuery(told, "--query")


@dataclass(frozen=True, slots=True)
class OwnQuery:
    """The text of a query, and its `place`: a file, or ``--query``."""

    text: str
    place: str

    def check_sparql(self) -> "OwnQuery":
        """Return the query as it is sent, with the prefixes that it uses; raise SourceError for a wrong one."""
        from pyoxigraph import QuerySolutions, Store

        try:
            found = Store().query(self.text, prefixes=dict(PREFIXES))
        except SyntaxError as error:
            match = _WRONG.match(str(error.msg))
            line, column, why = match.groups() if match else ("1", "1", str(error))
            raise SourceError(f"{self.place}:{line}:{column}: not a SPARQL query ({shown(why, 120)})") from error
        names = {one.value for one in found.variables} if isinstance(found, QuerySolutions) else set()
        if missing := [f"?{name}" for name in ("subject", "object") if name not in names]:
            raise SourceError(f"{self.place}: gives no {' and no '.join(missing)}: SELECT ?subject ?object, and more")
        if self._page and not re.search(r"\border\s+by\b", self.text, re.IGNORECASE):
            raise SourceError(f"{self.place}: is paged without an order: write ORDER BY, for all rows to be read once")
        return replace(self, text=with_prefixes(self.text))

    @property
    def _page(self) -> int | None:
        found = _PAGE.search(self.text)
        return int(found[1]) if found else None

    def read(self, name: str, rows: Rows, ask: Ask) -> Reading:
        """Return the facts of `ask`'s relation that the rows state, with `name` as their source."""
        if ask.partial:
            raise SettingsError("--class, --subjects, --limit and --min-sitelinks: write them into the query itself")
        shape = ask.shape or (wikibase(ask.relation) if re.fullmatch(r"P\d+", ask.relation) else Shape())
        ask = replace(ask, shape=replace(shape, path=shape.path or "<urn:kbsync:own>", literals=True))

        def stated(things: dict[str, Entity | None]) -> Iterator[Row]:
            for row in rows.own(self.text, self._page):
                told = row["relation"].value if "relation" in row else ask.relation  # its id, or what states it
                if told in (ask.relation, *shape.predicates) or short_name(told).rpartition(":")[2] == ask.relation:
                    yield _statement(row, things)

        facts, notes = read_facts(rows, ask, own=stated)
        return notes.reading(name, self.text, facts, read_aliases(rows, facts, ask))


def _statement(row: Row, things: dict[str, Entity | None]) -> Row:
    """Return a row of the user's query as one of ours; what has a label goes into `things`."""
    if "subject" not in row or "object" not in row:
        raise SourceError("gives a row without ?subject or ?object; leave such rows out (no OPTIONAL)")
    if row["subject"].kind == "blank":
        raise SourceError("gives a blank node as ?subject; give its IRI or its name")
    for name in ("subject", "object"):
        term, label = row[name], row.get(f"{name}Label")
        text = clean(label.value) if label is not None and label.kind == "literal" else ""
        if term.kind == "iri" and text:
            things[term.value] = Entity(text, short_id(term.value))
        elif term.kind == "literal" and name == "subject":
            things[term.value] = Entity(clean(term.value))
    since = {"start": row["since"]} if "since" in row else {}
    return {"subject": row["subject"], "object": row["object"], **since}
