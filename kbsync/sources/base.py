"""What every source shares: the question (`Ask`), the answer (`Reading`) and the notes on what was left out.

`Access` says how an endpoint is asked: by whom, how long it may take, who is told of a wait, and what was read before.
"""

import datetime
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from kbsync import __version__
from kbsync.errors import SettingsError, SourceError
from kbsync.facts import Entity, Fact, Skipped, check_relation, visible
from kbsync.files import DEADLINE, SILENCE, SKIPPED, read_text
from kbsync.shapes import Shape, expand, iri_of, wikibase

MOST_LETTERS = 250
"""of a label that a fact can have: Wikidata allows no longer ones, and what is longer is no name"""

SHOWN = 500  # letters of a text from outside that a message shows

SECRET = re.compile(r"(?i)(^|[?&;_-])(\w*(password|passwd|pwd|secret|token|signature|credential)|api_?key|key|sig)=")
"""in an address: the name of something that nobody else may know"""

_EXAMPLES = 3
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")
_DATED = re.compile(r" (by|after) \d{4}-\d\d-\d\d\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_PAIR = re.compile(r"[\ud800-\udbff][\udc00-\udfff]")
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def shown(text: str, most: int = SHOWN) -> str:
    """Return a text from outside fit for a message: on one line, without control characters, of `most` letters."""
    words = clean(text[: 4 * most])
    return words if len(words) <= most else f"{words[: most - 3]}..."


def clean(text: str) -> str:
    """Return a label with its white space folded, without control and invisible characters and halves of pairs."""
    words = " ".join(visible(text).split())
    return words if words.isprintable() else " ".join(_UNFIT.sub("", join_pairs(words)).split())


def join_pairs(text: str) -> str:
    """Return a text with the UTF-16 pairs in it as the characters that they stand for; halves stay."""
    return _PAIR.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), text)


@dataclass(frozen=True, slots=True)
class Ask:
    """What one pull asks a source for. Raises SettingsError on making if a field is not what it says."""

    relation: str
    class_id: str | None = None
    """Only subjects that are instances (P31) of it: ``Q515`` or ``<IRI>``."""
    subjects: tuple[str, ...] | None = None
    """Only these: ids (``Q42`` or IRI) or labels."""
    language: str = "en"
    """Of the labels: a code, or several in the order in which they are taken (``en,mul,de``)."""
    limit: int | None = None
    """At most so many subjects, each with all of its objects."""
    min_sitelinks: int | None = None
    """Only subjects with at least so many Wikipedia articles and the like."""
    as_of: datetime.date | None = None
    """The day on which a statement must be current; None is today."""
    aliases: bool = False
    """Read the aliases of subjects and objects too."""
    sitelinks_of_pages: bool = True
    """Take a number of sitelinks that is said of the entity's page, as dumps have it. Wikidata's service has none."""

    everything: bool = False
    """Ask for the whole relation in pages that a service can answer which cannot sort so many subjects."""
    by_default: bool = False
    """Class and sitelinks are not the user's, but the relation's own."""
    shape: Shape | None = None
    """How sources state the relation; None: as Wikidata does, of a property of its own."""

    def __post_init__(self) -> None:
        check_relation(self.relation)
        if not all(map(_LANGUAGE.fullmatch, self.language.split(","))):
            raise SettingsError(f"language {self.language!r} is not a code such as en or zh-hans, or a list: en,mul,de")
        if self.class_id is not None and expand(self.class_id) is None:
            raise SettingsError(f"class {self.class_id!r} is not an id: use a Wikidata item such as Q515, or <IRI>")
        if self.limit is not None and self.limit < 1:
            raise SettingsError(f"limit {self.limit} is too small: ask for 1 subject or more")
        if self.min_sitelinks is not None and self.min_sitelinks < 0:
            raise SettingsError(f"min-sitelinks {self.min_sitelinks} is below 0")
        for subject in self.subjects or ():
            _check_subject(subject)

    def found(self, source: str) -> Shape:
        """Return how `source`, an RDF source, states the relation; raise SettingsError where nothing tells."""
        if self.shape is not None and self.shape.from_subject:
            return self.shape
        if not re.fullmatch(r"P[1-9][0-9]*", self.relation):
            raise SettingsError(
                f"relation {self.relation!r}: nothing says how {source} states it: write `source: {{predicate: IRI}}` "
                "into its template, or give its facts as a YAML file or a table (--source FILE.yaml or FILE.csv)"
            )
        return wikibase(self.relation)

    @property
    def partial(self) -> bool:
        """Whether it asks for a part of the relation only, so that what is missing was not withdrawn."""
        return any(part is not None for part in (self.class_id, self.subjects, self.limit, self.min_sitelinks))

    @property
    def narrowed(self) -> bool:
        """Whether it asks by what can change of a subject: its classes, its number of sitelinks."""
        return self.class_id is not None or self.min_sitelinks is not None

    @property
    def day(self) -> datetime.date:
        return self.as_of or datetime.date.today()


Aliases = Mapping[str, tuple[str, ...]] | None


@dataclass(frozen=True, slots=True)
class Reading:
    """A source's answer: current statements only, all objects of a subject; conflicts are settled later."""

    source: str
    """Stable name for the ledger: ``wikidata``, the endpoint's URL, or the file's resolved path."""
    query: str | None
    """SPARQL text that asks for the statements in one go (those not current among them); None for a YAML file."""
    facts: Collection[Fact]
    skipped: tuple[str, ...]
    """Notes on what was left out (no label, unknown value, ...), one for each kind, with how many."""
    aliases: Aliases = None
    """Other names of every subject and object of `facts`, by `Entity.key`; None where none were asked for, or known."""
    nameless: frozenset[tuple[str, str]] = frozenset()
    """(subject key, object key) of statements that stand and were left out only since a label is missing."""
    left_out: tuple[Skipped, ...] = ()
    """What the notes speak of, as far as it has a subject: statement by statement, up to a bound."""


