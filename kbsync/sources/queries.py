"""The SPARQL texts, for endpoints and RDF files alike.

A relation is read in three steps, each small enough for a public endpoint: the subjects that have it, the statements
of some hundred subjects at a time, and the labels of what they name. Nothing reaches a text unchecked: ids and IRIs
pass `iri_of`, the relation passes `property_id`, labels are escaped.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kbsync.errors import SettingsError, SourceError
from kbsync.sources.base import Ask, iri_of, short_id, shown

__all__ = [
    "Query",
    "about_property",
    "aliases",
    "label_languages",
    "labels",
    "language_rank",
    "nodes_counted",
    "nodes_page",
    "properties_named",
    "property_id",
    "sample",
    "statements",
    "subjects",
    "subjects_named",
    "subjects_page",
    "whole",
]

_PREFIXES = """\
PREFIX wd: <http://www.wikidata.org/entity/>
PREFIX wdt: <http://www.wikidata.org/prop/direct/>
PREFIX p: <http://www.wikidata.org/prop/>
PREFIX ps: <http://www.wikidata.org/prop/statement/>
PREFIX pq: <http://www.wikidata.org/prop/qualifier/>
PREFIX pqv: <http://www.wikidata.org/prop/qualifier/value/>
PREFIX wikibase: <http://wikiba.se/ontology#>
PREFIX rdfs: <http://www.w3.org/2000/01/rdf-schema#>
PREFIX schema: <http://schema.org/>
PREFIX skos: <http://www.w3.org/2004/02/skos/core#>
PREFIX xsd: <http://www.w3.org/2001/XMLSchema#>
"""
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


@dataclass(frozen=True, slots=True)
class Query:
    """A question for distinct rows of `columns`, and the texts that ask it."""

    columns: str
    body: str

    @property
    def _select(self) -> str:
        return f"SELECT DISTINCT {self.columns} WHERE {{\n{self.body}\n}}"

    def text(self, limit: int | None = None, *, ordered: bool = False) -> str:
        """The question as one text, for all rows, or for `limit` of them: the first in order, or any."""
        order = f"\nORDER BY {self.columns}" if ordered else ""
        return _PREFIXES + self._select + order + (f"\nLIMIT {limit}" if limit else "")

    def counted(self) -> str:
        """All rows, and one more whose ``?total`` says how many they are.

        The total stands in the same answer, so an answer that was cut, or capped by the endpoint, shows.
        """
        return (
            f"{_PREFIXES}SELECT {self.columns} ?total WHERE {{\n"
            f"{{ {self._select} }}\nUNION\n"
            f"{{ SELECT (COUNT(*) AS ?total) WHERE {{ {self._select} }} }}\n}}"
        )


def property_id(relation: str, source: str) -> str:
    """Return `relation` if it is a Wikidata property; raise SettingsError, as `source` knows no other."""
    if not re.fullmatch(r"P[1-9][0-9]*", relation):
        raise SettingsError(
            f"relation {relation!r}: {source} knows Wikidata properties such as P17 only; "
            "facts of a relation of your own come from a YAML file or a table (--source FILE.yaml or FILE.csv)"
        )
    return relation


def label_languages(language: str) -> tuple[str, ...]:
    """Languages in which a label is taken, best first; "" is a label without a language, as own RDF files have.

    A list (``de,fr``) is taken as it stands. After a single language come ``mul``, other forms of the same language
    (``en-*`` stands for all: en-gb, en-ca), and ``en``.
    """
    first, *rest = language.lower().split(",")
    base = first.partition("-")[0]
    return tuple(dict.fromkeys((first, *(rest or ("mul", base, f"{base}-*", "en")), "")))


def language_rank(tag: str, languages: Sequence[str]) -> int | None:
    """Return the place of a language tag among `label_languages`, 0 for the best; None where it is none of them."""
    for name in (tag, f"{tag.partition('-')[0]}-*"):
        if name in languages:
            return languages.index(name)
    return None


def subjects(ask: Ask) -> Query:
    """All subjects that have the relation, within `ask`'s class and sitelinks: rows of ``?subject``."""
    return Query("?subject", f"{_narrow(ask)}  ?subject p:{ask.relation}|wdt:{ask.relation} ?any .")


