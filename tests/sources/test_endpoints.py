"""What endpoints in the world do: they move, take GET alone, answer in other forms, without a measure or an end."""

import gzip
import json
import socket
import urllib.parse
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from SPARQLWrapper import CSV, POST, TSV, XML, SPARQLWrapper

from kbsync.errors import SourceError
from kbsync.sources import Ask, Reading, open_source
from kbsync.sources.base import Access
from kbsync.sources.sparql import SparqlSource
from tests.sources.fault_proxy import Answer, Fault, between, change_rows, status, true

P36 = Ask("P36")


@pytest.fixture(scope="module")
def wanted(endpoint: str) -> Reading:
    return open_source(endpoint).read(P36)


def refused(endpoint: str, *faults: Fault, **access: Any) -> str:
    """Read with each fault in turn; returns the message of the error."""
    with between(endpoint, *faults) as server, pytest.raises(SourceError) as caught:
        SparqlSource(server.url, access=Access(sleep=lambda seconds: None, **access)).read(P36)
    assert caught.value.query
    return str(caught.value)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("where", ["/moved/sparql", "HOST/moved/sparql"])
def test_a_redirect_on_the_same_host_is_followed_with_the_query(
    where: str, code: int, endpoint: str, wanted: Reading
) -> None:
    with between(endpoint) as server:
        server.faults[:] = [status(code, Location=where.replace("HOST", server.url.removesuffix("/query"))), true] * 9
        assert SparqlSource(server.url).read(P36) == replace(wanted, source=server.url)
    assert {method for method, _, _ in server.requests} == {"POST"}
    assert all(b"query=" in body for _, _, body in server.requests)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "where", ["http://other.example/sparql", "file:///etc/passwd", "ftp://127.0.0.1/x", "http://a:b@127.0.0.1/x"]
)
def test_a_redirect_to_another_host_or_scheme_is_named(where: str, code: int, endpoint: str) -> None:
    told = refused(endpoint, status(code, Location=where))
    assert f"has moved (HTTP {code}) to {where}; if you trust that address, give it as the source" in told


@pytest.mark.parametrize("fault", [status(302), status(302, Location="http://[bad")])
def test_a_redirect_to_nowhere_is_told(fault: Fault, endpoint: str) -> None:
    assert "has moved (HTTP 302) to" in refused(endpoint, fault)


def test_redirects_in_a_circle_end(endpoint: str) -> None:
    assert "redirects too often (at most 5 redirects; KBSYNC_MOST_REDIRECTS" in refused(
        endpoint, *[status(307, Location="/again")] * 9
    )


def test_an_endpoint_that_takes_get_alone_is_asked_so(endpoint: str, wanted: Reading) -> None:
    with between(endpoint, *[status(405, Allow="GET, HEAD"), true] * 9) as server:
        assert SparqlSource(server.url).read(P36) == replace(wanted, source=server.url)
    assert [method for method, _, _ in server.requests[:4]] == ["POST", "GET", "POST", "GET"]


