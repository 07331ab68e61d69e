"""What an endpoint says of properties themselves: their labels, aliases, description and kind of objects."""

import re
from dataclasses import dataclass

from kbsync.errors import SourceError
from kbsync.shapes import PREFIXES
from kbsync.sources import queries
from kbsync.sources.base import Ask, clean, locate
from kbsync.sources.queries import label_languages, language_rank
from kbsync.sources.results import Row
from kbsync.sources.sparql import SparqlSource

__all__ = ["FOUND", "Property", "find_properties", "read_property"]

FOUND = 50
"""Properties that a search gives at most."""
NAMES = 200
"""Names that it looks at."""

_PROPERTY = re.compile(r"http://www\.wikidata\.org/entity/(P[1-9][0-9]*)")


@dataclass(frozen=True, slots=True)
class Property:
    """A property as an endpoint knows it; `kind` is that of its objects (``WikibaseItem``, ``Quantity``), or ""."""

    relation: str
    label: str
    aliases: tuple[str, ...] = ()
    description: str = ""
    kind: str = ""


def read_property(endpoint: SparqlSource, relation: str, language: str = "en") -> Property:
    """Return what the endpoint says of `relation`; raises SourceError where it has no label for it."""
    Ask(relation).found(f"endpoint {endpoint.endpoint}")
    with locate(f"{endpoint.endpoint}, relation {relation}"):
        rows = endpoint.select(queries.about_property(PREFIXES["wd"] + relation, language))
    label, description = _best(rows, "label", language), _best(rows, "description", language)
    if label is None:
        tags = ", ".join(tag for tag in label_languages(language) if tag and "*" not in tag)
        raise SourceError(
            f"{endpoint.endpoint} has no label of {relation} in {tags}: "
            "check the relation's id, or name another endpoint with --source"
        )
    kinds = [row["text"].value.rpartition("#")[2] for row in rows if row["what"].value == "kind"]
    names = {clean(row["text"].value) for row in rows if row["what"].value == "alias"}
    return Property(relation, label, tuple(sorted(names - {label, ""})), description or "", "".join(kinds[:1]))


def find_properties(endpoint: SparqlSource, text: str, language: str = "en") -> list[Property]:
    """Return the properties one of whose names holds `text` (in either case), by number, `FOUND` at most.

    Of their aliases there are those that hold it.
    """
    with locate(f"{endpoint.endpoint}, properties"):
        rows = endpoint.select(queries.properties_named(text, language, NAMES))
    labels: dict[str, str] = {}
    names: dict[str, set[str]] = {}
    for row in rows:
        if match := _PROPERTY.fullmatch(row["property"].value):
            labels[match[1]] = row["label"].value
            names.setdefault(match[1], set()).add(row["name"].value)
    found = sorted(labels, key=lambda name: int(name[1:]))[:FOUND]
    return [Property(one, labels[one], tuple(sorted(names[one] - {labels[one]}))) for one in found]


def _best(rows: list[Row], what: str, language: str) -> str | None:
    order = label_languages(language)
    ranked = [
        (rank, text)
        for row in rows
        if row["what"].value == what and (text := clean(row["text"].value))
        if (rank := language_rank(row["text"].language, order)) is not None
    ]
    return min(ranked)[1] if ranked else None
