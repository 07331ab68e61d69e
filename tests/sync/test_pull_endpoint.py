"""A pull over HTTP: it goes on after an interruption, and records what it was asked."""

import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest

from kbsync.errors import LedgerError, SettingsError, SourceError
from kbsync.ledger import Ledger
from kbsync.sources import Ask, open_source, queries
from kbsync.sources.base import Access
from kbsync.sources.sparql import SparqlSource
from kbsync.sync.pull import Pulled, pull
from kbsync.sync.reading import dry_run, make_asks
from kbsync.sync.relations import relations_for
from tests.oxigraph_server import serve, world
from tests.sources.fault_proxy import between, status, true

CAPITALS = """
wd:Q142 rdfs:label "France"@en ; p:P36 [ ps:P36 wd:Q90 ] ; wdt:P31 wd:Q6256 .
wd:Q232 rdfs:label "Kazakhstan"@en ; p:P36 [ ps:P36 kb:almaty ; pq:P582 "1997-12-10T00:00:00Z"^^xsd:dateTime ],
    [ ps:P36 kb:astana ; pq:P580 "1997-12-10T00:00:00Z"^^xsd:dateTime ] .
wd:Q90 rdfs:label "Paris"@en . kb:almaty rdfs:label "Almaty"@en . kb:astana rdfs:label "Astana"@en .
"""


@pytest.fixture(scope="module")
def capitals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve(world(tmp_path_factory.mktemp("capitals") / "capitals.ttl", CAPITALS)) as url:
        yield url


def run(home: Path, source: str, relation: str = "P36", **options: object) -> Pulled:
    asks = make_asks([relation], source, **options)  # type: ignore[arg-type]
    (pulled,) = pull(home, asks, source, lambda *_: None)
    return pulled


def kept(home: Path) -> int:
    with Ledger.open(home) as ledger:
        return int(ledger.db.execute("SELECT count(*) FROM pages").fetchone()[0])


@pytest.mark.parametrize("good", [1, 2, 3])
def test_an_interrupted_pull_goes_on_where_it_was(good: int, capitals: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with between(capitals, *[true] * good, status(400)) as server:
        with pytest.raises(SourceError, match="HTTP 400"):
            run(home, server.url)
        assert kept(home) == good
        with pytest.raises(LedgerError, match=r"no pull has finished in .*: run `kbsync pull` first"):
            Ledger.open(home, create=False)
        assert all(row["facts"] == 0 for row in relations_for(home)["relations"])
        pulled = run(home, server.url)
        assert pulled.new == 2
        assert len(server.requests) == 4 + 1  # four queries in all, and the one that failed
        assert kept(home) == 0
        assert run(home, server.url).unchanged == 2
        assert len(server.requests) == 5 + 4  # a pull that was recorded is asked anew


def test_a_pull_that_fails_at_its_first_request_makes_no_home(capitals: str, tmp_path: Path) -> None:
    with between(capitals, status(400)) as server, pytest.raises(SourceError):
        run(tmp_path / "home", server.url)
    assert not (tmp_path / "home").exists()


def test_nothing_found_is_not_kept(capitals: str, tmp_path: Path) -> None:
    for _ in range(2):
        with between(capitals) as server, pytest.raises(SourceError, match="no current statement of P6"):
            run(tmp_path / "home", server.url, "P6")
        assert len(server.requests) == 2  # the subjects, and whether the source states it in another form
        assert kept(tmp_path / "home") == 0


def test_a_day_in_the_past_is_recorded_with_the_pull(capitals: str, tmp_path: Path) -> None:
    home, day = tmp_path / "home", datetime.date(1990, 1, 1)
    pulled = run(home, capitals, as_of=day)
    assert pulled.as_of == day
    run(home, capitals)
    with Ledger.open(home, create=False) as ledger:
        assert [row.as_of for row in ledger.pulls()] == ["1990-01-01", None]
        assert {row.object_label for row in ledger.facts()} == {"Paris", "Astana"}
        (kazakhstan,) = [row for row in ledger.facts() if row.subject_label == "Kazakhstan"]
        assert [row.object_label for row in ledger.history(kazakhstan.id)] == ["Almaty"]


def test_wikidatas_largest_relations_are_asked_for_in_part_unless_the_user_says_otherwise() -> None:
    for source in ("wikidata", "https://query.wikidata.org/sparql"):
        whole, part = make_asks(["P36", "P17"], source)
        assert (whole.partial, part.class_id, part.min_sitelinks, part.by_default) == (False, "Q515", 40, True)
    for own in ({"class_id": "Q6256"}, {"limit": 10}, {"min_sitelinks": 50}):
        (ask,) = make_asks(["P17"], "wikidata", **own)
        assert (ask.class_id, ask.min_sitelinks) == (own.get("class_id"), own.get("min_sitelinks"))
        assert not ask.by_default
    (ask,) = make_asks(["P17"], "https://example.org/sparql")
    assert not ask.partial


@pytest.mark.parametrize(
    "ask",
    [
        Ask("P36", class_id="Q6256"),
        Ask("P36", limit=1),
        Ask("P36", subjects=("Q142", "Kazakhstan"), aliases=True),
        Ask("P36", min_sitelinks=0),
    ],
)
def test_a_dry_run_gives_queries_that_run_and_need_no_extension(ask: Ask, capitals: str) -> None:
    found = dry_run([ask], capitals)
    assert [query["step"] for query in found] == ["subjects", "statements", "labels", "aliases"][: 3 + ask.aliases]
    endpoint = SparqlSource(capitals)
    for query in found:
        endpoint.select(query["text"])
        assert query["text"].startswith("# P36 at http")
        assert "SERVICE" not in query["text"]


def test_a_dry_run_is_what_a_pull_sends(capitals: str) -> None:
    sent: list[str] = []

    class Noting:
        def find(self, query: str) -> bytes | None:
            sent.append(query)
            return None

        def keep(self, query: str, body: bytes) -> None:
            pass

    ask = Ask("P36", subjects=("Q142", "Q232"))
    assert open_source(capitals, Access(pages=Noting())).read(ask).facts
    dry = [query["text"].partition("\n")[2] for query in dry_run([ask], capitals)]
    assert dry[:2] == sent[:2]
    wd = "PREFIX wd: <http://www.wikidata.org/entity/>\n"
    assert sent[2].removeprefix(wd).startswith(queries.labels(ask, ["x:y"]).counted().partition("<x:y>")[0])


def test_a_dry_run_of_a_file_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"facts\.yaml is a file, which gets no request"):
        dry_run([Ask("P36")], "facts.yaml")
