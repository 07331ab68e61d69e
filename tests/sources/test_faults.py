"""Every fault of an endpoint, played by a proxy in front of a real Oxigraph server, through the real client."""

import datetime
import email.utils
import gzip
import math
import re
import socket
import urllib.parse
from dataclasses import replace

import pytest

from kbsync.errors import SourceError
from kbsync.sources import Ask, Reading, open_source
from kbsync.sources.base import Access
from kbsync.sources.sparql import SparqlSource
from tests.sources.fault_proxy import (
    Answer,
    Between,
    Fault,
    between,
    change_rows,
    compressed,
    reset,
    stall,
    status,
    true,
)

P36 = Ask("P36")
BLAZEGRAPH = b"SPARQL-QUERY: ...\njava.util.concurrent.TimeoutException\n\tat java.util.concurrent.FutureTask.report"


class Patience:
    """Counts the seconds that were to be waited, a wait at a time, and what was shown meanwhile."""

    def __init__(self) -> None:
        self.timeout = 1.0
        self.waits: list[float] = []
        self.shown: list[str] = []

    def progress(self, phase: str, done: int, total: int) -> None:
        if done == 0:
            self.waits.append(0.0)
        self.shown.append(phase)

    def sleep(self, seconds: float) -> None:
        self.waits[-1] += seconds

    @property
    def access(self) -> Access:
        return Access(progress=self.progress, sleep=self.sleep, timeout=self.timeout)


@pytest.fixture
def patience() -> Patience:
    return Patience()


@pytest.fixture(scope="module")
def wanted(endpoint: str) -> Reading:
    return open_source(endpoint).read(P36)


def good_in_the_end(server: Between, patience: Patience, wanted: Reading) -> None:
    assert SparqlSource(server.url, access=patience.access).read(P36) == replace(wanted, source=server.url)
    assert not server.faults


def size(body: bytes) -> int:
    """How many subjects a request asks for, or asks about."""
    query = urllib.parse.parse_qs(body.decode())["query"][0]
    limit = re.search(r"LIMIT (\d+)", query)
    return int(limit[1]) if limit else len(query.partition("VALUES ?subject {")[2].partition("}")[0].split())


def html(answer: Answer) -> Answer:
    return Answer(b"<html><body>Please log in</body></html>", headers={"Content-Type": "text/html; charset=utf-8"})


def garbage(answer: Answer) -> Answer:
    return replace(answer, body=b"\x8f\x00garbage" * 1_111_111)


