"""How a relation is found in a source: one form for Wikidata, other Wikibases, any other vocabulary, and tables.

In RDF a relation stands straight between subject and object, or on a node of its own that may bear rank and times::

    subject --path--> object
    subject --node--> statement --value--> object        statement --start, end, rank--> ...

Wikidata has both, and so has every Wikibase. A relation's template says in ``source`` how it is found elsewhere; names
are whole IRIs, ids of a Wikibase (P17), or begin with a known prefix (`PREFIXES`)::

    source:
      predicate: dbo:capital        # or a property path of IRIs, ^ / | + and ( ): ^<http://kb.example/capitalOf>
      statement: schema:member      # subject -> a node that has `predicate`, `start` and `end`
      start: schema:startDate
      end: schema:endDate
      labels: [rdfs:label, skos:prefLabel]   # in this order; language: en,mul says in which
      class: dbo:Country            # only subjects whose `type` (rdf:type, or P31) it is
      graph: http://kb.example/countries
      literals: true                # objects may be numbers, dates and codes, as they are written
      wikibase: https://kb.example/ # a Wikibase's concept base, where its data does not tell
      columns: {subject: name, object: capital}   # of a table: fact's field -> column

Standard library only.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from kbsync.errors import SettingsError

WIKIDATA = "http://www.wikidata.org/"
PREFIXES = {
    "wd": f"{WIKIDATA}entity/",
    "wdt": f"{WIKIDATA}prop/direct/",
    "p": f"{WIKIDATA}prop/",
    "ps": f"{WIKIDATA}prop/statement/",
    "pq": f"{WIKIDATA}prop/qualifier/",
    "pqv": f"{WIKIDATA}prop/qualifier/value/",
    "wikibase": "http://wikiba.se/ontology#",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "rdfs": "http://www.w3.org/2000/01/rdf-schema#",
    "owl": "http://www.w3.org/2002/07/owl#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
    "skos": "http://www.w3.org/2004/02/skos/core#",
    "schema": "http://schema.org/",
    "dbo": "http://dbpedia.org/ontology/",
    "dbr": "http://dbpedia.org/resource/",
    "dbp": "http://dbpedia.org/property/",
    "foaf": "http://xmlns.com/foaf/0.1/",
    "dct": "http://purl.org/dc/terms/",
    "org": "http://www.w3.org/ns/org#",
}
COLUMNS = ("subject", "relation", "object", "subject_id", "object_id", "since")
"""fields that a table's row may give, the first three in every table"""

_LABEL, _ALIAS = f"{PREFIXES['rdfs']}label", f"{PREFIXES['skos']}altLabel"
_TYPE = f"{PREFIXES['rdf']}type"
_LABELS = (_LABEL, f"{PREFIXES['skos']}prefLabel", f"{PREFIXES['schema']}name", "https://schema.org/name")
_ITEM = re.compile(r"Q[1-9][0-9]*")
_PROPERTY = re.compile(r"P[1-9][0-9]*")
_ENTITY = re.compile(r"https?://(?P<host>[^/]+)/(?:\S*/)?entity/(?P<id>[QP][1-9][0-9]*)")
_IRI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\x00-\x20<>\"{}|^`\\\x7f]+")
_PREFIXED = re.compile(r"([a-z]+):([A-Za-z0-9_-]+)")
_TOKEN = re.compile(r"\s*(?:<([^<>]*)>|([A-Za-z]+:[A-Za-z0-9_-]+|P[1-9][0-9]*)|([\^/|+()]))")
_STEPS = re.compile(r"\^?I\+?(?:[/|]\^?I\+?)*")


def iri_of(text: str, base: str | None = WIKIDATA) -> str | None:
    """Return the IRI that `text` stands for, None if it is none: ``Q142`` (of `base`), ``<IRI>``, an IRI with ``://``."""
    if base and _ITEM.fullmatch(text):
        return f"{base}entity/{text}"
    bare = text[1:-1] if text.startswith("<") and text.endswith(">") else text
    looks_like_one = bare is not text or "://" in text
    return bare if looks_like_one and _IRI.fullmatch(bare) else None


def expand(name: str, base: str | None = WIKIDATA) -> str | None:
    """Return what `iri_of` does, also for a name with a known prefix (``dbo:Country``)."""
    found = _PREFIXED.fullmatch(name)
    return PREFIXES[found[1]] + found[2] if found and found[1] in PREFIXES else iri_of(name, base)


def short_id(iri: str) -> str:
    """Return ``Q142`` for that item's IRI at Wikidata, and any other IRI whole."""
    found = _ENTITY.fullmatch(iri)
    return found["id"] if found and found["host"] == "www.wikidata.org" and found["id"][0] == "Q" else iri


