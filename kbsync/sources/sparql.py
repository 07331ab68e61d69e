"""Facts from a SPARQL endpoint, asked one query at a time and with patience.

A busy or failing server (429, 500, 502, 503, 504) and a cut connection are asked again, five times at most: after the
time that the server wants, else after growing pauses. What took too long is asked for in smaller pages
(`kbsync.sources.paging`). Everything else, and the last try, becomes a SourceError that says which endpoint and
relation, what happened and what to do, and carries the query.

Properties themselves: which ones a source has, and their labels, aliases, description and kind of objects.
"""

import math
import random
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kbsync.errors import SettingsError, SourceError
from kbsync.shapes import PREFIXES, short_name
from kbsync.sources import queries
from kbsync.sources.base import ALONE, Access, Ask, Reading, Source, clean, locate, shown
from kbsync.sources.endpoint import RequestError, ask_endpoint
from kbsync.sources.own_query import OwnQuery
from kbsync.sources.paging import TRIES, Paged, TooLongError
from kbsync.sources.queries import in_its_form, language_rank, whole
from kbsync.sources.results import Row, check_rows, parse_results
from kbsync.sources.statements import read_aliases, read_facts

if TYPE_CHECKING:
    from kbsync.sources.rdf_file import RdfFile


class SparqlSource:
    def __init__(
        self,
        endpoint: str,
        *,
        name: str | None = None,
        ordered_sample: bool = True,
        access: Access = ALONE,
        own: OwnQuery | None = None,
    ) -> None:
        """`name` is the ledger's (else the address); see `read_facts` for samples. `own` is what it is asked."""
        self.name, self.endpoint, self.ordered_sample = name or endpoint, endpoint, ordered_sample
        self._access, self._own = access, own

    def read(self, ask: Ask) -> Reading:
        """Read the current facts of `ask`'s relation; raises SourceError if any answer fails or is not whole."""
        if self._own is not None:
            with locate(f"{self.endpoint}, {self._own.place}"):
                return self._own.read(self.name, Paged(self.select), ask)
        ask = replace(ask, shape=ask.found(f"endpoint {self.endpoint}"))
        with locate(f"{self.endpoint}, relation {ask.relation}"):
            return in_its_form(self._read, lambda _: self.select, ask)

    def _read(self, ask: Ask) -> Reading:
        rows = Paged(self.select)
        facts, notes = read_facts(rows, ask, ordered=self.ordered_sample)
        return notes.reading(self.name, whole(ask).text(), facts, read_aliases(rows, facts, ask))

    def predicates(self) -> None:
        """SPARQL tells them."""

    def select(self, query: str) -> list[Row]:
        """Return the rows of one query, each with the variables that it asks for.

        Raises TooLongError where a smaller query may pass, else SourceError.
        """
        kept = self._access.pages.find(query) if self._access.pages else None
        rows = None
        if kept is not None:
            with suppress(ValueError):  # it is not whole
                rows = parse_results(kept)
        if rows is None:
            rows = self._ask(query)
        try:
            if self._own is None or self._own.text not in query:
                check_rows(rows, query)
        except ValueError as error:
            raise SourceError(f"{shown(str(error))}; check the endpoint", query=query) from error
        return rows

    def _ask(self, query: str) -> list[Row]:
        for attempt in range(1, TRIES + 1):
            try:
                rows, body = ask_endpoint(self.endpoint, query, self._access)
            except RequestError as fault:
                if fault.remedy == "less":
                    raise TooLongError(str(fault), query=query) from fault
                if fault.remedy == "none" or attempt == TRIES:
                    tried = f" (tried {attempt} times)" if attempt > 1 else ""
                    raise SourceError(f"{fault}{tried}", query=query) from fault
                # Without jitter, all that a failing server has sent away would come back at once.
                self._wait(2.0 ** (attempt - 1) * random.uniform(0.5, 1.5) if fault.pause is None else fault.pause)
            else:
                if self._access.pages is not None:
                    self._access.pages.keep(query, body)
                return rows
        raise AssertionError("the last try returns or raises")

    def _wait(self, seconds: float) -> None:
        total = math.ceil(seconds)
        for passed in range(total):
            self._access.progress(f"waiting for {self.name}: {total - passed} s more", passed, total)
            self._access.sleep(min(1.0, seconds - passed))
        self._access.progress(f"waiting for {self.name}: over", total, total)


