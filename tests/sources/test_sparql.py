"""The endpoint source against a real Oxigraph server; faults come from a server in between."""

import datetime
import email.utils
import json
import socket
import urllib.parse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import kbsync
from kbsync.errors import SettingsError, SourceError
from kbsync.sources import WIKIDATA, Ask, open_source, statements
from kbsync.sources.sparql import SparqlSource
from tests.oxigraph_server import Answer, between

Fault = Callable[[Answer], Answer]
P36 = Ask("P36")


def html(answer: Answer) -> Answer:
    return Answer(b"<html><body>Please log in</body></html>", headers={"Content-Type": "text/html; charset=utf-8"})


def cut_short_of_its_length(answer: Answer) -> Answer:
    return replace(answer, body=answer.body[: len(answer.body) // 2], declared=len(answer.body))


def cut_without_a_length(answer: Answer) -> Answer:
    return replace(answer, body=answer.body[: len(answer.body) // 2])


def cut_at_its_last_byte(answer: Answer) -> Answer:
    return replace(answer, body=answer.body.rstrip()[:-1])


def empty(answer: Answer) -> Answer:
    return replace(answer, body=b"")


def other_json(answer: Answer) -> Answer:
    return replace(answer, body=b'{"boolean": true}')


def keep_rows(count: int, *, total: bool) -> Fault:
    """A cap on rows, as some endpoints have: whole JSON, but fewer rows, with or without the row of the total."""

    def fault(answer: Answer) -> Answer:
        document = json.loads(answer.body)
        rows = document["results"]["bindings"]
        kept = [row for row in rows if "total" not in row][:count]
        document["results"]["bindings"] = kept + [row for row in rows if "total" in row and total]
        return replace(answer, body=json.dumps(document).encode())

    return fault


def status(code: int, body: bytes = b"slow down", **headers: str) -> Fault:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda answer: Answer(body, code, {"Content-Type": "text/plain", **named})


ASKS = {
    "all": P36,
    "german": Ask("P36", language="de"),
    "class": Ask("P36", class_id="Q6256"),
    "class by IRI": Ask("P36", class_id="<http://www.wikidata.org/entity/Q6256>"),
    "sitelinks": Ask("P36", min_sitelinks=251),
    "limit": Ask("P36", limit=2),
    "subjects": Ask("P36", subjects=("Q142", "Bolivia", "http://kbsync.example/entity/twice", "Atlantis")),
    "escaped label": Ask("P36", subjects=('AC"DC\\ } #',)),
    "other relation": Ask("P17"),
}
SUBJECTS = {
    "all": ['AC"DC\\ } #', "Bolivia", "France", "Twice"],
    "german": ['AC"DC\\ } #', "Bolivien", "Frankreich", "Twice"],
    "class": ["Bolivia", "France"],
    "class by IRI": ["Bolivia", "France"],
    "sitelinks": ["France"],
    "limit": ['AC"DC\\ } #', "Twice"],
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
    monkeypatch.setattr(statements, "PAGE", 1)
    monkeypatch.setattr(statements, "BATCH", 1)
    assert open_source(endpoint).read(Ask("P36", class_id="Q6256")) == whole
    assert len(whole.facts) == 3


def reverse_rows(answer: Answer) -> Answer:
    document = json.loads(answer.body)
    document["results"]["bindings"].reverse()
    return replace(answer, body=json.dumps(document).encode())


@pytest.mark.parametrize("batch", [1, 500])
def test_the_first_subjects_are_taken_however_the_endpoint_orders_a_page(
    batch: int, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "BATCH", batch)
    with between(endpoint, *[reverse_rows] * 99) as server:
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
    rows = source._select(reading.query or "")
    assert {row["object"].value.rpartition("/")[2] for row in rows} == {"Q90", "sucre", "lapaz"}


def test_requests_are_posts_that_say_who_asks(endpoint: str) -> None:
    with between(endpoint) as server:
        assert open_source(server.url).read(P36).facts
    for method, headers, body in server.requests:
        assert method == "POST"
        assert headers["User-Agent"].startswith(f"kbsync/{kbsync.__version__} (")
        assert "results+json" in headers["Accept"]
        assert "SELECT" in urllib.parse.parse_qs(body.decode())["query"][0]


@pytest.mark.parametrize("relation", ["P17 } #", "P17>", "P٣", "", "P17\n"])
def test_a_relation_that_is_no_id_is_refused(relation: str) -> None:
    with pytest.raises(SettingsError, match="is not a relation id"):
        Ask(relation)


@pytest.mark.parametrize("relation", ["works_for", "P", "P0", "Q42", "P17a"])
def test_a_relation_that_is_no_property_reaches_no_query(relation: str, endpoint: str) -> None:
    with between(endpoint) as server, pytest.raises(SettingsError, match=rf"'{relation}'.*YAML"):
        open_source(server.url).read(Ask(relation))
    assert not server.requests


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (html, "answered text/html in place of SPARQL results .*Please log in.*check that the address"),
        (cut_short_of_its_length, "broke off its answer .*run the pull again"),
        (cut_without_a_length, "cut off or damaged .*nothing was taken"),
        (cut_at_its_last_byte, "cut off or damaged"),
        (empty, "cut off or damaged"),
        (other_json, "cut off or damaged"),
        (keep_rows(1, total=False), "gave 1 rows where it counts more: it cut its answer"),
        (keep_rows(0, total=True), "gave 0 rows where it counts 11"),
        (status(400, b"<p>parse error\n at  line 1</p>"), "HTTP 400 .*'parse error at line 1'.*check the address"),
        (status(404), "HTTP 404 .*'slow down'.*check the address"),
        (status(403), "HTTP 403"),
        (status(500, b"out of memory"), r"HTTP 500 .*out of memory.*try again later \(tried 5 times\)"),
        (status(503), "HTTP 503"),
        (status(500, b"java.util.concurrent.TimeoutException"), "took too long .*--class"),
        (status(200, b'{"head": {}, ... TimeoutException', Content_Type="application/json"), "took too long"),
        (status(429, Retry_After="3600"), "asks to wait 3600 s"),
    ],
)
def test_each_fault_is_one_error_that_says_where_and_what_to_do(fault: Fault, message: str, endpoint: str) -> None:
    with between(endpoint, *[fault] * 5) as server, pytest.raises(SourceError, match=message) as caught:
        SparqlSource(server.url, sleep=lambda seconds: None).read(P36)
    assert str(caught.value).startswith(f"{server.url}, relation P36: ")
    assert "\n" not in str(caught.value)
    assert "p:P36" in (caught.value.query or "")


@pytest.mark.parametrize("late", range(6))
def test_a_fault_late_in_a_reading_spoils_all_of_it(late: int, endpoint: str) -> None:
    faults = [*[lambda answer: answer] * late, cut_at_its_last_byte]
    with between(endpoint, *faults, *[cut_at_its_last_byte] * 4) as server:
        source = SparqlSource(server.url, sleep=lambda seconds: None)
        if late < 3:  # a reading of this world asks for subjects, statements and labels
            with pytest.raises(SourceError, match="cut off"):
                source.read(P36)
        else:
            assert source.read(P36) == replace(open_source(endpoint).read(P36), source=server.url)


def test_a_busy_server_is_asked_again_after_the_pause_that_it_wants(endpoint: str) -> None:
    pauses: list[float] = []
    soon = email.utils.format_datetime(datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=60))
    faults = [
        status(429, Retry_After="7"),
        status(503, Retry_After=soon),
        status(500),
        status(502, Retry_After="nonsense"),
    ]
    with between(endpoint, *faults) as server:
        facts = SparqlSource(server.url, sleep=pauses.append).read(P36).facts
    assert facts == open_source(endpoint).read(P36).facts
    assert pauses[0] == 7
    assert 50 < pauses[1] <= 60
    assert pauses[2:] == [4, 8]


def test_a_capped_endpoint_is_asked_for_the_rest(endpoint: str) -> None:
    cap = keep_rows(5, total=True)
    with between(endpoint, *[cap] * 3) as server:  # 11 subjects in pages of 5, 5 and 1
        assert SparqlSource(server.url).read(P36).facts == open_source(endpoint).read(P36).facts


def test_an_endpoint_that_is_down_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/sparql"
    with pytest.raises(SourceError, match=r"relation P36: cannot be reached .*check the address, your net") as caught:
        open_source(url).read(P36)
    assert caught.value.query


def test_an_endpoint_that_never_answers_is_told_after_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/sparql"
        with pytest.raises(SourceError, match="no answer within 1 s; ask for less"):
            SparqlSource(url, timeout=1).read(P36)


def test_wikidata_is_a_name_for_its_query_service() -> None:
    source = open_source("wikidata")
    assert source.name == "wikidata"
    assert isinstance(source, SparqlSource)
    assert source._endpoint == WIKIDATA
