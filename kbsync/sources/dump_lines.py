"""Of a dump in lines, only what the asked relations need, so that a dump larger than memory and disk can be read.

A dump's lines (N-Triples or N-Quads) are gone through twice. The first pass keeps the lines of the relations, and
notes their subjects, objects and statement nodes; the second keeps the labels of those subjects and objects, what they
redirect to, their aliases, classes and numbers of sitelinks where these are asked for, and the ranks and times of those
nodes. Where the times are nodes of their own, which say how precise they are, or a redirect leads back to what was
passed, a third pass keeps these. What is kept answers the same queries as the whole dump would. Which nodes are noted
is told by a table of bits that may say yes of a few others too, whose lines are kept for nothing: so neither the dump
nor the number of facts decides how much memory it takes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import BinaryIO

from pyoxigraph import Quad, RdfFormat, parse, serialize

from kbsync.errors import SourceError
from kbsync.sources.base import Ask
from kbsync.sources.queries import label_languages, language_rank, shape_of
from kbsync.sources.rdf_store import LARGE, REMEDY, CutError, PassedOver, RdfStore, TemporaryFolder, reason_of

Lines = Callable[[], Iterable[bytes]]
"""Opens a dump's lines anew, for another pass."""

_SITELINKS = b"<http://wikiba.se/ontology#sitelinks>"
_ABOUT = b"<http://schema.org/about>"
_ENTITY = b"<http://www.wikidata.org/entity/"
_DATA = (b"<https://www.wikidata.org/wiki/Special:EntityData/", b"<http://www.wikidata.org/wiki/Special:EntityData/")
"""nodes of the pages of entities, which bear the number of sitelinks in dumps; older ones write http"""
_KEPT = b"<http://www.w3.org/2002/07/owl#sameAs>"
_CLAIM = b"<http://wikiba.se/ontology#directClaim>"
"""says by which predicates a Wikibase states its properties"""
_OF_VALUES = (b"<http://wikiba.se/ontology#timeValue>", b"<http://wikiba.se/ontology#timePrecision>")
_LAST = 2**25 - 1
"""byte of a table of nodes (32 MB); beside ten million nodes one other in 200 is kept for nothing"""
MOST_PREDICATES = 1_000_000  # predicates remembered as well written; a dump has some ten thousand


@dataclass(frozen=True, slots=True)
class Need:
    """What questions need of a dump; predicates are in ``<>``."""

    relations: frozenset[bytes] = frozenset()
    """predicates that state the relations"""
    names: frozenset[bytes] = frozenset()
    """of labels and aliases, in these `languages`, as `label_languages` writes them"""
    languages: frozenset[str] = frozenset()
    others: frozenset[bytes] = frozenset()
    """of what else is said of subjects, objects and statement nodes"""
    times: frozenset[bytes] = frozenset()
    """those of `others` whose objects are nodes that say how precise a time is"""
    sitelinks: bool = False

    @classmethod
    def of(cls, asks: Iterable[Ask]) -> "Need":
        need = cls()
        for ask in asks:
            shape = shape_of(ask)
            languages = (*label_languages(ask.language), "mul") if ask.aliases else label_languages(ask.language)
            shapes = (shape, shape.in_other_scheme())
            classes = [one.type for one in shapes if ask.class_id or shape.class_id]
            times = [time for one in shapes for time in (one.start_time, one.end_time) if time]
            need |= cls(
                _terms(iri for one in shapes for iri in one.predicates),
                _terms((*shape.labels, shape.aliases) if ask.aliases else shape.labels),
                frozenset(languages),
                _terms((*classes, *(iri for one in shapes for iri in one.about_statements))),
                _terms(times),
                ask.min_sitelinks is not None,
            )
        return need

    def __or__(self, other: "Need") -> "Need":
        return Need(*(getattr(self, one.name) | getattr(other, one.name) for one in fields(self)))


def _terms(iris: Iterable[str]) -> frozenset[bytes]:
    return frozenset(f"<{iri}>".encode() for iri in iris)


class NeededLines:
    """The needed lines of a dump, in a store; `asks` are read for together."""

    def __init__(self, path: Path, lines: Lines, form: RdfFormat, asks: tuple[Ask, ...] = ()) -> None:
        self._path, self._lines, self._form = path, lines, form
        self._need = Need.of(asks)
        self._looked_for = 0
        self._loaded: tuple[Need, RdfStore] | None = None
        self._folder = TemporaryFolder()

    def store_for(self, ask: Ask) -> RdfStore:
        """Return a store with all that `ask` needs; raises CutError where the dump is not whole, and OSError."""
        need = Need.of([ask])
        if self._loaded is None or self._loaded[0] | need != self._loaded[0]:
            self._need |= need
            self._loaded = None
            self._folder = TemporaryFolder()
            self._loaded = (self._need, self._load())
        return self._loaded[1]

    def _load(self) -> RdfStore:
        kept, passed = self._folder.path / "kept.nq", PassedOver()
        with kept.open("wb") as out:
            _sift(self._lines, self._form, self._need, out, passed)
        if not passed.statements:
            raise SourceError(f"{self._path}: holds no statement; {REMEDY}")
        loaded = RdfStore(self._folder if kept.stat().st_size > LARGE else None, passed)
        loaded.load(lambda: kept.open("rb"), self._form, self._number_of)
        kept.unlink()
        return loaded

    def _number_of(self, bad: bytes) -> int | str:
        """Return the number that a kept line has in the dump; looked for few times, as each goes through all of it."""
        self._looked_for += 1
        if self._looked_for > 3:
            return f"one more, {self._looked_for}"
        return next((number for number, line in enumerate(self._lines(), start=1) if line.strip() == bad.strip()), "?")


