"""The SPARQL texts, for endpoints and RDF files alike.

A relation is read in three steps, each small enough for a public endpoint: the subjects that have it, the statements
of some hundred subjects at a time, and the labels of what they name. Nothing reaches a text unchecked: ids and IRIs
pass `iri_of`, a relation's paths `read_shape`, labels are escaped.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from kbsync.errors import SourceError
from kbsync.shapes import PREFIXES, WIKIDATA, Shape, expand, iri_of, short_name
from kbsync.sources.base import Ask, Reading, shown
from kbsync.sources.results import Row

_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


_PREFIXED = re.compile(r"(?<![\w<])([a-z]+):(?=\w)")


def with_prefixes(text: str) -> str:
    """Return a query with the prefixes declared that it uses and does not declare."""
    used = dict.fromkeys(_PREFIXED.findall(text))
    declared = set(re.findall(r"\bprefix\s+([\w-]*):", text, re.IGNORECASE))
    return "".join(f"PREFIX {name}: <{PREFIXES[name]}>\n" for name in used if name in PREFIXES.keys() - declared) + text


@dataclass(frozen=True, slots=True)
class Query:
    """A question for rows of `columns`, each once if `distinct`, and the texts that ask it."""

    columns: str
    body: str

    distinct: bool = True

    @property
    def _select(self) -> str:
        return f"SELECT {'DISTINCT ' if self.distinct else ''}{self.columns} WHERE {{\n{self.body}\n}}"

    def text(self, limit: int | None = None, *, ordered: bool = False) -> str:
        """The question as one text, for all rows, or for `limit` of them: the first in order, or any."""
        order = f"\nORDER BY {self.columns}" if ordered else ""
        return with_prefixes(self._select + order + (f"\nLIMIT {limit}" if limit else ""))

    def counted(self) -> str:
        """All rows, and one more whose ``?total`` says how many they are.

        The total stands in the same answer, so an answer that was cut, or capped by the endpoint, shows.
        """
        return with_prefixes(
            f"SELECT {self.columns} ?total WHERE {{\n"
            f"{{ {self._select} }}\nUNION\n"
            f"{{ SELECT (COUNT(*) AS ?total) WHERE {{ {self._select} }} }}\n}}"
        )


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
    shape = shape_of(ask)
    return Query("?subject", _narrow(ask) + _in_graph(shape, f"  ?subject {_path(shape.from_subject)} ?any ."))


def subjects_streamed(ask: Ask) -> str:
    """The text for the rows of `subjects`, as often as they come: what an engine need not hold to tell rows apart.

    Neither are the two ways of stating a relation one path, whose ends would be told apart.
    """
    shape = shape_of(ask)
    ways = " UNION ".join(f"{{ ?subject {_path(path)} ?any }}" for path in (shape.node, shape.path) if path)
    return Query("?subject", _narrow(ask) + _in_graph(shape, f"  {ways}"), distinct=False).text()


def subjects_page(ask: Ask, size: int, after: str | None) -> str:
    """The text for the first `size` subjects by IRI, or (`after` an IRI, or "") for those above it."""
    query = subjects(ask)
    if after is not None:
        query = Query(query.columns, f'{query.body}\n  FILTER(STR(?subject) > "{after.translate(_ESCAPES)}")')
    return query.text(size, ordered=True)


def nodes_page(ask: Ask, start: int, size: int) -> str:
    """The text for `size` (2 at least) statements of the relation from number `start`, in the store's own order."""
    return with_prefixes(
        f"SELECT ?subject ?statement WHERE {{\n{_nodes(ask)}\n}}\nLIMIT {max(size, 2)}\nOFFSET {start}"
    )


def nodes_counted(ask: Ask) -> str:
    """The text for the number of the relation's statements, as ``?total``."""
    return with_prefixes(f"SELECT (COUNT(*) AS ?total) WHERE {{\n{_nodes(ask)}\n}}")


def _nodes(ask: Ask) -> str:
    shape = shape_of(ask)
    return _in_graph(shape, f"  ?subject {_path(shape.node or shape.from_subject)} ?statement .")


def sample(ask: Ask, *, ordered: bool) -> str:
    """The text for the first subjects by IRI, or any: more than the limit, as some turn out to have no current fact."""
    return subjects(ask).text(2 * (ask.limit or 0) + 50, ordered=ordered)


def subjects_named(ask: Ask, names: Sequence[str]) -> Query:
    """Those of `names` (ids or labels) that have the relation: rows of ``?subject ?name``."""
    shape = shape_of(ask)
    ids = {name: iri for name in names if (iri := iri_of(name, shape.base))}
    tags = [f"@{tag}" if tag else "" for tag in label_languages(ask.language) if not tag.endswith("*")]
    literals = [f'"{name.translate(_ESCAPES)}"{tag}' for name in names if name not in ids for tag in tags]
    ways = []
    if ids:
        ways.append(f"{{ VALUES ?subject {{ {_terms(ids.values())} }} BIND(STR(?subject) AS ?name) }}")
    if literals:
        labels = _path("|".join(f"<{iri}>" for iri in shape.labels))
        ways.append(f"{{ VALUES ?name {{ {' '.join(literals)} }} ?subject {labels} ?name }}")
    return Query("?subject ?name", f"  {' UNION '.join(ways)}\n{subjects(ask).body}")


