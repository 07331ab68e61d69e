"""The endpoint source against a real Oxigraph server: what it asks, and that no row is missed."""

import urllib.parse
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import kbsync
from kbsync.errors import SettingsError, SourceError
from kbsync.sources import WIKIDATA, Ask, open_source, paging, statements
from kbsync.sources.base import Access
from kbsync.sources.paging import Paged
from kbsync.sources.results import Term
from kbsync.sources.sparql import SparqlSource
from tests.sources.fault_proxy import between, change_rows

P36 = Ask("P36")

ASKS = {
    "all": P36,
    "german": Ask("P36", language="de"),
    "german or none": Ask("P36", language="de,fr"),
    "class": Ask("P36", class_id="Q6256"),
    "class by IRI": Ask("P36", class_id="<http://www.wikidata.org/entity/Q6256>"),
    "sitelinks": Ask("P36", min_sitelinks=251),
    "limit": Ask("P36", limit=2),
    "subjects": Ask("P36", subjects=("Q142", "Bolivia", "http://kbsync.example/entity/twice", "Atlantis")),
    "escaped label": Ask("P36", subjects=('AC"DC\\ } #',)),
    "other relation": Ask("P17"),
}
SUBJECTS = {
    "all": ['AC"DC\\ } #', "Bolivia", "France", "Literal", "Twice"],
    "german": ['AC"DC\\ } #', "Bolivien", "Frankreich", "Literal", "Twice"],
    "german or none": ["Frankreich"],
    "class": ["Bolivia", "France"],
    "class by IRI": ["Bolivia", "France"],
    "sitelinks": ["France"],
    "limit": ['AC"DC\\ } #', "Literal"],
    "subjects": ["Bolivia", "France", "Twice"],
    "escaped label": ['AC"DC\\ } #'],
    "other relation": [],
}


@pytest.mark.parametrize("case", ASKS)
def test_an_endpoint_and_a_file_of_the_same_statements_give_the_same_reading(
    case: str, endpoint: str, world_file: Path
) -> None:
    remote, local = open_source(endpoint).read(ASKS[case]), open_source(str(world_file)).read(ASKS[case])
    assert [*dict.fromkeys(fact.subject.label for fact in remote.facts)] == SUBJECTS[case]
    assert remote.facts == local.facts
    # Blank nodes have other names in each.
    assert [note.partition(" (")[0] for note in remote.skipped] == [note.partition(" (")[0] for note in local.skipped]
    assert (remote.source, local.source) == (endpoint, str(world_file.resolve()))
    assert remote.query == local.query


