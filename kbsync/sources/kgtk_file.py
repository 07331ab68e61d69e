"""Wikidata's statements from a KGTK edge file: tab-separated, with the columns node1, label, node2 (arXiv 2006.00088).

An edge whose label is a property is a statement. Its ``id``, if the file has that column, is what the edges of its
qualifiers have as node1 (P580 and P582 count); a column ``rank`` counts as well. Labels come from edges ``label``,
aliases from edges ``alias``, both with values such as ``'Paris'@fr``, or from the columns ``node1;label`` and
``node2;label``. Other columns and edges are passed over.

The edges are turned into RDF as Wikidata writes it, and what is asked for is sifted from that as from a dump.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from pyoxigraph import Literal, NamedNode, RdfFormat

from kbsync.files import ROW, Unchanged, text_lines
from kbsync.sources.base import Ask, Counted, Reading, locate
from kbsync.sources.dump_lines import NeededLines
from kbsync.sources.file_facts import Problems, counted
from kbsync.sources.table_file import stated

_PROP = "http://www.wikidata.org/prop/"
_ONTOLOGY = "http://wikiba.se/ontology#"
_NAMES = {
    "label": "http://www.w3.org/2000/01/rdf-schema#label",
    "alias": "http://www.w3.org/2004/02/skos/core#altLabel",
}
_XSD = "http://www.w3.org/2001/XMLSchema#"
_QUALIFIERS = ("P580", "P582")
_ITEM = re.compile(r"[QP][1-9][0-9]*")
_PRECISE = re.compile(r"\^.+/(\d{1,2})", re.ASCII)  # a time, with how precise it is as Wikidata numbers it
_STRING = re.compile(r"\"(.*)\"|'(.*)'@([A-Za-z]+(?:-[A-Za-z0-9]+)*)", re.DOTALL)
_BAR = re.compile(r"(?<!\\)\|")  # between the values of a list
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {"t": "\t", "n": "\n", "r": "\r"}


class KgtkFile:
    """A KGTK edge file. It is gone through once for `asks`; what is not asked for takes no memory."""

    def __init__(self, path: Path, asks: tuple[Ask, ...] = ()) -> None:
        self._path, self._state, self.name = path, Unchanged(path), str(path.resolve())
        self._needed = NeededLines(path, lambda: _triples(path), RdfFormat.N_TRIPLES, asks)

    def read(self, ask: Ask) -> Reading:
        """Read the current facts of `ask`'s relation; raises SourceError with all bad lines of the file."""
        ask = replace(ask, shape=None)
        ask = replace(ask, shape=ask.found(f"KGTK file {self._path}"))
        with self._state.reading():
            store = self._needed.store_for(ask)
        with locate(f"{self._path}, relation {ask.relation}"):
            return store.read(self.name, ask)

    def predicates(self) -> Counted:
        with self._state.reading():
            rows = (line.rstrip("\r\n").split("\t") for line in text_lines(self._path, ROW))
            return counted(stated(next(rows, []), rows))


def _triples(path: Path) -> Iterator[bytes]:
    """Yield a file's edges as lines of N-Triples; raise SourceError after the last edge if any was bad."""
    problems, lines = Problems(path), text_lines(path, ROW)
    header = next(lines, "").rstrip("\r\n").split("\t")
    for number, line in enumerate(lines, start=2):
        fields = line.rstrip("\r\n").split("\t")
        if not line.strip() or line.startswith("#"):
            continue
        if len(fields) != len(header):
            problems.add(number, f"{len(fields)} fields where the header has {len(header)} columns")
            continue
        edge = dict(zip(header, fields, strict=True))
        if empty := [name for name in ("node1", "label", "node2") if not edge[name]]:
            problems.add(number, f"{' and '.join(empty)} empty: an edge needs node1, label and node2")
            continue
        for subject, predicate, value in _statements(number, edge):
            yield f"{_node(subject)} <{predicate}> {value} .\n".encode()
    problems.raise_any()


def _statements(number: int, edge: dict[str, str]) -> Iterator[tuple[str, str, object]]:
    """Yield what an edge says: node, predicate and the object as N-Triples write it."""
    node1, label, node2 = edge["node1"], edge["label"], edge["node2"]
    for column in ("node1", "node2"):
        for name in _BAR.split(edge.get(f"{column};label", "")):
            if name:
                yield edge[column], _NAMES["label"], _text(name) or Literal(_unescape(name))
    if label in _NAMES:
        text = _text(node2)
        if text is not None:
            yield node1, _NAMES[label], text
    elif _ITEM.fullmatch(label):
        statement, stated = edge.get("id") or f"line {number}", node2 != "novalue"
        yield node1, f"{_PROP}{label}", _node(statement)
        if stated:
            yield statement, f"{_PROP}statement/{label}", _value(node2)
        if stated and label in _QUALIFIERS:
            yield node1, f"{_PROP}qualifier/{label}", _value(node2)
            if precise := _PRECISE.fullmatch(node2):
                moment = f"time of {node1}, {node2}"
                yield node1, f"{_PROP}qualifier/value/{label}", _node(moment)
                yield moment, f"{_ONTOLOGY}timeValue", _value(node2)
                yield moment, f"{_ONTOLOGY}timePrecision", Literal(int(precise[1]))
        if stated and label == "P31":
            yield node1, f"{_PROP}direct/{label}", _value(node2)  # what `Ask.class_id` looks at
        if rank := edge.get("rank"):
            yield statement, f"{_ONTOLOGY}rank", NamedNode(f"{_ONTOLOGY}{quote(rank.capitalize())}Rank")


def _node(name: str) -> str:
    """Return a node's IRI: Wikidata's for its ids, one of our own for any other."""
    if _ITEM.fullmatch(name):
        return f"<http://www.wikidata.org/entity/{name}>"
    return f"<urn:kgtk:{quote(name, safe='')}>"


def _value(node: str) -> object:
    """Return node2 as an RDF term: an entity, text, a time, or a literal of another type as it stands."""
    if text := _text(node):
        return text
    if node.startswith("^"):
        return Literal(node[1:].partition("/")[0], datatype=NamedNode(f"{_XSD}dateTime"))
    if node == "somevalue":
        return "_:somevalue"
    if node[0] in "+-@!0123456789":
        return Literal(node, datatype=NamedNode(f"{_XSD}decimal" if node[0] not in "@!" else "urn:kgtk:other"))
    return _node(node)


def _text(value: str) -> Literal | None:
    """Return the text that a string of KGTK holds, with its language; None for anything else."""
    match = _STRING.fullmatch(value)
    if match is None:
        return None
    plain, spoken, language = match.groups()
    try:
        return Literal(_unescape(plain)) if language is None else Literal(_unescape(spoken), language=language)
    except ValueError:  # no language tag
        return None


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[1]), text)
