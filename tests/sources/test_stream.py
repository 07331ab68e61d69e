"""Streams of changes: what an event says was touched, and how a stream is followed over loopback."""

import random
from collections.abc import Mapping
from typing import Any

import pytest

from kbsync.errors import SourceError
from kbsync.sources.base import Access
from kbsync.sources.stream import Follower, Touched, touched_by
from tests.event_server import Events, event_server

EDIT = {
    "$schema": "/mediawiki/recentchange/1.0.0",
    "meta": {"domain": "www.wikidata.org", "stream": "mediawiki.recentchange"},
    "type": "edit",
    "namespace": 0,
    "title": "Q142",
    "comment": "/* wbsetclaim-update:2||1 */ [[Property:P36]]: [[Q90]]",
    "wiki": "wikidatawiki",
}
RDF = {
    "$schema": "/mediawiki/wikibase/entity/rdf_change/2.0.0",
    "meta": {"domain": "www.wikidata.org", "stream": "rdf-streaming-updater.mutation.v2"},
    "entity_id": "Q142",
    "operation": "diff",
    "rdf_added_data": {"data": "wd:Q142 wdt:P36 wd:Q90 .", "mime_type": "text/turtle"},
    "rdf_deleted_data": {
        "data": "<http://www.wikidata.org/entity/Q142> <http://www.wikidata.org/prop/direct/P35> <http://x/Q1> .",
        "mime_type": "text/turtle",
    },
}
HOST = "www.wikidata.org"


@pytest.mark.parametrize(
    ("event", "touched"),
    [
        (EDIT, Touched("Q142", frozenset({"P36"}))),
        ({**EDIT, "comment": "/* wbsetlabel-set:1|en */ France"}, Touched("Q142", None)),
        ({**EDIT, "comment": "/* wbmergeitems-from:0||Q7 */"}, Touched("Q142", None)),
        ({**EDIT, "comment": None}, Touched("Q142", None)),
        ({**EDIT, "comment": "/* wbsetdescription-set:1|en */ a country"}, None),
        ({**EDIT, "type": "categorize"}, None),
        ({**EDIT, "title": "Talk:Q142"}, None),
        ({**EDIT, "title": "Item:Q5", "meta": {}}, Touched("Q5", frozenset({"P36"}))),
        ({**EDIT, "meta": {"domain": "en.wikipedia.org"}}, None),
        ({**EDIT, "meta": {"domain": "canary"}}, None),
        (RDF, Touched("Q142", frozenset({"P35", "P36"}))),
        ({**RDF, "operation": "delete"}, Touched("Q142", None)),
        ({**RDF, "rdf_added_data": {"data": 'wd:Q142 rdfs:label "France"@en .'}}, Touched("Q142", None)),
        ({**RDF, "rdf_added_data": 3, "rdf_deleted_data": None}, Touched("Q142", None)),
        ({}, None),
        ({"title": 3, "entity_id": [], "meta": "x", "type": {}}, None),
    ],
)
def test_what_an_event_touches(event: Mapping[str, Any], touched: Touched | None) -> None:
    assert touched_by(event, HOST) == touched


def taken(follower: Follower, count: int) -> list[tuple[str | None, Any]]:
    found: list[tuple[str | None, Any]] = []
    for _ in range(200):
        if len(found) == count:
            break
        event = follower.next(0.2)
        if event is not None:
            found.append((event.id, event.data.get("n")))
    follower.close()
    return found


def fault_of(follower: Follower) -> None:
    """Take events until one is a fault, which is raised."""
    for _ in range(100):
        follower.next(0.2)


def test_it_goes_on_where_it_was() -> None:
    with event_server(Events()) as events:
        events.send(*({"n": n} for n in range(1, 6)))
        assert taken(Follower(events.url, "2", Access()), 3) == [("3", 3), ("4", 4), ("5", 5)]
        assert events.asked == ["2"]


def test_cuts_and_repeats_lose_nothing() -> None:
    with event_server(Events(random.Random(5))) as events:
        follower = Follower(events.url, "0", Access())
        events.send(*({"n": n} for n in range(1, 101)))
        order: list[int] = []
        while 100 not in order:
            event = follower.next(0.2)
            order += [event.data["n"]] if event else []
            assert event is None or event.id == str(event.data["n"])
        follower.close()
    assert order == sorted(order)
    assert {*order} == {*range(1, 101)}
    assert len(order) > 100  # some came twice
    assert len(events.asked) > 1
    assert None not in events.asked


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (404, "text/plain", "answers HTTP 404"),
        (302, "text/plain", "answers HTTP 302"),
        (200, "text/html", "is no stream of events: HTTP 200, text/html"),
    ],
)
def test_what_is_no_stream_is_told(status: int, kind: str, message: str) -> None:
    with event_server(Events(status=status, kind=kind)) as events:
        follower = Follower(events.url, None, Access())
        with pytest.raises(SourceError, match=message):
            fault_of(follower)


def test_a_server_that_is_not_there_is_told() -> None:
    follower = Follower("http://127.0.0.1:9/stream", None, Access())
    with pytest.raises(SourceError, match="cannot be reached"):
        fault_of(follower)


def test_what_is_no_json_is_passed_over() -> None:
    with event_server(Events()) as events:
        events.texts.append(b"id: 1\ndata: {broken\n\n")
        events.texts.append(b"id: 2\ndata: \xff\xfe\n\n")
        events.texts.append(b"id: 3\ndata: [1]\n\n")
        events.send({"n": 4})
        assert taken(Follower(events.url, "0", Access()), 2) == [("3", None), ("4", 4)]


def test_an_event_that_is_too_large_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KBSYNC_MOST_LINE", "1")
    with event_server(Events()) as events:
        events.texts.append(b"data: " + b"x" * (2**20 + 1) + b"\n\n")
        follower = Follower(events.url, "0", Access())
        with pytest.raises(SourceError, match="too large an event"):
            fault_of(follower)
