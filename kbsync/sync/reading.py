"""Before anything is recorded: what a pull asks for, what an interrupted one left, and what changed in a file."""

import datetime
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kbsync.errors import SettingsError
from kbsync.facts import check_relation
from kbsync.ledger import Ledger, pages
from kbsync.ledger.pages import FileReading
from kbsync.shapes import iri_of
from kbsync.sources import Ask, Source, is_endpoint, is_wikidata, open_endpoint, queries, read_subjects
from kbsync.sources.own_query import read_query
from kbsync.sources.paging import BATCH, PAGE
from kbsync.sync.home import templates_for

if TYPE_CHECKING:
    from kbsync.sources.rdf_changes import Digest
    from kbsync.sources.rdf_file import ChangedPart


def make_asks(
    relations: Sequence[str],
    source: str,
    *,
    class_id: str | None = None,
    subjects_file: Path | None = None,
    language: str | None = None,
    limit: int | None = None,
    min_sitelinks: int | None = None,
    as_of: datetime.date | None = None,
    aliases: bool = False,
    everything: bool = False,
    home: Path | None = None,
) -> list[Ask]:
    """Return what a pull asks `source` for, a relation after the other.

    Of a relation that is too large for Wikidata's service it is the part that its template (of `home`, or kbsync's)
    names, unless the user narrows it or asks for `everything`.
    """
    subjects = None if subjects_file is None else read_subjects(subjects_file)
    wikidata = is_wikidata(source)
    templates = templates_for(home or Path())
    asks = []
    for relation in dict.fromkeys(relations):
        template = templates.get(check_relation(relation))
        shape = template.source if template and not (wikidata and re.fullmatch(r"P[1-9]\d*", relation)) else None
        spoken = language or (shape and shape.language) or "en"
        part = (class_id, subjects, spoken, limit, min_sitelinks)
        ask = Ask(relation, *part, as_of, aliases, not wikidata, shape=shape)
        scope = template.scope if template and wikidata else None
        if everything:
            if ask.partial:
                raise SettingsError(
                    "--all reads everything: leave out --class, --subjects, --limit and --min-sitelinks"
                )
            ask = replace(ask, everything=wikidata)
        elif scope is not None and not ask.partial:
            ask = replace(ask, class_id=scope.class_id, min_sitelinks=scope.min_sitelinks, by_default=True)
        asks.append(ask)
    return asks


def scope_of(ask: Ask) -> dict[str, Any] | None:
    """Return what narrows `ask`, as the ledger keeps it."""
    subjects = None if ask.subjects is None else len(ask.subjects)
    parts = {"class": ask.class_id, "min_sitelinks": ask.min_sitelinks, "limit": ask.limit, "subjects": subjects}
    return {name: value for name, value in parts.items() if value is not None} or None


def scope_text(ask: Ask) -> str:
    """Return the class and sitelinks of `ask` in words."""
    classes = [] if ask.class_id is None else [f"instances of {ask.class_id}"]
    return ", ".join(classes + ([] if ask.min_sitelinks is None else [f"{ask.min_sitelinks} sitelinks or more"]))


_STAND_IN = "http://www.wikidata.org/entity/Q42"


def dry_run(asks: Sequence[Ask], source: str, query: str | None = None) -> list[dict[str, str]]:
    """Return the queries for the first page of each step; raises SettingsError where `source` is no endpoint.

    Each has its relation, its step, and a text that says in a comment what it is, and can be run as it is.

    A `query` of the user's own is the only one, but for labels that it does not give.
    """
    if not is_endpoint(source):
        raise SettingsError(f"--dry-run: {source} is a file, which gets no request; use it with an endpoint")
    endpoint = open_endpoint(source)
    if query is not None:
        text = read_query(query).check_sparql().text
        at = f"at {endpoint.endpoint}\n{text}"
        return [{"relation": one.relation, "step": "query", "text": f"# {one.relation} {at}"} for one in asks]
    found = []
    for ask in asks:
        ask.found(f"endpoint {endpoint.endpoint}")
        for number, (step, about, text) in enumerate(_steps(ask, endpoint.ordered_sample), start=1):
            comment = f"# {ask.relation} at {endpoint.endpoint}, step {number}: {about}\n"
            found.append({"relation": ask.relation, "step": step, "text": comment + text})
    return found