def subjects_page(ask: Ask, size: int, after: str | None) -> str:
    """The text for the first `size` subjects by IRI, or (`after` an IRI, or "") for those above it."""
    query = subjects(ask)
    if after is not None:
        query = Query(query.columns, f'{query.body}\n  FILTER(STR(?subject) > "{after.translate(_ESCAPES)}")')
    return query.text(size, ordered=True)


def nodes_page(relation: str, start: int, size: int) -> str:
    """The text for `size` (2 at least) statements of the relation from number `start`, in the store's own order."""
    select = f"SELECT ?subject ?statement WHERE {{\n{_nodes(relation)}\n}}"
    return f"{_PREFIXES}{select}\nLIMIT {max(size, 2)}\nOFFSET {start}"


def nodes_counted(relation: str) -> str:
    """The text for the number of the relation's statements, as ``?total``."""
    return f"{_PREFIXES}SELECT (COUNT(*) AS ?total) WHERE {{\n{_nodes(relation)}\n}}"


def _nodes(relation: str) -> str:
    return f"  ?subject p:{relation} ?statement ."


def sample(ask: Ask, *, ordered: bool) -> str:
    """The text for the first subjects by IRI, or any: more than the limit, as some turn out to have no current fact."""
    return subjects(ask).text(2 * (ask.limit or 0) + 50, ordered=ordered)


def subjects_named(ask: Ask, names: Sequence[str]) -> Query:
    """Those of `names` (ids or labels) that have the relation: rows of ``?subject ?name``."""
    ids = [iri for iri in map(iri_of, names) if iri]
    tags = [f"@{tag}" if tag else "" for tag in label_languages(ask.language) if not tag.endswith("*")]
    literals = [f'"{name.translate(_ESCAPES)}"{tag}' for name in names if not iri_of(name) for tag in tags]
    ways = []
    if ids:
        ways.append(f"{{ VALUES ?subject {{ {_terms(ids)} }} BIND(STR(?subject) AS ?name) }}")
    if literals:
        ways.append(f"{{ VALUES ?name {{ {' '.join(literals)} }} ?subject rdfs:label ?name }}")
    return Query("?subject ?name", f"  {' UNION '.join(ways)}\n{subjects(ask).body}")


def statements(relation: str, iris: Iterable[str]) -> Query:
    """All statements of the relation about the subjects `iris`: rows of value, rank, start and end."""
    return _statements(relation, f"  VALUES ?subject {{ {_terms(iris)} }}")


def whole(ask: Ask) -> Query:
    """What the steps ask together, as one question: for the record, and to be run by hand."""
    chosen = subjects(ask) if ask.subjects is None else subjects_named(ask, ask.subjects)
    limit = f" LIMIT {ask.limit}" if ask.limit else ""
    return _statements(ask.relation, f"  {{ SELECT DISTINCT ?subject WHERE {{\n{chosen.body}\n  }}{limit} }}")


def labels(iris: Iterable[str], language: str) -> Query:
    """Labels of `iris` in `label_languages`: rows of ``?entity ?label``."""
    return _names("rdfs:label", iris, label_languages(language))


def aliases(iris: Iterable[str], language: str) -> Query:
    """Aliases of `iris` in the language, and those for all languages or of none: rows of ``?entity ?label``."""
    return _names("skos:altLabel", iris, tuple(dict.fromkeys((*language.lower().split(","), "mul", ""))))


