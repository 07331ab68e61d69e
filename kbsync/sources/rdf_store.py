"""An Oxigraph store that is asked as an endpoint is, and what could not be loaded into it.

A bad IRI or language tag spoils its own statement, no other: it is passed over, and told where it is of a relation that
is asked for. A file that ends in the middle of a statement was cut off, and nothing is taken from it.
"""

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from pyoxigraph import Literal, NamedNode, Quad, QuadParser, QuerySolutions, RdfFormat, Store, parse

from kbsync.files import TEMPORARY, writing
from kbsync.shapes import short_name
from kbsync.sources.base import Ask, Notes, Reading
from kbsync.sources.paging import Whole
from kbsync.sources.queries import shape_of, whole
from kbsync.sources.results import Row, rows_of
from kbsync.sources.statements import read_aliases, read_facts

LARGE = 32 * 2**20  # Bytes; what is above this is loaded into a store on disk
REMEDY = "the file may have been cut off: get it again, or correct that line; nothing was taken from it"
PART = 50_000  # statements that are put into a store at once
IN_LINES = (RdfFormat.N_TRIPLES, RdfFormat.N_QUADS)  # formats with one statement a line

_GOES_ON = (*IN_LINES, RdfFormat.TURTLE, RdfFormat.TRIG, RdfFormat.N3)


class CutError(Exception):
    """A file that ends in the middle of a statement: its line from 1, and why."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(why)
        self.line = line


class PassedOver:
    """What could not be read of a file: lines of which nothing is known, and statements, by their predicate."""

    def __init__(self) -> None:
        self._lines = Notes()
        self._statements: dict[str, Notes] = {}
        self.statements = 0
        """that were gone through, where they are counted"""

    def add_line(self, number: int | str, why: str) -> None:
        self._lines.add("line that cannot be read", f"{number}: {why}")

    def add(self, quad: Quad) -> None:
        notes = self._statements.setdefault(quad.predicate.value, Notes())
        subject, value = (str(getattr(term, "value", term)) for term in (quad.subject, quad.object))
        notes.add("statement with a bad IRI or language tag", f"{short_name(subject)} -> {value}")

    def lines(self, predicates: Iterable[str]) -> tuple[str, ...]:
        """Return notes on what may have been of a relation with these `predicates`."""
        ways = [self._statements[predicate] for predicate in predicates if predicate in self._statements]
        return (*self._lines.lines(), *(line for notes in ways for line in notes.lines()))


class RdfStore:
    """Statements in an Oxigraph store, asked as an endpoint is. `folder` holds them; None: the memory does."""

    def __init__(self, folder: "TemporaryFolder | None" = None, passed: PassedOver | None = None) -> None:
        self._opened = [Store() if folder is None else Store(folder.path / "store")]
        self._folder = folder
        self.passed = passed or PassedOver()
        # An open store writes to its folder at any time: it is closed before that is removed, at exit, too.
        weakref.finalize(self, self._opened.clear)

    @property
    def store(self) -> Store:
        return self._opened[0]

    def load(
        self, opened: Callable[[], BinaryIO], form: RdfFormat, number_of: Callable[[bytes], int | str] | None = None
    ) -> None:
        """Load what `opened` gives, all but what is bad in it; `number_of` tells a line's number, if not its own.

        Raises CutError for a file that ends in the middle, SyntaxError for bad XML or JSON, which nothing can be
        taken from, and OSError.
        """
        try:
            with opened() as stream:
                self._take(parse(stream, format=form))
            return
        except SyntaxError:
            if form not in _GOES_ON:
                raise
        self.store.clear()
        with opened() as stream:
            if form in IN_LINES:
                quads = self._of_lines(stream, form, number_of)
            else:
                quads = self._of_text(parse(stream, format=form, lenient=True), opened)
            self._take(quad for quad in quads if self._is_good(quad))

    def _take(self, quads: Iterator[Quad]) -> None:
        """Put statements into the store part by part: a million at once would take a gigabyte of memory."""
        while part := list(islice(quads, PART)):
            self.store.bulk_extend(part)
        self.store.optimize()  # of the parts one, of which less is held to be read

    def _of_lines(
        self, lines: Iterable[bytes], form: RdfFormat, number_of: Callable[[bytes], int | str] | None
    ) -> Iterator[Quad]:
        for number, line in enumerate(lines, start=1):
            try:
                yield from list(parse(line, format=form, lenient=True))
            except SyntaxError as error:
                if not line.endswith(b"\n"):
                    raise CutError(number, error.msg) from error
                known = number if number_of is None else number_of(line)
                self.passed.add_line(known, reason_of(error))

    def _of_text(self, quads: QuadParser, opened: Callable[[], BinaryIO]) -> Iterator[Quad]:
        """Yield the statements; one that ends where an error begins may have lost its end, and is left out."""
        held: Quad | None = None
        with opened() as stream:
            lines = enumerate(stream, start=1)
            number, line = 0, b""
            while True:
                try:
                    quad = next(quads)
                except StopIteration:
                    break
                except SyntaxError as error:
                    if "nexpected end" in error.msg:
                        raise CutError(error.lineno or 0, error.msg) from error
                    while number < (error.lineno or 0):
                        number, line = next(lines, (error.lineno or 0, b""))
                    before = line.decode("utf-8", "replace")[: (error.offset or 1) - 1]
                    if before[-1:].strip(" \t.;,[]()>"):
                        held = None
                    self.passed.add_line(number, reason_of(error))
                    continue
                if held is not None:
                    yield held
                held = quad
        if held is not None:
            yield held

    def _is_good(self, quad: Quad) -> bool:
        """Whether the terms, which are not checked in reading, are IRIs and language tags; else it is noted."""
        try:
            for term in quad:
                if isinstance(term, NamedNode):
                    NamedNode(term.value)
                elif isinstance(term, Literal) and term.language:
                    Literal("", language=term.language)
        except ValueError:
            self.passed.add(quad)
            return False
        return True

    def read(self, name: str, ask: Ask) -> Reading:
        facts, notes = read_facts(self.rows, ask)
        aliases = read_aliases(self.rows, facts, ask)
        return notes.reading(name, whole(ask).text(), facts, aliases, self.passed.lines(shape_of(ask).predicates))

    @property
    def rows(self) -> Whole:
        return Whole(self._stream)

    def _stream(self, query: str) -> Iterator[Row]:
        solutions = self.store.query(query, use_default_graph_as_union=True)
        assert isinstance(solutions, QuerySolutions)
        return rows_of(solutions)


class TemporaryFolder:
    """A folder that is there once it is asked for, and goes with this object, at exit at the latest."""

    @cached_property
    def path(self) -> Path:
        with writing(TEMPORARY):
            folder = tempfile.mkdtemp(prefix="kbsync-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return Path(folder)


def reason_of(error: SyntaxError) -> str:
    """The parser's reason, without the place that stands before it."""
    return error.msg.partition(": ")[2] or error.msg