def _steps(ask: Ask, ordered: bool) -> Iterator[tuple[str, str, str]]:
    iris = [iri for iri in map(iri_of, (ask.subjects or ())[:BATCH]) if iri] or [_STAND_IN]
    if ask.subjects is not None:
        text = queries.subjects_named(ask, ask.subjects[:BATCH]).counted()
        yield "subjects", f"which of the named subjects have it, {BATCH} names at a time", text
    elif ask.limit is not None:
        yield "subjects", "its subjects, some more than --limit asks for", queries.sample(ask, ordered=ordered)
    else:
        text = queries.subjects_page(ask, PAGE, None)
        yield "subjects", f"its subjects, {PAGE:,} at a time; later pages have a FILTER above the last IRI", text
    shown = "" if iris != [_STAND_IN] else "; wd:Q42 stands for those that step 1 finds"
    text = queries.statements(ask, iris).counted()
    yield "statements", f"their statements, {BATCH} subjects at a time{shown}", text
    shown = "; those named here stand for the subjects and objects of step 2"
    yield "labels", f"labels, {BATCH} at a time{shown}", queries.labels(ask, iris).counted()
    if ask.aliases:
        yield "aliases", f"aliases, {BATCH} at a time{shown}", queries.aliases(ask, iris).counted()


class KeptPages(AbstractContextManager["KeptPages"]):
    """Pages of one source in a home's ledger, which is made when the first one is kept.

    What an error or Ctrl-C leaves is there for the next pull.
    """

    def __init__(self, home: Path, source: str) -> None:
        self._home, self._source = home, source
        self._ledger: Ledger | None = None
        self.used: set[str] = set()
        """the keys of all that this pull found or kept"""

    def find(self, query: str) -> bytes | None:
        """Return the answer to `query` that an interrupted pull left."""
        key, found = pages.page_key(self._source, query), None
        if self._ledger or (self._home / "ledger.db").exists():
            found = pages.find_page(self._opened(), key)
        if found is not None:
            self.used.add(key)
        return found

    def keep(self, query: str, body: bytes) -> None:
        key = pages.page_key(self._source, query)
        self.used.add(key)
        pages.keep_page(self._opened(), key, body)

    def drop(self) -> None:
        """Drop all that this pull found or kept, as it was of no use."""
        if self.used:
            pages.drop_pages(self._opened(), self.used)

    def _opened(self) -> Ledger:
        if self._ledger is None:
            self._ledger = Ledger.open(self._home)
            # A page lost to a power cut is only asked for again, so no page waits for the disk (WAL stays whole).
            self._ledger.db.execute("PRAGMA synchronous = NORMAL")
            pages.drop_expired(self._ledger)
        return self._ledger

    def __exit__(self, *error: object) -> None:
        if self._ledger is not None:
            self._ledger.close()


@dataclass(frozen=True, slots=True)
class FileState:
    """How a source stands: the file's digest, how it stood earlier, and the part to read; each None where not known."""

    digest: "Digest | None" = None
    earlier: FileReading | None = None
    part: "ChangedPart | None" = None

    def notes(self, relation: str) -> tuple[str, ...]:
        """Return what was told of a relation when it was last read whole, where only a part is read now."""
        return tuple(self.earlier.skipped.get(relation, ())) if self.part is not None and self.earlier else ()

    def remember(
        self, ledger: Ledger, source: str, asks: Sequence[Ask], pulls: Mapping[str, tuple[int, Sequence[str]]]
    ) -> None:
        """Record the state with the pulls that were made of it and what each has told, by relation."""
        if self.digest is None:
            return
        skipped = {
            relation: self.notes(relation) or [f"{line} (as of pull {pull})" for line in told]
            for relation, (pull, told) in pulls.items()
        }
        about = (asks[0].language, asks[0].day.isoformat(), self.digest.packed)
        made = {relation: pull for relation, (pull, _) in pulls.items()}
        pages.record_reading(ledger, source, FileReading(*about, made, skipped))


def look_at(home: Path, source: Source, asks: Sequence[Ask], name: str | None = None) -> FileState:
    """Return how a source stands against its last reading; nothing is known of one that is no N-Triples file.

    `name` is what the ledger knows it by; None: as it calls itself.
    """
    if not source.name.lower().endswith(".nt") or any(ask.partial or ask.aliases or ask.shape for ask in asks):
        return FileState()
    from kbsync.sources.rdf_changes import Digest
    from kbsync.sources.rdf_file import RdfFile

    digest = source.digest() if isinstance(source, RdfFile) else None
    if digest is None or not isinstance(source, RdfFile):
        return FileState()
    earlier = None
    if (home / "ledger.db").exists():
        with Ledger.open(home) as ledger:
            earlier = pages.find_reading(ledger, name or source.name)
    if earlier is None or any(ask.relation not in earlier.pulls or ask.language != earlier.language for ask in asks):
        return FileState(digest)
    before = Digest.unpack(earlier.digest)
    if before is None or ((digest.timed or before.timed) and earlier.day != asks[0].day.isoformat()):
        return FileState(digest)
    return FileState(digest, earlier, source.changed_since(before, digest))
