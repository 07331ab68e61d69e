"""Dry run: the SPARQL that a pull would send for its first pages, without a request."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kbsync.errors import SettingsError
from kbsync.sources import Ask, is_endpoint, open_endpoint, queries
from kbsync.sources.base import iri_of
from kbsync.sources.paging import BATCH, PAGE

__all__ = ["DryQuery", "dry_run"]

_STAND_IN = "http://www.wikidata.org/entity/Q42"


@dataclass(frozen=True, slots=True)
class DryQuery:
    """One query of a pull's first pages; `text` says in a comment what it is, and can be run as it is."""

    relation: str
    step: str
    text: str


def dry_run(asks: Sequence[Ask], source: str) -> list[DryQuery]:
    """Return the queries for the first page of each step; raises SettingsError where `source` is no endpoint."""
    if not is_endpoint(source):
        raise SettingsError(f"--dry-run: {source} is a file and gets no request; it goes with an endpoint")
    endpoint = open_endpoint(source)
    found = []
    for ask in asks:
        queries.property_id(ask.relation, f"endpoint {endpoint.endpoint}")
        for number, (step, about, text) in enumerate(_steps(ask, endpoint.ordered_sample), start=1):
            comment = f"# {ask.relation} at {endpoint.endpoint}, step {number}: {about}\n"
            found.append(DryQuery(ask.relation, step, comment + text))
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
    text = queries.statements(ask.relation, iris).counted()
    yield "statements", f"their statements, {BATCH} subjects at a time{shown}", text
    shown = "; those named here stand for the subjects and objects of step 2"
    yield "labels", f"labels, {BATCH} at a time{shown}", queries.labels(iris, ask.language).counted()
    if ask.aliases:
        yield "aliases", f"aliases, {BATCH} at a time{shown}", queries.aliases(iris, ask.language).counted()
