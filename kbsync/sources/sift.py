"""Of a dump, only what the asked relations need, so that a dump larger than memory and disk can be read.

A dump's lines (N-Triples or N-Quads) are gone through twice. The first pass keeps the lines of the relations, and
notes their subjects, objects and statement nodes; the second keeps the labels of those subjects and objects, their
aliases, classes and numbers of sitelinks where these are asked for, and the ranks and times of those nodes. What is
kept answers the same queries as the whole dump would. Memory grows with the facts of the relations, not with the dump.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from pyoxigraph import RdfFormat, parse

from kbsync.sources.base import Ask
from kbsync.sources.queries import label_languages

__all__ = ["LineError", "Lines", "Need", "sift"]

Lines = Callable[[], Iterable[bytes]]
"""Opens a dump's lines anew, for another pass."""

_PROP = "http://www.wikidata.org/prop/"
_LABEL = b"<http://www.w3.org/2000/01/rdf-schema#label>"
_ALIAS = b"<http://www.w3.org/2004/02/skos/core#altLabel>"
_CLASS = f"<{_PROP}direct/P31>".encode()
_SITELINKS = b"<http://wikiba.se/ontology#sitelinks>"
_ABOUT = b"<http://schema.org/about>"
_ENTITY = b"<http://www.wikidata.org/entity/"
_DATA = (b"<https://www.wikidata.org/wiki/Special:EntityData/", b"<http://www.wikidata.org/wiki/Special:EntityData/")
"""nodes of the pages of entities, which bear the number of sitelinks in dumps; older ones write http"""
_OF_NODES = (
    b"<http://wikiba.se/ontology#rank>",
    f"<{_PROP}qualifier/P580>".encode(),
    f"<{_PROP}qualifier/P582>".encode(),
)
_MOST_PREDICATES = 1_000_000
"""predicates remembered as well written; a dump has some ten thousand"""


class LineError(ValueError):
    """A line that cannot be read: its number from 1, and why."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(why)
        self.line = line


@dataclass(frozen=True, slots=True)
class Need:
    """What questions need of a dump."""

    relations: frozenset[str] = frozenset()
    languages: frozenset[str] = frozenset()
    """of labels, in small letters; "" is none"""
    aliases: bool = False
    classes: bool = False
    sitelinks: bool = False

    @classmethod
    def of(cls, asks: Iterable[Ask]) -> "Need":
        """Return what all of `asks` need together."""
        need = cls()
        for ask in asks:
            need |= cls(
                frozenset([ask.relation]),
                frozenset((*label_languages(ask.language), "mul") if ask.aliases else label_languages(ask.language)),
                ask.aliases,
                ask.class_id is not None,
                ask.min_sitelinks is not None,
            )
        return need

    def __or__(self, other: "Need") -> "Need":
        return Need(
            self.relations | other.relations,
            self.languages | other.languages,
            self.aliases or other.aliases,
            self.classes or other.classes,
            self.sitelinks or other.sitelinks,
        )


@dataclass(frozen=True, slots=True)
class _Named:
    """The terms that a dump's relations name, as it writes them."""

    entities: set[bytes]
    nodes: set[bytes]


def sift(lines: Lines, form: RdfFormat, need: Need, out: BinaryIO) -> int:
    """Write the lines of `lines` that `need` asks for to `out`; return how many statements there are in all.

    `form` is N-Triples or N-Quads; terms must be set apart by white space, as all dumps are written. Kept lines are
    not checked here. Raises LineError for a line in another form, and for a last line that is cut off.
    """
    named = _Named(set(), set())
    scan = _Scan(form)
    for subject, predicate, rest, line in scan.lines(lines(), _relation_predicates(need)):
        _note(named, subject, predicate, rest)
        _write(out, line)
    about = _second_predicates(need, named)
    for subject, predicate, rest, line in _Scan(form).lines(lines(), about):
        if subject in about[predicate] and (predicate not in (_LABEL, _ALIAS) or _language(rest) in need.languages):
            _write(out, line)
    return scan.count


def _relation_predicates(need: Need) -> dict[bytes, object]:
    ways = ("", "statement/", "direct/")
    return {f"<{_PROP}{way}{relation}>".encode(): way for relation in need.relations for way in ways}


def _second_predicates(need: Need, named: _Named) -> dict[bytes, set[bytes]]:
    """Predicate -> the subjects of which it is kept."""
    about = dict.fromkeys(_OF_NODES, named.nodes)
    about[_LABEL] = named.entities
    wanted = ((_ALIAS, need.aliases), (_CLASS, need.classes and "P31" not in need.relations))
    about |= {predicate: named.entities for predicate, asked in wanted if asked}
    if need.sitelinks:
        data = {one.replace(_ENTITY, page, 1) for one in named.entities if one.startswith(_ENTITY) for page in _DATA}
        about |= {_SITELINKS: named.entities | data, _ABOUT: data}
    return about


def _note(named: _Named, subject: bytes, predicate: bytes, rest: bytes) -> None:
    value = _object(rest)
    if b"/statement/" in predicate:
        named.entities.add(value)
        return
    named.entities.add(subject)
    (named.entities if b"/direct/" in predicate else named.nodes).add(value)


def _object(rest: bytes) -> bytes:
    """Return the object as written; "" for a literal."""
    if rest[:1] == b"<":
        return rest[: rest.find(b">") + 1]
    return rest.split(None, 1)[0].rstrip(b".") if rest[:2] == b"_:" else b""


def _language(rest: bytes) -> str:
    """Return the language tag of a literal in small letters, "" where it has none."""
    after = rest[rest.rfind(b'"') + 1 :]
    return after[1:].split(None, 1)[0].rstrip(b".").decode().lower() if after[:1] == b"@" else ""


def _write(out: BinaryIO, line: bytes) -> None:
    out.write(line if line.endswith(b"\n") else line + b"\n")


class _Scan:
    """One pass; `count` is the number of statements seen so far."""

    def __init__(self, form: RdfFormat) -> None:
        self._form = form
        self.count = 0

    def lines(
        self, lines: Iterable[bytes], wanted: Mapping[bytes, object]
    ) -> Iterator[tuple[bytes, bytes, bytes, bytes]]:
        """Yield subject, predicate, rest and line of the lines with one of the predicates `wanted`."""
        well_written: set[bytes] = set()
        number, line, others = 0, b"", 0
        for number, line in enumerate(lines, start=1):
            try:
                subject, predicate, rest = line.split(None, 2)
            except ValueError:
                self._check_other(number, line)
                others += 1
                continue
            if predicate in wanted and subject[:1] in (b"<", b"_"):
                yield subject, predicate, rest, line
            elif predicate not in well_written:
                if line.lstrip()[:1] == b"#":
                    others += 1
                    continue
                self._check_form(number, subject, predicate)
                if len(well_written) < _MOST_PREDICATES:
                    well_written.add(predicate)
        self._check_end(number, line)
        self.count = number - others

    def _check_form(self, number: int, subject: bytes, predicate: bytes) -> None:
        whole = predicate[:1] == b"<" and predicate[-1:] == b">" and b"<" not in predicate[1:]
        if not whole or subject[:1] not in (b"<", b"_") or b"><" in subject:
            raise LineError(number, "not a statement as dumps write it: three terms set apart by spaces, and a dot")

    def _check_other(self, number: int, line: bytes) -> None:
        if line.strip() and line.lstrip()[:1] != b"#":
            self._check_form(number, line, b"")

    def _check_end(self, number: int, line: bytes) -> None:
        try:
            for _ in parse(line, format=self._form):
                pass
        except SyntaxError as error:
            raise LineError(number, error.msg) from error
