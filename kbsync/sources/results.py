"""SPARQL results in JSON, XML or TSV, turned into plain rows, and checked here: what comes out has the shape asked for.

JSON is read here, as Virtuoso and others write names of blank nodes and IRIs that pyoxigraph's parser refuses with the
whole answer; XML and TSV are read by that parser. CSV tells neither an IRI from a text nor a language, so it is none.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from typing import Literal as Choice

from kbsync.files import MEGABYTE

ACCEPTED = (
    "application/sparql-results+json, application/json;q=0.9, application/sparql-results+xml;q=0.7, "
    "text/tab-separated-values;q=0.5"
)
"""what an endpoint is asked for, best first"""
TEXT = ("http://www.w3.org/2001/XMLSchema#string", "http://www.w3.org/1999/02/22-rdf-syntax-ns#langString")
"""types of plain text"""
IN_ONE = 32 * MEGABYTE
"""bytes of JSON that are parsed at once; more are read in a stream, as a parsed document takes many times its size"""
COUNT = 15  # digits of a count, at most

_JSON = ("application/sparql-results+json", "application/json", "text/json", "text/plain")
_XML = ("application/sparql-results+xml", "application/xml", "text/xml")
_TSV = ("text/tab-separated-values",)
_KINDS: dict[str, Choice["iri", "literal", "blank"]] = {
    "uri": "iri",
    "literal": "literal",
    "typed-literal": "literal",
    "bnode": "blank",
}


@dataclass(frozen=True, slots=True)
class Term:
    """An RDF term of a result: IRI, literal (with its language, or the IRI of its type) or blank node."""

    value: str
    kind: Choice["iri", "literal", "blank"] = "iri"
    language: str = ""
    datatype: str = ""
    """"" for plain text"""


Row = dict[str, Term]


def parse_results(body: bytes, kind: str = "") -> list[Row] | None:
    """Return the rows of a SELECT's results; None where the media type `kind` is none that is read.

    Raises ValueError if `body` is not one whole result.
    """
    if not kind:  # an answer that was kept
        kind = {b"<": _XML[0], b"?": _TSV[0]}.get(body.lstrip()[:1], _JSON[0])
    if kind in _XML or kind in _TSV:
        return _parsed(body, kind)
    if kind not in _JSON:
        return None
    try:
        bindings = json.loads(body)["results"]["bindings"] if len(body) <= IN_ONE else _streamed(body)
        return [{name: _term(value) for name, value in row.items() if value is not None} for row in bindings]
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not SPARQL results in JSON ({error!r})") from error


def _streamed(body: bytes) -> Iterator[dict[str, dict[str, str]]]:
    """Yield the bindings of a large answer, of which nothing but the row at hand is held."""
    import ijson

    found = False
    try:
        for row in ijson.items(body, "results.bindings.item"):
            found = True
            yield row
        if not found and list(ijson.items(body, "results.bindings")) != [[]]:
            raise ValueError("not SPARQL results in JSON (no results)")
    except (ijson.JSONError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error


def _term(value: Mapping[str, str]) -> Term:
    datatype, text = value.get("datatype", ""), value["value"]
    language = value.get("xml:lang", "").lower()
    if (
        not isinstance(text, str)
        or not isinstance(datatype, str)
        or (not text.isascii() and re.search("[\ud800-\udfff]", text))
    ):
        raise TypeError(f"a value that is no text: {str(text)[:80]!r}")
    return Term(text, _KINDS[value["type"]], language, "" if datatype in TEXT else datatype)


def _parsed(body: bytes, kind: str) -> list[Row]:
    from pyoxigraph import QueryResultsFormat, QuerySolutions, parse_query_results

    try:
        solutions = parse_query_results(body, QueryResultsFormat.XML if kind in _XML else QueryResultsFormat.TSV)
        if not isinstance(solutions, QuerySolutions):
            raise ValueError("not the results of a SELECT")
        return list(rows_of(solutions))
    except SyntaxError as error:
        raise ValueError(error.msg) from error


def rows_of(solutions: Any) -> Iterator[Row]:
    from pyoxigraph import BlankNode, Literal, NamedNode

    def term_of(value: Any) -> Term:
        if isinstance(value, NamedNode):
            return Term(value.value)
        if not isinstance(value, Literal):  # a statement on a statement is no object of ours either
            return Term(value.value if isinstance(value, BlankNode) else str(value), "blank")
        datatype = value.datatype.value
        return Term(value.value, "literal", (value.language or "").lower(), "" if datatype in TEXT else datatype)

    names = [variable.value for variable in solutions.variables]
    for solution in solutions:
        yield {name: term_of(value) for name, value in zip(names, solution, strict=True) if value is not None}


# What each variable of our queries may be, and whether a row must have it.
_ANY = ("iri", "literal", "blank")
_SHAPES: dict[str, tuple[tuple[str, ...], bool]] = {
    "subject": (("iri", "blank"), True),
    "statement": (("iri", "blank"), False),
    "object": (_ANY, False),
    "rank": (_ANY, False),
    **dict.fromkeys(("start", "end", "startPrecision", "endPrecision"), (_ANY, False)),
    **dict.fromkeys(("entity", "by"), (("iri",), True)),
    "kept": (_ANY, True),
    "property": (("iri",), True),
    **dict.fromkeys(("label", "what"), (("literal",), True)),
    "name": (("iri", "literal"), True),
    "text": (("iri", "literal"), True),
    "total": (("literal",), False),
}
_ASKED = re.compile(r"SELECT (?:DISTINCT )?((?:\?\w+ ?)+)")


def check_rows(rows: Iterable[Row], query: str) -> None:
    """Raise ValueError where a row of the answer to `query`, a text of ours, has not the variables that it asks for."""
    found = _ASKED.search(query)
    names = [] if found is None else re.findall(r"\w+", found[1])
    asked = {name: _SHAPES.get(name, (_ANY, False)) for name in names}
    needed = [name for name, (_, always) in asked.items() if always]
    for row in rows:
        if "total" in row and "total" in asked:
            digits = row["total"].value
            if len(row) > 1 or not (digits.isascii() and digits.isdecimal() and len(digits) <= COUNT):
                raise ValueError(f"gave a count that is none: {digits[:80]!r}")
        elif missing := [name for name in needed if name not in row]:
            raise ValueError(f"gave a row without ?{missing[0]}, which was asked for")
        for name, term in row.items():
            if name in asked and term.kind not in asked[name][0]:
                raise ValueError(f"gave a {term.kind} as ?{name}: {term.value[:80]!r}")