def cut_short_of_its_length(answer: Answer) -> Answer:
    return replace(answer, body=answer.body[: len(answer.body) // 2], declared=len(answer.body))


def cut_without_a_length(answer: Answer) -> Answer:
    return replace(answer, body=answer.body[: len(answer.body) // 2])


def cut_at_its_last_byte(answer: Answer) -> Answer:
    return replace(answer, body=answer.body.rstrip()[:-1])


def cut_gzip(answer: Answer) -> Answer:
    packed = gzip.compress(answer.body)
    return replace(answer, body=packed[: len(packed) // 2], headers={**answer.headers, "Content-Encoding": "gzip"})


def trace_in_its_middle(answer: Answer) -> Answer:
    return replace(answer, body=answer.body[: len(answer.body) // 2] + BLAZEGRAPH)


def empty(answer: Answer) -> Answer:
    return replace(answer, body=b"")


def other_json(answer: Answer) -> Answer:
    return replace(answer, body=b'{"boolean": true}')


def csv_alone(answer: Answer) -> Answer:
    return Answer(b"subject\r\nhttp://a/b\r\n", headers={"Content-Type": "text/csv; charset=utf-8"})


def wrong_type(answer: Answer) -> Answer:
    return replace(answer, headers={"Content-Type": "application/sparql-results+xml"})


def test_gzip_is_read(endpoint: str, patience: Patience, wanted: Reading) -> None:
    with between(endpoint, *[compressed] * 4) as server:
        good_in_the_end(server, patience, wanted)


@pytest.mark.parametrize(
    ("retry_after", "least", "most"),
    [({"Retry_After": "7"}, 7, 7), ({"Retry_After": "in a minute"}, 60, 60), ({}, 60, 60), ("date", 50, 60)],
)
def test_a_429_is_waited_out_with_a_countdown(
    retry_after: dict[str, str] | str, least: float, most: float, endpoint: str, patience: Patience, wanted: Reading
) -> None:
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=60)
    headers = retry_after if isinstance(retry_after, dict) else {"Retry_After": email.utils.format_datetime(soon)}
    with between(endpoint, status(429, b"slow down", **headers)) as server:
        good_in_the_end(server, patience, wanted)
    (waited,) = patience.waits
    assert least <= waited <= most
    assert patience.shown[:2] == [f"waiting for {server.url}: {math.ceil(waited) - n} s more" for n in (0, 1)]
    assert patience.shown[-1] == f"waiting for {server.url}: over"


def test_a_server_that_asks_for_an_hour_ends_the_pull(endpoint: str, patience: Patience) -> None:
    with (
        between(endpoint, status(429, Retry_After="3600")) as server,
        pytest.raises(SourceError, match="asks to wait 3600 s; run the pull again after that"),
    ):
        SparqlSource(server.url, access=patience.access).read(P36)
    assert not patience.waits


@pytest.mark.parametrize("code", [500, 502, 503, 504])
def test_a_server_that_fails_three_times_is_waited_for_ever_longer(
    code: int, endpoint: str, patience: Patience, wanted: Reading
) -> None:
    with between(endpoint, *[status(code)] * 3) as server:
        good_in_the_end(server, patience, wanted)
    assert len(patience.waits) == 3
    for waited, base in zip(patience.waits, (1, 2, 4), strict=True):
        assert 0.5 * base <= waited <= 1.5 * base


@pytest.mark.parametrize("fault", [reset, cut_short_of_its_length, cut_gzip])
def test_a_connection_that_broke_is_tried_again(
    fault: Fault, endpoint: str, patience: Patience, wanted: Reading
) -> None:
    with between(endpoint, true, fault, fault) as server:
        good_in_the_end(server, patience, wanted)
    assert len(patience.waits) == 2


@pytest.mark.parametrize(
    "fault", [cut_without_a_length, trace_in_its_middle, status(500, BLAZEGRAPH), status(200, BLAZEGRAPH), stall]
)
@pytest.mark.parametrize("good", [0, 2])
def test_a_page_that_took_too_long_is_asked_for_in_halves(
    fault: Fault, good: int, endpoint: str, patience: Patience, wanted: Reading
) -> None:
    with between(endpoint, *[true] * good, fault, fault) as server:
        good_in_the_end(server, patience, wanted)
    assert not patience.waits
    sizes = [size(body) for _, _, body in server.requests[good : good + 3]]
    assert sizes == ([50_000, 25_000, 12_500] if good == 0 else [10, 5, 2])


@pytest.mark.parametrize("late", range(4))
@pytest.mark.parametrize("fault", [cut_without_a_length, status(503)])
def test_a_fault_that_lasts_spoils_all_of_a_reading(fault: Fault, late: int, endpoint: str, patience: Patience) -> None:
    with (
        between(endpoint, *[true] * late, *[fault] * 9) as server,
        pytest.raises(SourceError, match=r"\(tried \d times"),
    ):
        SparqlSource(server.url, access=patience.access).read(P36)
    assert len(server.requests) <= late + 5


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (html, "answered text/html instead of SPARQL results .*Please log in.*check that the address"),
        (wrong_type, r"answered [\d,]+ bytes that are cut off|answered results that are cut off or damaged"),
        (csv_alone, r"answered text/csv instead of SPARQL results in JSON, XML or TSV .*check that the address"),
        (garbage, "answered 9,999,999 bytes that are no JSON .*nothing was taken; check that the address"),
        (reset, r"broke off its answer .*run the pull again.*\(tried 5 times\)"),
        (cut_short_of_its_length, "broke off its answer .*run the pull again"),
        (cut_gzip, "broke off its answer"),
        (cut_without_a_length, "cut off or damaged .*nothing was taken.*tried 5 times, each with half as much"),
        (cut_at_its_last_byte, "cut off or damaged"),
        (empty, "cut off or damaged"),
        (other_json, "cut off or damaged"),
        (stall, r"no answer within 0\.2 s; ask for less"),
        (status(400, b"<p>parse error\n at  line 1</p>"), "HTTP 400 .*'parse error at line 1'.*check the address"),
        (status(404), "HTTP 404 .*'slow down'.*check the address"),
        (status(403), "HTTP 403 .*identify yourself with --contact"),
        (status(501), "HTTP 501 .*check the address"),
        (status(500, b"out of memory"), r"HTTP 500 .*out of memory.*try again later \(tried 5 times\)"),
        (status(503), r"HTTP 503 .*\(tried 5 times\)"),
        (status(500, BLAZEGRAPH), "took too long .*--class"),
        (trace_in_its_middle, "took too long and cut its answer; ask for less: --class"),
        (status(200, BLAZEGRAPH), "took too long"),
    ],
)
def test_each_fault_is_one_error_that_says_where_and_what_to_do(
    fault: Fault, message: str, endpoint: str, patience: Patience
) -> None:
    if fault is stall:  # all that it answers here
        patience.timeout = 0.2
    with between(endpoint, *[fault] * 5) as server, pytest.raises(SourceError, match=message) as caught:
        SparqlSource(server.url, access=patience.access).read(P36)
    assert str(caught.value).startswith(f"{server.url}, relation P36: ")
    assert "\n" not in str(caught.value)
    assert "p:P36" in (caught.value.query or "")


def test_rows_that_are_not_those_counted_are_never_taken(endpoint: str, patience: Patience) -> None:
    fault = change_rows(lambda rows: [row for row in rows if "total" in row])
    with (
        between(endpoint, true, true, *[fault] * 9) as server,  # two pages of subjects
        pytest.raises(SourceError, match=r"gave 0 rows where it counts \d+: it cut its answer"),
    ):
        SparqlSource(server.url, access=patience.access).read(P36)


def test_rows_that_come_twice_are_never_taken(endpoint: str, patience: Patience) -> None:
    fault = change_rows(lambda rows: [rows[0], *rows[:-2], rows[-1]])
    with between(endpoint, true, true, fault) as server:
        assert SparqlSource(server.url, access=patience.access).read(P36).facts
    # the subjects, their statements once and in halves, labels five at a time, and merged entities
    assert len(server.requests) >= 2 + 3 + 3


def test_an_endpoint_that_is_down_is_told_at_once() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/sparql"
    with pytest.raises(SourceError, match=r"relation P36: cannot be reached .*check the address, your net") as caught:
        open_source(url).read(P36)
    assert caught.value.query