Counted = list[tuple[str, tuple[int, str, str]]]
"""Each predicate, relation or column with its number of statements and one of them: subject and object; most first."""


class Source(Protocol):
    """Where facts come from."""

    @property
    def name(self) -> str:
        """Stable name for the ledger."""

    def read(self, ask: Ask) -> Reading:
        """Read what `ask` asks for, whole or not at all; raises SourceError or SettingsError."""

    def predicates(self) -> Counted | None:
        """Return what states relations there; None where SPARQL tells it."""


class PageStore(Protocol):
    """Finished answers, so that an interrupted pull goes on where it was."""

    def find(self, query: str) -> bytes | None:
        """Return the answer to this query that was kept; None where there is none."""

    def keep(self, query: str, body: bytes) -> None:
        """Keep a whole answer."""


@dataclass(frozen=True, slots=True)
class Access:
    """How an endpoint is asked. Raises SettingsError for a contact that no header can hold."""

    contact: str | None = None
    """A mail address or URL of the user, for the people who run the endpoint."""
    pages: PageStore | None = None
    progress: Callable[[str, int, int], None] = lambda phase, done, total: None
    """``progress(phase, done, total)``; called once a second during a wait"""
    timeout: float = field(default_factory=lambda: SILENCE.value)
    """seconds without a byte"""
    deadline: int = field(default_factory=lambda: DEADLINE.value)
    """seconds for a whole request"""
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        if self.contact is not None and not re.fullmatch(r"[\x21-\x7e]+( [\x21-\x7e]+)*", self.contact):
            raise SettingsError(f"contact {self.contact!r}: write a mail address or a URL, in ASCII letters")

    @property
    def agent(self) -> str:
        """The User-Agent: name, version, what it is for, and whom to ask."""
        purpose = "keeps language models in step with a knowledge base"
        whom = f"; contact: {self.contact}" if self.contact else ""
        return f"kbsync/{__version__} ({purpose}{whom})"


ALONE = Access()
"""nobody told, nothing kept"""


class Notes:
    """Counts what was left out, by kind, and keeps a few examples."""

    def __init__(self) -> None:
        self._kinds: dict[str, tuple[set[int], list[str]]] = {}
        self._left_out: dict[Skipped, None] = {}
        self.nameless: set[tuple[str, str]] = set()
        """as in `Reading`"""

    def add(self, kind: str, example: str, subject: Entity | None = None, thing: str = "") -> None:
        """Note `example` under `kind`; the same example counts once. What is said of a `subject` is kept whole."""
        if subject is not None and len(self._left_out) < SKIPPED.value:
            lasting = _DATED.sub("", kind)  # the same tomorrow
            self._left_out[Skipped(shown(subject.key), shown(subject.label), shown(thing), lasting)] = None
        seen, examples = self._kinds.setdefault(kind, (set(), []))
        if (mark := hash(example)) not in seen:
            seen.add(mark)
            if len(examples) < _EXAMPLES:
                examples.append(shown(example, 100))

    def lines(self) -> tuple[str, ...]:
        return tuple(
            f"{kind}: {len(seen)} ({', '.join(examples)}{', ...' if len(seen) > len(examples) else ''})"
            for kind, (seen, examples) in self._kinds.items()
        )

    def reading(
        self, source: str, query: str | None, facts: Collection[Fact], aliases: Aliases = None, more: Iterable[str] = ()
    ) -> Reading:
        """Return a reading of `facts`, with what was left out and the notes on it."""
        told, nameless = (*self.lines(), *more), frozenset(self.nameless)
        return Reading(source, query, facts, told, aliases, nameless, tuple(self._left_out))


def short_enough(subject: Entity, thing: Entity, notes: Notes) -> bool:
    """Whether both labels of a fact are short enough to be names; one that is not is noted."""
    longest = max(subject.label, thing.label, key=len)
    if len(longest) > MOST_LETTERS:
        notes.add(f"label of more than {MOST_LETTERS} letters", f"{longest[:40]}...", subject, thing.id or thing.label)
    return len(longest) <= MOST_LETTERS


@contextmanager
def locate(where: str) -> Iterator[None]:
    """Put `where` (source and relation) before the message of a SourceError that passes."""
    try:
        yield
    except SourceError as error:
        raise SourceError(f"{where}: {error}", query=error.query) from error


def read_subjects(path: Path) -> tuple[str, ...]:
    """Return the ids and labels of a ``--subjects`` file, one a line; blank lines and ``#`` comments are skipped.

    Raises SourceError with file and line for a line that is no id and cannot be a label.
    """
    subjects: dict[str, None] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            _check_subject(text)
        except SettingsError as error:
            raise SourceError(f"{path}:{number}: {error}") from error
        subjects[text] = None
    if not subjects:
        raise SourceError(f"{path}: names no subject; write one id (Q42) or label a line")
    return tuple(subjects)


def _check_subject(text: str) -> None:
    if not text.strip() or _CONTROL.search(text):
        raise SettingsError(f"subject {text!r} is empty or holds control characters")
    if ("://" in text or text.startswith("<")) and iri_of(text) is None:
        raise SettingsError(f"subject {text!r} is not an IRI: write Q42, <http://...> or a label")