FOUND = 50  # Properties that a search gives at most
MOST = 200  # Predicates that are listed at most
NAMES = 200  # Names that it looks at

_PROPERTY = re.compile(r"http://www\.wikidata\.org/entity/(P[1-9][0-9]*)")


@dataclass(frozen=True, slots=True)
class Property:
    """A property as an endpoint knows it; `kind` is that of its objects (``WikibaseItem``, ``Quantity``), or ""."""

    relation: str
    label: str
    aliases: tuple[str, ...] = ()
    description: str = ""
    kind: str = ""


def read_property(source: "SparqlSource | RdfFile", relation: str, *, predicate: str | None = None) -> Property:
    """Return what a source says of `relation`, or of the `predicate` (an IRI) that states it.

    Raises SourceError where it has no label for the relation; a predicate is called what its IRI ends with then.
    """
    if predicate is None and not re.fullmatch(r"P[1-9][0-9]*", relation):
        raise SettingsError(f"relation {relation!r} is no Wikidata property: say with --predicate how sources state it")
    with locate(f"{source.name}, relation {relation}"):
        rows = source.select(queries.about_property(predicate or PREFIXES["wd"] + relation))
    label, description = _best(rows, "label"), _best(rows, "description")
    if label is None and predicate is not None:
        label = re.sub(r"(?<=[a-z])(?=[A-Z])|[_-]+", " ", re.split("[/#:]", predicate)[-1]).lower()
    if label is None:
        tags = ", ".join(tag for tag in queries.ENGLISH if tag and "*" not in tag)
        raise SourceError(
            f"{source.name} has no label of {relation} in {tags}: "
            "check the relation's id, or name another endpoint with --source"
        )
    kinds = [row["text"].value.rpartition("#")[2] for row in rows if row["what"].value == "kind"]
    names = {clean(row["text"].value) for row in rows if row["what"].value == "alias"}
    return Property(relation, label, tuple(sorted(names - {label, ""})), description or "", "".join(kinds[:1]))


def discover(source: Source) -> list[tuple[str, int, str]]:
    """Return the predicates (a table's relations or columns) with the most statements, their number, and one.

    Tables, databases and files in lines are gone through once; other RDF files and endpoints are asked, for `MOST`.
    Raises SourceError where that fails.
    """
    from kbsync.sources.rdf_file import RdfFile

    if (told := source.predicates()) is not None:
        return [(name, count, _shortened(*pair)) for name, (count, *pair) in told]
    assert isinstance(source, RdfFile | SparqlSource)
    with locate(f"{source.name}, its predicates"):
        rows = source.select(queries.predicates(MOST))
    found = []
    for row in rows:
        count = row["statements"].value if "statements" in row else ""
        if not (count.isascii() and count.isdecimal() and len(count) < 16):
            raise SourceError(f"{source.name}: gave a count that is none: {shown(count, 40)!r}; check the endpoint")
        subject, _, thing = (row["example"].value if "example" in row else "").partition(" ")
        found.append((row["property"].value, int(count), _shortened(subject, thing)))
    return found


def _shortened(subject: str, thing: str) -> str:
    return f"{shown(short_name(subject), 40)} -> {shown(short_name(thing), 40)}"


def find_properties(endpoint: SparqlSource, text: str) -> list[Property]:
    """Return the properties one of whose names holds `text` (in either case), by number, `FOUND` at most.

    Of their aliases there are those that hold it.
    """
    with locate(f"{endpoint.endpoint}, properties"):
        rows = endpoint.select(queries.properties_named(text, NAMES))
    labels: dict[str, str] = {}
    names: dict[str, set[str]] = {}
    for row in rows:
        if match := _PROPERTY.fullmatch(row["property"].value):
            labels[match[1]] = row["label"].value
            names.setdefault(match[1], set()).add(row["name"].value)
    found = sorted(labels, key=lambda name: int(name[1:]))[:FOUND]
    return [Property(one, labels[one], tuple(sorted(names[one] - {labels[one]}))) for one in found]


def _best(rows: list[Row], what: str) -> str | None:
    ranked = [
        (rank, text)
        for row in rows
        if row["what"].value == what and (text := clean(row["text"].value))
        if (rank := language_rank(row["text"].language, queries.ENGLISH)) is not None
    ]
    return min(ranked)[1] if ranked else None
