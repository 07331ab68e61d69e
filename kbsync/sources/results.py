"""SPARQL results in JSON, as endpoints and pyoxigraph both write them, turned into plain rows."""

import json
from dataclasses import dataclass
from typing import Literal

__all__ = ["Row", "Term", "parse_results"]

_KINDS: dict[str, Literal["iri", "literal", "blank"]] = {
    "uri": "iri",
    "literal": "literal",
    "typed-literal": "literal",
    "bnode": "blank",
}


@dataclass(frozen=True, slots=True)
class Term:
    """An RDF term of a result: IRI, literal or blank node."""

    value: str
    kind: Literal["iri", "literal", "blank"] = "iri"
    language: str = ""


Row = dict[str, Term]


def parse_results(body: bytes) -> list[Row]:
    """Return the rows of a SELECT's results; raises ValueError if `body` is not one whole result."""
    answer = json.loads(body)
    try:
        return [{name: _term(value) for name, value in row.items()} for row in answer["results"]["bindings"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not SPARQL results in JSON ({error!r})") from error


def _term(value: dict[str, str]) -> Term:
    return Term(str(value["value"]), _KINDS[value["type"]], value.get("xml:lang", "").lower())