def test_an_answer_in_pages_and_batches_is_the_same(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = open_source(endpoint).read(Ask("P36", class_id="Q6256"))
    monkeypatch.setattr(paging, "PAGE", 1)
    monkeypatch.setattr(paging, "BATCH", 1)
    monkeypatch.setattr(statements, "BATCH", 1)
    assert open_source(endpoint).read(Ask("P36", class_id="Q6256")) == whole
    assert len(whole.facts) == 3


@pytest.mark.parametrize("batch", [1, 500])
def test_the_first_subjects_are_taken_however_the_endpoint_orders_a_page(
    batch: int, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "BATCH", batch)
    with between(endpoint, *[change_rows(lambda rows: rows[::-1])] * 99) as server:
        facts = SparqlSource(server.url).read(Ask("P36", limit=2)).facts
    assert [fact.subject.label for fact in facts] == SUBJECTS["limit"]


def test_a_sample_that_is_not_ordered_holds_as_many_whole_subjects(endpoint: str) -> None:
    everything = open_source(endpoint).read(P36).facts
    sample = SparqlSource(endpoint, ordered_sample=False).read(Ask("P36", limit=3)).facts
    subjects = {fact.subject for fact in sample}
    assert len(subjects) == 3
    assert list(sample) == [fact for fact in everything if fact.subject in subjects]


def test_the_recorded_query_asks_for_the_statements_in_one_go(endpoint: str) -> None:
    source = SparqlSource(endpoint)
    reading = source.read(Ask("P36", class_id="Q6256"))
    rows = source.select(reading.query or "")
    assert {row["object"].value.rpartition("/")[2] for row in rows} == {"Q90", "sucre", "lapaz"}


def test_requests_are_posts_that_say_who_asks(endpoint: str) -> None:
    with between(endpoint) as server:
        assert open_source(server.url, Access(contact="me@example.org")).read(P36).facts
    for method, headers, body in server.requests:
        assert method == "POST"
        assert headers["User-Agent"].startswith(f"kbsync/{kbsync.__version__} (")
        assert "; contact: me@example.org) SPARQLWrapper/" in headers["User-Agent"]
        assert "results+json" in headers["Accept"]
        assert headers["Accept-Encoding"] == "gzip"
        query = urllib.parse.parse_qs(body.decode())["query"][0]
        assert "SELECT" in query
        assert "SERVICE" not in query


@pytest.mark.parametrize("contact", ["", "me\r\nX: y", "jürgen@example.org"])
def test_a_contact_that_no_header_can_hold_is_refused(contact: str) -> None:
    with pytest.raises(SettingsError, match="write a mail address or a URL"):
        Access(contact=contact)


@pytest.mark.parametrize("relation", ["P17 } #", "P17>", "P٣", "", "P17\n"])
def test_a_relation_that_is_no_id_is_refused(relation: str) -> None:
    with pytest.raises(SettingsError, match="is not a relation id"):
        Ask(relation)


@pytest.mark.parametrize("relation", ["works_for", "P", "P0", "Q42", "P17a"])
def test_a_relation_that_is_no_property_reaches_no_query(relation: str, endpoint: str) -> None:
    with between(endpoint) as server, pytest.raises(SettingsError, match=rf"'{relation}'.*YAML"):
        open_source(server.url).read(Ask(relation))
    assert not server.requests


@pytest.mark.parametrize("total", [True, False])
def test_an_endpoint_that_caps_its_answers_is_asked_for_the_rest(total: bool, endpoint: str) -> None:
    def cap(rows: list[Any]) -> list[Any]:
        return [row for row in rows if "total" not in row][:5] + [row for row in rows if "total" in row and total]

    wanted = open_source(endpoint).read(P36)
    with between(endpoint, *[change_rows(cap)] * (99 if total else 3)) as server:
        assert SparqlSource(server.url).read(P36) == replace(wanted, source=server.url)
    sent = [urllib.parse.unquote_plus(body.decode()) for _, _, body in server.requests]
    pages = [text for text in sent if "p:P36|wdt:P36" in text]
    assert len(pages) == 4  # 11 subjects: 5, 5, 1, and none
    assert sum("STR(?subject) >" in text for text in pages) == 3


def test_rows_in_an_order_that_pages_cannot_follow_are_refused(endpoint: str) -> None:
    with (
        between(endpoint, change_rows(lambda rows: rows[::-1])) as server,
        pytest.raises(SourceError, match="by their characters, so pages could miss some"),
    ):
        SparqlSource(server.url).read(P36)


def test_subjects_that_come_and_go_between_pages_disturb_no_other(tmp_path: Path) -> None:
    """A subject above the last page's is met, one below is not, and none comes twice."""
    before = [{"subject": Term(f"http://a/{letter}")} for letter in "bdf"]
    after = [{"subject": Term(f"http://a/{letter}")} for letter in "acdefg"]
    pages = iter([before[:2], [row for row in after if row["subject"].value > "http://a/d"][:2], after[-1:], []])
    found = [row["subject"].value[-1] for row in Paged(lambda text: next(pages)).subjects(P36)]
    assert found == ["b", "d", "e", "f", "g"]


def test_wikidata_is_a_name_for_its_query_service() -> None:
    source = open_source("wikidata")
    assert source.name == "wikidata"
    assert isinstance(source, SparqlSource)
    assert source.endpoint == WIKIDATA