def test_a_query_that_fits_no_address_is_told_where_get_alone_is_taken(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kbsync.sources.endpoint.LONGEST_ADDRESS", 100)
    told = refused(endpoint, *[status(405, Allow="GET")] * 99)
    assert "takes queries in its address alone (GET), and this one is too long for that" in told


def test_a_405_without_get_is_an_error(endpoint: str) -> None:
    assert "refused the query (HTTP 405" in refused(endpoint, status(405, Allow="PUT"))


def as_form(form: str, kind: str, endpoint: str, query: Callable[[], bytes]) -> Fault:
    """The true answer to the last query, in another form."""

    def fault(answer: Answer) -> Answer:
        wrapper = SPARQLWrapper(endpoint, returnFormat=form)
        wrapper.setMethod(POST)
        wrapper.setOnlyConneg(True)
        wrapper.setQuery(urllib.parse.parse_qs(query().decode())["query"][0])
        return Answer(wrapper.query().response.read(), headers={"Content-Type": kind})

    return fault


@pytest.mark.parametrize(
    ("form", "kind"),
    [
        (XML, "application/sparql-results+xml"),
        (XML, "application/xml; charset=utf-8"),
        (TSV, "text/tab-separated-values"),
        ("json", "text/json"),
        ("json", "text/plain; charset=utf-8"),
    ],
)
def test_results_in_other_forms_are_read(form: str, kind: str, endpoint: str, wanted: Reading) -> None:
    with between(endpoint) as server:
        server.faults[:] = [as_form(form, kind, endpoint, lambda: server.requests[-1][2])] * 9
        assert SparqlSource(server.url).read(P36) == replace(wanted, source=server.url)


def test_csv_is_told_as_a_form_that_is_not_read(endpoint: str) -> None:
    with between(endpoint) as server:
        server.faults[:] = [as_form(CSV, "text/csv", endpoint, lambda: server.requests[-1][2])]
        with pytest.raises(SourceError, match=r"answered text/csv instead of SPARQL results in JSON, XML or TSV"):
            SparqlSource(server.url).read(P36)


def test_a_dead_proxy_is_named_as_the_proxy(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        proxy = f"127.0.0.1:{probe.getsockname()[1]}"
    monkeypatch.setenv("http_proxy", f"http://me:secret@{proxy}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(SourceError, match=rf"the proxy {proxy} \(http_proxy\) does not answer .*no_proxy") as caught:
        open_source("http://kb.example/sparql").read(P36)
    assert "secret" not in str(caught.value)


def large(answer: Answer) -> Answer:
    return replace(answer, body=answer.body.rstrip()[:-1] + b" " * 3_000_000 + b"}")


def bomb(answer: Answer) -> Answer:
    packed = gzip.compress(b" " * 60_000_000)
    return replace(answer, body=packed, headers={**answer.headers, "Content-Encoding": "gzip"})


def trickle(answer: Answer) -> Answer:
    return replace(answer, trickling=True)


def test_answers_have_a_bound(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KBSYNC_MOST_ANSWER", "2")
    told = refused(endpoint, *[large] * 9)
    assert "gave too large an answer (at most 2 MB; KBSYNC_MOST_ANSWER sets another bound)" in told


def test_a_gzip_bomb_ends_at_its_ratio(endpoint: str) -> None:
    assert "grows too much when unpacked (at most 200 times its packed size" in refused(endpoint, bomb)


def test_a_byte_at_a_time_ends_at_the_deadline_with_progress_meanwhile(endpoint: str) -> None:
    shown: list[str] = []
    told = refused(endpoint, *[trickle] * 9, deadline=1, progress=lambda phase, done, total: shown.append(phase))
    assert "not done within 1 s (at most 300 seconds; KBSYNC_DEADLINE sets another bound)" in told
    assert shown == ["waiting for 127.0.0.1: 1 s (gives up after 75 s of silence, 1 s in all)"] * len(shown)
    assert shown


def test_messages_of_servers_are_cut_and_stripped(endpoint: str) -> None:
    told = refused(endpoint, status(400, b"\x1b[31mred\x07" + b"x" * 100_000))
    assert told.isprintable()
    assert len(told) < 500


def test_pages_that_repeat_are_refused(endpoint: str) -> None:
    blank = {"subject": {"type": "bnode", "value": "b0"}}
    told = refused(endpoint, *[change_rows(lambda rows: [blank])] * 9)
    assert "gives the same page of subjects again" in told


def test_pages_without_an_end_are_refused(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KBSYNC_MOST_SUBJECTS", "20")
    numbers = iter(range(10**6))

    def more(rows: list[Any]) -> list[Any]:
        return [{"subject": {"type": "uri", "value": f"http://a/{next(numbers):07}"}} for _ in range(8)]

    told = refused(endpoint, *[change_rows(more)] * 99)
    assert "an endless number of pages of subjects (at most 20 subjects; KBSYNC_MOST_SUBJECTS" in told


def counts(text: object) -> Fault:
    def change(rows: list[Any]) -> list[Any]:
        return [row if "total" not in row else {"total": {"type": "literal", "value": text}} for row in rows]

    return change_rows(change)


@pytest.mark.parametrize("count", ["many", "", "1.5", "9" * 5000, "٣", "-1"])
def test_a_count_that_is_none_is_told(count: str, endpoint: str) -> None:
    assert "gave a count that is none: " in refused(endpoint, true, true, counts(count))


def in_rows(**changes: object) -> Fault:
    def change(rows: list[Any]) -> list[Any]:
        return [row if "total" in row else {**row, **changes} for row in rows]

    return change_rows(change)


@pytest.mark.parametrize(
    ("good", "fault", "message"),
    [
        (0, in_rows(subject={"type": "literal", "value": "x"}), "gave a literal as ?subject: 'x'"),
        (0, change_rows(lambda rows: [{"other": row["subject"]} for row in rows]), "gave a row without ?subject"),
        (2, in_rows(subject={"type": "uri", "value": "http://a/b"}), "mentions 'http://a/b', which was not asked for"),
        (3, in_rows(label={"type": "literal", "value": "x", "xml:lang": "xx"}), "gave a label in 'xx', which was not"),
        (3, in_rows(label={"type": "uri", "value": "http://a"}), "gave a iri as ?label"),
        (3, in_rows(entity={"type": "uri", "value": "http://a/b"}), "mentions 'http://a/b', which was not asked for"),
    ],
)
def test_answers_of_another_shape_are_told(good: int, fault: Fault, message: str, endpoint: str) -> None:
    told = refused(endpoint, *[true] * good, *[counted(fault)] * 9)
    assert message in told


def counted(fault: Fault) -> Fault:
    """The fault, with each row once and a count that agrees with them."""

    def change(rows: list[Any]) -> list[Any]:
        single = [json.loads(text) for text in dict.fromkeys(json.dumps(row) for row in rows if "total" not in row)]
        total = {"total": {"type": "literal", "value": str(len(single))}}
        return [*single, total] if any("total" in row for row in rows) else rows

    return lambda answer: change_rows(change)(fault(answer))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"results":{"bindings":' + "[" * 100_000, '{"a":' * 100_000])
def test_json_that_is_nested_without_an_end_is_damaged(text: str, endpoint: str) -> None:
    assert "nothing was taken" in refused(endpoint, *[lambda answer: replace(answer, body=text.encode())] * 9)