def short_name(iri: str) -> str:
    """Return an IRI as a message shows it: an entity of a Wikibase by its id alone, others with a known prefix."""
    if found := _ENTITY.fullmatch(iri):
        return found["id"]
    for prefix, start in PREFIXES.items():
        if re.fullmatch(r"\w[\w-]*", tail := iri.removeprefix(start)) and tail != iri:
            return f"{prefix}:{tail}"
    return iri


@dataclass(frozen=True, slots=True)
class Shape:
    """How a relation is found. Paths are SPARQL's, with whole IRIs in ``<>``; the other names are IRIs."""

    path: str | None = None
    """From the subject straight to the object; where there is a `node` too, it counts for subjects without one."""
    node: str | None = None
    value: str | None = None
    start: str | None = None
    end: str | None = None
    rank: str | None = None
    start_time: str | None = None
    """To a node that says how precise the start is (``wikibase:timeValue``, ``wikibase:timePrecision``)."""
    end_time: str | None = None
    labels: tuple[str, ...] = _LABELS
    aliases: str = _ALIAS
    type: str = _TYPE
    class_id: str | None = None
    graph: str | None = None
    language: str | None = None
    literals: bool = False
    base: str | None = None
    """A Wikibase's concept base."""
    columns: tuple[tuple[str, str], ...] = ()

    @property
    def from_subject(self) -> str:
        """The path from the subject to its objects or statements."""
        return "|".join(filter(None, (self.node, self.path)))

    @property
    def predicates(self) -> tuple[str, ...]:
        """The IRIs of the predicates that state the relation."""
        return tuple(re.findall("<([^>]*)>", f"{self.node} {self.value} {self.path}"))

    @property
    def about_statements(self) -> tuple[str, ...]:
        """The IRIs of what is said of a statement's node."""
        return tuple(filter(None, (self.rank, self.start, self.end, self.start_time, self.end_time)))

    def rebased(self, old: str, new: str) -> "Shape":
        """Return the shape with IRIs that begin with `new` in place of `old`."""
        texts = {field.name: value for field in fields(self) if isinstance(value := getattr(self, field.name), str)}
        moved: dict[str, str | None] = {
            name: text.replace(f"<{old}", f"<{new}") if "<" in text else re.sub(f"^{re.escape(old)}", new, text)
            for name, text in texts.items()
            if name not in ("aliases", "rank", "graph")
        }
        if old == WIKIDATA and not new.endswith("://www.wikidata.org/"):  # whose P580 is another property
            prop = f"{WIKIDATA}prop/"
            if (self.start, self.end) == (f"{prop}qualifier/P580", f"{prop}qualifier/P582"):
                moved |= dict.fromkeys(("start", "end", "start_time", "end_time"))
            moved["type"] = _TYPE if self.type == f"{prop}direct/P31" else moved["type"]
        return replace(self, **moved)  # type: ignore[arg-type]

    def in_other_scheme(self) -> "Shape":
        """Return the shape whose predicates are ``https`` in place of ``http``, or the other way round."""
        shape = self
        for start in {re.match(r"https?://[^/]*/?", iri)[0] for iri in self.predicates if iri.startswith("http")}:  # type: ignore[index]
            old, new = ("https:", "http:") if start.startswith("https:") else ("http:", "https:")
            shape = shape.rebased(start, new + start.removeprefix(old))
        return shape


def wikibase(
    relation: str,
    base: str = WIKIDATA,
    *,
    start: str | None = None,
    end: str | None = None,
    instance_of: str | None = None,
) -> Shape:
    """Return how a Wikibase with the concept base `base` states a property; Wikidata's times and classes are known."""
    if base == WIKIDATA:
        start, end, instance_of = start or "P580", end or "P582", instance_of or "P31"
    prop = f"{base}prop/"

    def named(way: str, name: str | None) -> str | None:
        return f"{prop}{way}/{name}" if name else None

    return Shape(
        path=f"<{prop}direct/{relation}>",
        node=f"<{prop}{relation}>",
        value=f"<{prop}statement/{relation}>",
        start=named("qualifier", start),
        end=named("qualifier", end),
        rank=f"{PREFIXES['wikibase']}rank",
        start_time=named("qualifier/value", start),
        end_time=named("qualifier/value", end),
        labels=(_LABEL,),
        type=named("direct", instance_of) or _TYPE,
        base=base,
    )


def predicate_iri(text: str) -> str:
    """Return the IRI of a predicate as a user writes it; raises SettingsError where it is none."""
    found = expand(text, None)
    if found is None:
        raise SettingsError(f"predicate {text!r} is not an IRI: write <http://...>, or dbo:capital")
    return found


class ShapeError(SettingsError):
    """What a ``source`` says under `name` is wrong."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"{name} {what}")
        self.name = name


Told = str | bool | tuple[str, ...] | Mapping[str, str]
"""What a template's ``source`` gives for one name."""

_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    **dict.fromkeys(("predicate", "statement", "start", "end", "type", "class", "graph"), (str, "text")),
    **dict.fromkeys(("aliases", "language", "wikibase"), (str, "text")),
    "labels": (tuple, "a list"),
    "literals": (bool, "true or false"),
    "columns": (Mapping, "a mapping such as {subject: name, object: capital}"),
}