def statements(ask: Ask, iris: Iterable[str]) -> Query:
    """All statements of the relation about the subjects `iris`: rows of value, rank, start and end."""
    return _statements(shape_of(ask), f"  VALUES ?subject {{ {_terms(iris)} }}")


def whole(ask: Ask) -> Query:
    """What the steps ask together, as one question: for the record, and to be run by hand."""
    chosen = subjects(ask) if ask.subjects is None else subjects_named(ask, ask.subjects)
    limit = f" LIMIT {ask.limit}" if ask.limit else ""
    return _statements(shape_of(ask), f"  {{ SELECT DISTINCT ?subject WHERE {{\n{chosen.body}\n  }}{limit} }}")


def labels(ask: Ask, iris: Iterable[str]) -> Query:
    """Labels of `iris` in `label_languages`: rows of ``?entity ?label``, and of ``?by`` where several properties do."""
    return _names(shape_of(ask).labels, iris, label_languages(ask.language))


def aliases(ask: Ask, iris: Iterable[str]) -> Query:
    """Aliases of `iris` in the language, and those for all languages or of none: rows of ``?entity ?label``."""
    languages = tuple(dict.fromkeys((*ask.language.lower().split(","), "mul", "")))
    return _names((shape_of(ask).aliases,), iris, languages)


def kept(iris: Iterable[str]) -> Query:
    """What `iris` redirect to, as merged items do: rows of ``?entity ?kept``."""
    return Query("?entity ?kept", f"  VALUES ?entity {{ {_terms(iris)} }}\n  ?entity owl:sameAs ?kept .")


def other_form(ask: Ask) -> str:
    """The text for a predicate (``?property``) that states the relation in another form.

    That is with https for http, or the other way round, or by the concept base of another Wikibase.
    """
    shape = shape_of(ask)
    swapped = " ".join(f"<{iri}>" for iri in shape.in_other_scheme().predicates)
    ways = [f"{{ VALUES ?property {{ {swapped} }} FILTER EXISTS {{ ?any ?property ?thing }} }}"]
    if shape.base == WIKIDATA:
        tail = (shape.path or "").removeprefix(f"<{WIKIDATA}").removesuffix(">")
        ways.append(f'{{ ?one wikibase:directClaim ?property FILTER(STRENDS(STR(?property), "/{tail}")) }}')
    return Query("?property", f"  {' UNION '.join(ways)}").text(10)


ENGLISH = label_languages("en")
"""of what is said of properties"""


def about_property(iri: str) -> str:
    """The text for what is said of the property itself: rows of ``?what`` (label, alias, ...) and ``?text``."""
    spoken = _in_languages("?text", ENGLISH)
    ways = " UNION ".join(
        f'{{ {_term(iri)} {predicate} ?text BIND("{what}" AS ?what) {kept} }}'
        for what, predicate, kept in (
            ("label", "rdfs:label", spoken),
            ("alias", "skos:altLabel", _in_languages("?text", ENGLISH[:1])),
            ("description", "schema:description", spoken),
            ("kind", "wikibase:propertyType", ""),
        )
    )
    return Query("?what ?text", f"  {ways}").text()


def in_its_form(
    read: Callable[[Ask], Reading], select: Callable[[Ask], Callable[[str], list[Row]]], ask: Ask
) -> Reading:
    """Return what `read` gives for `ask`, or, where that is nothing, for the form in which the source states it.

    The other forms are https in place of http, or the other way round, and another Wikibase's concept base.
    """
    reading = read(ask)
    if reading.facts or reading.nameless:
        return reading
    shape, known = shape_of(ask), {one["property"].value for one in select(ask)(other_form(ask))}
    swapped = shape.in_other_scheme()
    if known & set(swapped.predicates) - set(shape.predicates):
        return read(replace(ask, shape=swapped))
    bases = {iri.partition("prop/direct/")[0] for iri in known if iri_of(f"<{iri}>")} - {WIKIDATA}
    if shape.base == WIKIDATA and len(bases) == 1:
        return read(replace(ask, shape=shape.rebased(WIKIDATA, bases.pop())))
    return reading


def predicates(limit: int) -> str:
    """The text for the predicates with the most statements: rows of ``?property ?statements ?example`` (two terms)."""
    return (
        'SELECT ?property (COUNT(*) AS ?statements) (SAMPLE(CONCAT(STR(?one), " ", STR(?other))) AS ?example)\n'
        f"WHERE {{ ?one ?property ?other }}\nGROUP BY ?property\nORDER BY DESC(?statements) ?property\nLIMIT {limit}"
    )


