"""SPARQL results in JSON, as endpoints and pyoxigraph both write them, turned into plain rows."""

import json
from dataclasses import dataclass
from typing import Literal

__all__ = ["TEXT", "Row", "Term", "parse_results"]

TEXT = (
    "http://www.w3.org/2001/XMLSchema#string",
    "http://www.w3.org/1999/02/22-rdf-syntax-ns#langString",
)
"""types of plain text"""

_KINDS: dict[str, Literal["iri", "literal", "blank"]] = {
    "uri": "iri",
    "literal": "literal",
    "typed-literal": "literal",
    "bnode": "blank",
}


@dataclass(frozen=True, slots=True)
class Term:
    """An RDF term of a result: IRI, literal (with its language, or the IRI of its type) or blank node."""

    value: str
    kind: Literal["iri", "literal", "blank"] = "iri"
    language: str = ""
    datatype: str = ""
    """"" for plain text"""


Row = dict[str, Term]


def parse_results(body: bytes) -> list[Row]:
    """Return the rows of a SELECT's results; raises ValueError if `body` is not one whole result."""
    answer = json.loads(body)
    try:
        return [{name: _term(value) for name, value in row.items()} for row in answer["results"]["bindings"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not SPARQL results in JSON ({error!r})") from error


def _term(value: dict[str, str]) -> Term:
    datatype = value.get("datatype", "")
    language = value.get("xml:lang", "").lower()
    return Term(str(value["value"]), _KINDS[value["type"]], language, "" if datatype in TEXT else datatype)