def read_shape(relation: str, told: Mapping[str, Told]) -> Shape:
    """Return the shape that a ``source`` tells; raises ShapeError where it is wrong."""
    for name, value in told.items():
        kind, words = _KINDS.get(name, ((), ""))
        if not words:
            raise ShapeError(name, f"is not known; a source has {', '.join(_KINDS)}")
        if not isinstance(value, kind):
            raise ShapeError(name, f"is not {words}")
    texts = {name: value.strip() for name, value in told.items() if isinstance(value, str)}
    labels, columns = told.get("labels"), told.get("columns")
    predicate = texts.get("predicate") or (relation if _PROPERTY.fullmatch(relation) else "")
    base = texts.get("wikibase")
    if base is not None and not re.fullmatch(r"https?://[^\s<>\"{}|^`\\@]+/", base):
        raise ShapeError("wikibase", f"{base!r} is not a concept base, such as https://kb.example/")
    if _PROPERTY.fullmatch(predicate):
        shape = _of_wikibase(predicate, base or WIKIDATA, texts)
    elif predicate:
        shape = _of_predicate(predicate, base, texts)
    elif columns is None:
        raise ShapeError("predicate", "is missing: say by which property the relation is found")
    else:
        shape = Shape()
    columns = columns if isinstance(columns, Mapping) else {}
    if unknown := [field for field in columns if field not in COLUMNS]:
        raise ShapeError("columns", f"{unknown[0]!r} is no field; a fact has {', '.join(COLUMNS)}")
    class_id = texts.get("class")
    if class_id is not None and not _ITEM.fullmatch(class_id):
        class_id = f"<{_iri('class', class_id)}>"
    return replace(
        shape,
        labels=tuple(_iri("labels", label) for label in labels) if isinstance(labels, tuple) else shape.labels,
        aliases=_iri("aliases", texts.get("aliases", shape.aliases)),
        class_id=class_id,
        graph=_iri("graph", texts["graph"]) if "graph" in texts else None,
        language=texts.get("language"),
        literals=bool(told.get("literals")),
        columns=tuple(columns.items()),
    )


def _of_wikibase(predicate: str, base: str, texts: Mapping[str, str]) -> Shape:
    if "statement" in texts:
        raise ShapeError("statement", f"is known of {predicate}: leave it out")
    ids = {name: texts.get(name) for name in ("start", "end", "type")}
    for name, value in ids.items():
        if value is not None and not _PROPERTY.fullmatch(value):
            raise ShapeError(name, f"{value!r} is not the id of a property, such as P580")
    return wikibase(predicate, base, start=ids["start"], end=ids["end"], instance_of=ids["type"])


def _of_predicate(predicate: str, base: str | None, texts: Mapping[str, str]) -> Shape:
    kind = _iri("type", texts.get("type", _TYPE))
    path = _path("predicate", predicate, base)
    start, end = (_iri(name, texts[name]) if name in texts else None for name in ("start", "end"))
    if "statement" in texts:
        node = _path("statement", texts["statement"], base)
        return Shape(node=node, value=path, start=start, end=end, type=kind, base=base)
    if start or end:
        raise ShapeError(
            "start" if start else "end", "needs `statement`: the property that leads to a node with these times"
        )
    return Shape(path=path, type=kind, base=base)


def _path(name: str, text: str, base: str | None) -> str:
    """Return a property path with whole IRIs; `base` is that of ids such as P36 in it."""
    if iri_of(text, None):
        text = f"<{text.strip('<>')}>"
    written, symbols, place = "", "", 0
    while place < len(text):
        token = _TOKEN.match(text, place)
        sign = token[3] if token else None
        iri = None if token is None or sign else _step(token[1], token[2], base)
        if token is None or not (iri or sign):
            raise ShapeError(name, f"{text!r} is not an IRI, nor a path of IRIs with ^ / | + and ( )")
        written, symbols = written + (sign or f"<{iri}>"), symbols + (sign or "I")
        place = token.end()
    while (shorter := re.sub(rf"\(({_STEPS.pattern})\)", "I", symbols)) != symbols:
        symbols = shorter
    if not _STEPS.fullmatch(symbols):
        raise ShapeError(name, f"{text!r} is not a property path: write IRIs with ^ / | + and ( ) between")
    return written


def _step(bracketed: str | None, bare: str | None, base: str | None) -> str | None:
    if bracketed is not None:
        return iri_of(f"<{bracketed}>")
    return f"{base or WIKIDATA}prop/direct/{bare}" if _PROPERTY.fullmatch(bare or "") else expand(bare or "")


def _iri(name: str, text: str) -> str:
    found = expand(text, None)
    if found is None:
        raise ShapeError(name, f"{text!r} is not an IRI")
    return found