def about_property(relation: str, language: str) -> str:
    """The text for what is said of the property itself: rows of ``?what`` (label, alias, ...) and ``?text``."""
    spoken = _in_languages("?text", label_languages(language))
    ways = " UNION ".join(
        f'{{ wd:{relation} {predicate} ?text BIND("{what}" AS ?what) {kept} }}'
        for what, predicate, kept in (
            ("label", "rdfs:label", spoken),
            ("alias", "skos:altLabel", _in_languages("?text", language.lower().split(",")[:1])),
            ("description", "schema:description", spoken),
            ("kind", "wikibase:propertyType", ""),
        )
    )
    return Query("?what ?text", f"  {ways}").text()


def properties_named(text: str, language: str, limit: int) -> str:
    """The text for the properties of which a name holds `text`: rows of ``?property ?label ?name``, one a name."""
    first = language.lower().split(",")[:1]
    return Query(
        "?property ?label ?name",
        f"""  ?property a wikibase:Property ; rdfs:label|skos:altLabel ?name ; rdfs:label ?label .
  FILTER(CONTAINS(LCASE(STR(?name)), "{text.lower().translate(_ESCAPES)}"))
  {_in_languages("?name", first)} {_in_languages("?label", first)}""",
    ).text(limit, ordered=True)


def _in_languages(variable: str, languages: Sequence[str]) -> str:
    tags = ", ".join(f'"{tag}"' for tag in languages if not tag.endswith("-*"))
    forms = "".join(f' || LANGMATCHES(LANG({variable}), "{tag[:-2]}")' for tag in languages if tag.endswith("-*"))
    return f"FILTER(LCASE(LANG({variable})) IN ({tags}){forms})"


def _names(predicate: str, iris: Iterable[str], languages: Sequence[str]) -> Query:
    return Query(
        "?entity ?label",
        f"  VALUES ?entity {{ {_terms(iris)} }}\n  ?entity {predicate} ?label .\n"
        f"  {_in_languages('?label', languages)}",
    )


def _statements(relation: str, chosen: str) -> Query:
    # A statement without ps: says "no value"; own RDF files may have plain wdt: triples and no statement nodes.
    return Query(
        "?subject ?statement ?object ?rank ?start ?startPrecision ?end ?endPrecision",
        f"""{chosen}
  {{
    ?subject p:{relation} ?statement .
    OPTIONAL {{ ?statement ps:{relation} ?object }}
    OPTIONAL {{ ?statement wikibase:rank ?rank }}
    OPTIONAL {{
      ?statement pq:P580 ?start
      OPTIONAL {{ ?statement pqv:P580 [ wikibase:timeValue ?start ; wikibase:timePrecision ?startPrecision ] }}
    }}
    OPTIONAL {{
      ?statement pq:P582 ?end
      OPTIONAL {{ ?statement pqv:P582 [ wikibase:timeValue ?end ; wikibase:timePrecision ?endPrecision ] }}
    }}
  }} UNION {{
    ?subject wdt:{relation} ?object .
    FILTER NOT EXISTS {{ ?subject p:{relation} ?node }}
  }}""",
    )


def _narrow(ask: Ask) -> str:
    lines = ""
    if ask.class_id is not None:
        lines += f"  ?subject wdt:P31 {_terms([iri_of(ask.class_id) or ''])} .\n"
    if ask.min_sitelinks is not None:
        told = "{ ?subject wikibase:sitelinks ?sitelinks }"
        if ask.sitelinks_of_pages:
            told += " UNION { ?page schema:about ?subject ; wikibase:sitelinks ?sitelinks }"
        lines += f"  {told} FILTER(?sitelinks >= {int(ask.min_sitelinks)})\n"
    return lines


def _terms(iris: Iterable[str]) -> str:
    return " ".join(map(_term, iris))


def _term(iri: str) -> str:
    if iri_of(f"<{iri}>") is None:  # an endpoint can answer with anything
        raise SourceError(f"names {shown(iri, 200)!r} as an IRI, which it is not; mend the source's data")
    short = short_id(iri)
    return f"<{iri}>" if short == iri else f"wd:{short}"