def _sift(lines: Lines, form: RdfFormat, need: Need, out: BinaryIO, passed: PassedOver) -> None:
    """Write the lines of `lines` that `need` asks for to `out`.

    Lines that are no statement are passed over. Raises CutError for a last line that is cut off.
    """
    named = _Nodes()
    for subject, predicate, rest, line in _scan(lines(), dict.fromkeys((*need.relations, _CLAIM)), form, passed):
        if predicate != _CLAIM:
            named.add(subject)
            named.add(_object(rest))
        _write(out, line)
    about = _second_predicates(need, named)
    later, kept, labelled = _Nodes(), set[bytes](), set[bytes]()
    for subject, predicate, rest, line in _scan(lines(), about, form, PassedOver()):
        if not about[predicate](subject) or (predicate in need.names and not _is_wanted(rest, need)):
            continue
        _write(out, line)
        if predicate in need.times:
            later.add(_object(rest))
        elif predicate == _KEPT:
            kept.add(_object(rest))
            named.add(_object(rest))  # whose labels may come
        elif predicate in need.names and subject in kept:
            labelled.add(subject)
    for node in kept - labelled:
        later.add(node)
    last = dict.fromkeys((*need.names, *_OF_VALUES))
    for subject, predicate, rest, line in _scan(lines(), last, form, PassedOver()) if later.count else ():
        if later.has(subject) and (predicate not in need.names or _is_wanted(rest, need)):
            _write(out, line)


class _Nodes:
    """Nodes of which nothing but two bits each is kept: what was added is in it, and little else."""

    def __init__(self) -> None:
        self._bits = bytearray(_LAST + 1)
        self.count = 0

    def add(self, node: bytes) -> None:
        """Note a node; "", which stands for a literal, is none."""
        if node:
            self.count += 1
            number = hash(node)
            for place in (number, number >> 32):
                self._bits[place >> 3 & _LAST] |= 1 << (place & 7)

    def has(self, node: bytes) -> bool:
        """Whether a node was added; it may say so of another."""
        one = hash(node)
        other = one >> 32
        bits = self._bits
        return bool(bits[one >> 3 & _LAST] >> (one & 7) & 1 and bits[other >> 3 & _LAST] >> (other & 7) & 1)


def _second_predicates(need: Need, named: _Nodes) -> dict[bytes, Callable[[bytes], bool]]:
    """Predicate -> whether it is kept of a subject."""

    def is_page(node: bytes) -> bool:
        return any(node.startswith(page) and named.has(node.replace(page, _ENTITY, 1)) for page in _DATA)

    about = dict.fromkeys((*need.names, *need.others, _KEPT), named.has)
    if need.sitelinks:
        about |= {_SITELINKS: lambda node: named.has(node) or is_page(node), _ABOUT: is_page}
    return {predicate: kept for predicate, kept in about.items() if predicate not in need.relations}


def _object(rest: bytes) -> bytes:
    """Return the object as written; "" for a literal."""
    if rest[:1] == b"<":
        return rest[: rest.find(b">") + 1]
    return rest.split(None, 1)[0].rstrip(b".") if rest[:2] == b"_:" else b""


def _is_wanted(rest: bytes, need: Need) -> bool:
    """Whether a literal's language is one that is asked for."""
    after = rest[rest.rfind(b'"') + 1 :]
    language = after[1:].split(None, 1)[0].rstrip(b".").decode().lower() if after[:1] == b"@" else ""
    return language_rank(language, tuple(need.languages)) is not None


def _write(out: BinaryIO, line: bytes) -> None:
    out.write(line if line.endswith(b"\n") else line + b"\n")


def _scan(
    lines: Iterable[bytes], wanted: Mapping[bytes, object], form: RdfFormat, passed: PassedOver
) -> Iterator[tuple[bytes, bytes, bytes, bytes]]:
    """Yield subject, predicate, rest and line of the lines with one of the predicates `wanted`, in one pass."""
    well_written: set[bytes] = set()
    number, line, others = 0, b"", 0
    for number, line in enumerate(lines, start=1):
        fields = line.split(None, 2)
        if len(fields) == 3:
            subject, predicate, rest = fields
            if predicate in wanted and subject[:1] in (b"<", b"_"):
                yield subject, predicate, rest, line
                continue
            if predicate in well_written:
                continue
            if _is_well_written(subject, predicate):
                if len(well_written) < MOST_PREDICATES:
                    well_written.add(predicate)
                continue
        written = _rewritten(number, line, form, passed)
        others += 1 - len(written)
        yield from (one for one in written if one[1] in wanted)
    try:
        if not line.endswith(b"\n"):
            list(parse(line, format=form, lenient=True))
    except SyntaxError as error:
        raise CutError(number, error.msg) from error
    passed.statements = number - others


def _rewritten(
    number: int, line: bytes, form: RdfFormat, passed: PassedOver
) -> list[tuple[bytes, bytes, bytes, bytes]]:
    """Return what a line says that is written in another way, in the usual one; nothing for no statement."""
    if not line.strip() or line.lstrip()[:1] == b"#":
        return []
    try:
        quads = list(parse(line, format=form, lenient=True))
    except SyntaxError as error:
        passed.add_line(number, reason_of(error))
        return []
    return [
        (str(quad.subject).encode(), str(quad.predicate).encode(), str(quad.object).encode(), _written(quad))
        for quad in quads
    ]


def _written(quad: Quad) -> bytes:
    return serialize([quad], format=RdfFormat.N_QUADS) or b""


def _is_well_written(subject: bytes, predicate: bytes) -> bool:
    """Whether the beginning of a line is that of a statement as dumps write it."""
    whole = predicate[:1] == b"<" and predicate[-1:] == b">" and b"<" not in predicate[1:]
    return whole and subject[:1] in (b"<", b"_") and b"><" not in subject