def properties_named(text: str, limit: int) -> str:
    """The text for the properties of which a name holds `text`: rows of ``?property ?label ?name``, one a name."""
    return Query(
        "?property ?label ?name",
        f"""  ?property a wikibase:Property ; rdfs:label|skos:altLabel ?name ; rdfs:label ?label .
  FILTER(CONTAINS(LCASE(STR(?name)), "{text.lower().translate(_ESCAPES)}"))
  {_in_languages("?name", ENGLISH[:1])} {_in_languages("?label", ENGLISH[:1])}""",
    ).text(limit, ordered=True)


def _in_languages(variable: str, languages: Sequence[str]) -> str:
    tags = ", ".join(f'"{tag}"' for tag in languages if not tag.endswith("-*"))
    forms = "".join(f' || LANGMATCHES(LANG({variable}), "{tag[:-2]}")' for tag in languages if tag.endswith("-*"))
    return f"FILTER(LCASE(LANG({variable})) IN ({tags}){forms})"


def _names(predicates: Sequence[str], iris: Iterable[str], languages: Sequence[str]) -> Query:
    chosen, spoken = f"  VALUES ?entity {{ {_terms(iris)} }}\n", f"  {_in_languages('?label', languages)}"
    if len(predicates) == 1:
        return Query("?entity ?label", f"{chosen}  ?entity {_path(f'<{predicates[0]}>')} ?label .\n{spoken}")
    by = f"  VALUES ?by {{ {_path(' '.join(f'<{one}>' for one in predicates))} }}\n"
    return Query("?entity ?by ?label", f"{chosen}{by}  ?entity ?by ?label .\n{spoken}")


def _statements(shape: Shape, chosen: str) -> Query:
    # A statement without a value says "no value"; own RDF files may have direct triples and no statement nodes.
    ways = []
    if shape.node:
        lines = [
            f"?subject {_path(shape.node)} ?statement .",
            f"OPTIONAL {{ ?statement {_path(shape.value)} ?object }}",
        ]
        if shape.rank:
            lines.append(f"OPTIONAL {{ ?statement {_path(shape.rank)} ?rank }}")
        for name, said, node in (("start", shape.start, shape.start_time), ("end", shape.end, shape.end_time)):
            if said:
                precise = f"wikibase:timeValue ?{name} ; wikibase:timePrecision ?{name}Precision"
                more = f"\n      OPTIONAL {{ ?statement {_path(node)} [ {precise} ] }}" if node else ""
                lines.append(f"OPTIONAL {{\n      ?statement {_path(said)} ?{name}{more}\n    }}")
        ways.append("{\n    " + "\n    ".join(lines) + "\n  }")
    if shape.path:
        without = f"\n    FILTER NOT EXISTS {{ ?subject {_path(shape.node)} ?node }}" if shape.node else ""
        ways.append(f"{{\n    ?subject {_path(shape.path)} ?object .{without}\n  }}")
    return Query(
        "?subject ?statement ?object ?rank ?start ?startPrecision ?end ?endPrecision",
        f"{chosen}\n{_in_graph(shape, '  ' + ' UNION '.join(ways))}",
    )


def _narrow(ask: Ask) -> str:
    shape, lines = shape_of(ask), ""
    for class_id in (shape.class_id, ask.class_id):
        if class_id is not None:
            lines += f"  ?subject {_path(shape.type)} {_terms([expand(class_id, shape.base) or ''])} .\n"
    if ask.min_sitelinks is not None:
        told = "{ ?subject wikibase:sitelinks ?sitelinks }"
        if ask.sitelinks_of_pages:
            told += " UNION { ?page schema:about ?subject ; wikibase:sitelinks ?sitelinks }"
        lines += f"  {told} FILTER(?sitelinks >= {int(ask.min_sitelinks)})\n"
    return lines


def shape_of(ask: Ask) -> Shape:
    """Return how a source of RDF states the relation; raises SettingsError where nothing tells."""
    return ask.found("an RDF source")


def _in_graph(shape: Shape, lines: str) -> str:
    return f"  GRAPH <{shape.graph}> {{\n{lines}\n  }}" if shape.graph else lines


def _path(path: str | None) -> str:
    """Return an IRI or a path as a query has it: with prefixes, where they are known."""
    whole = path if path is None or "<" in path else f"<{path}>"
    return re.sub("<[^>]*>", lambda iri: _prefixed(iri[0]), whole or "")


def _prefixed(bracketed: str) -> str:
    """Return an IRI in ``<>`` with its prefix, if it has a known one."""
    iri, name = bracketed[1:-1], short_name(bracketed[1:-1])
    return name if ":" in name and name != iri else bracketed


def _terms(iris: Iterable[str]) -> str:
    return " ".join(map(_term, iris))


def _term(iri: str) -> str:
    if iri_of(f"<{iri}>") is None:  # an endpoint can answer with anything
        raise SourceError(f"names {shown(iri, 200)!r} as an IRI, which it is not; correct the source's data")
    item = iri.removeprefix(PREFIXES["wd"])
    return f"wd:{item}" if re.fullmatch("[QP][1-9][0-9]*", item) else f"<{iri}>"
