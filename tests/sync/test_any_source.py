"""The same 500 facts, and what is left out beside them, give the same plan from sources of every shape."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from kbsync.errors import SourceError
from kbsync.sources.loopback import serve
from kbsync.sync.home import silent
from kbsync.sync.plan import plan_for
from kbsync.sync.pull import pull
from kbsync.sync.reading import make_asks
from tests.homes import TEMPLATES
from tests.postgres import postgres

FACTS = [(f"Land {number}", f"City {number % 300}") for number in range(490)] + [
    (f"Land {number}", f"Harbour {number}")
    for number in range(10)  # a second object: a conflict
]
LANDS, CITIES = (list(dict.fromkeys(names)) for names in zip(*FACTS, strict=True))


def named(label: str, start: str) -> str:
    return f"<{start}{label.replace(' ', '_')}>"


def triples(start: str, predicate: str, labels: str, more: Callable[[str, str], str] | None = None) -> str:
    """The facts in Turtle: entities with `start`, stated by `predicate` or by what `more` gives for two entities."""
    lines = [f'{named(one, start)} <{labels}> "{one}"@en .' for one in (*LANDS, *CITIES)]
    lines.append(f"{named('Nowhere', start)} <{predicate}> {named('City 1', start)} .")  # has no label
    for land, city in FACTS:
        pair = named(land, start), named(city, start)
        lines.append(more(*pair) if more else f"{pair[0]} <{predicate}> {pair[1]} .")
    return "\n".join(lines) + "\n"


RDFS, SKOS = "http://www.w3.org/2000/01/rdf-schema#label", "http://www.w3.org/2004/02/skos/core#prefLabel"


def wikibase(base: str, *, declared: bool = False) -> str:
    """The facts as a Wikibase states them: half directly, half by statements, one of which is deprecated."""
    ids = {one: f"<{base}entity/Q{number}>" for number, one in enumerate((*LANDS, *CITIES), start=1)}
    lines = [f'{iri} <{RDFS}> "{one}"@en .' for one, iri in ids.items()]
    if declared:
        lines.append(f"<{base}entity/P36> <http://wikiba.se/ontology#directClaim> <{base}prop/direct/P36> .")
    for number, (land, city) in enumerate(FACTS):
        if number % 2 or number < 20 or number >= 490:
            node = f"<{base}entity/statement/{number}>"
            lines.append(f"{ids[land]} <{base}prop/P36> {node} . {node} <{base}prop/statement/P36> {ids[city]} .")
        else:
            lines.append(f"{ids[land]} <{base}prop/direct/P36> {ids[city]} .")
    node = f"<{base}entity/statement/bad> <http://wikiba.se/ontology#rank> <http://wikiba.se/ontology#DeprecatedRank>"
    lines.append(f"{node} ; <{base}prop/statement/P36> {ids['City 9']} .")
    lines.append(f"{ids['Land 400']} <{base}prop/P36> {node.split(' ', 1)[0]}, <{base}entity/statement/good> .")
    lines.append(f"<{base}entity/statement/good> <{base}prop/statement/P36> {ids['City 100']} .")
    return "\n".join(lines) + "\n"


def role(land: str, city: str) -> str:
    """A statement on a node of its own, beside one that has ended and one that begins later."""
    former, later = named("City 7", "http://a/"), named("City 8", "http://a/")
    return f"""{land} <https://schema.org/containsPlace>
    [ <https://schema.org/containsPlace> {city} ; <https://schema.org/startDate> "1990" ],
    [ <https://schema.org/containsPlace> {former} ; <https://schema.org/endDate> "1990" ],
    [ <https://schema.org/containsPlace> {later} ; <https://schema.org/startDate> "9990-01-01" ] ."""


def inverse(land: str, city: str) -> str:
    return f"{city} <http://kb.example/capitalOf> {land} ."


SHAPES: dict[str, tuple[str, dict[str, Any] | None]] = {
    "wikidata": (wikibase("http://www.wikidata.org/"), None),
    "wikidata over https": (wikibase("https://www.wikidata.org/"), None),
    "wikibase found": (wikibase("http://kb.example/", declared=True), None),
    "wikibase named": (wikibase("http://kb.example/"), {"wikibase": "http://kb.example/"}),
    "dbpedia": (
        triples("http://dbpedia.org/resource/", "http://dbpedia.org/ontology/capital", RDFS),
        {"predicate": "dbo:capital"},
    ),
    "skos": (
        triples("http://a/", "http://www.w3.org/2004/02/skos/core#related", SKOS),
        {"predicate": "skos:related", "labels": ["rdfs:label", "skos:prefLabel"]},
    ),
    "inverse": (
        triples("http://a/", "http://a/none", RDFS, inverse),
        {"predicate": "^<http://kb.example/capitalOf>"},
    ),
    "schema.org": (
        triples("http://a/", "http://a/none", "https://schema.org/name", role),
        {
            "predicate": "schema:containsPlace",
            "statement": "schema:containsPlace",
            "start": "schema:startDate",
            "end": "schema:endDate",
        },
    ),
}


@pytest.fixture(params=["file", "lines", "endpoint"])
def source_of(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Gives Turtle as a file that is loaded, as lines that are sifted, or behind a real endpoint."""
    from pyoxigraph import RdfFormat, Store

    with ExitStack() as stack:

        def put(turtle: str) -> str:
            file = tmp_path / "facts.ttl"
            file.write_text(turtle, encoding="utf-8")
            if request.param == "endpoint":
                return stack.enter_context(serve(file))
            if request.param == "lines":
                monkeypatch.setattr("kbsync.sources.rdf_file.LARGE", 0)
                store, file = Store(), tmp_path / "facts.nt"
                store.bulk_load(path=str(tmp_path / "facts.ttl"))
                file.write_bytes(store.dump(format=RdfFormat.N_QUADS) or b"")
            return str(file)

        yield put


def planned(
    home: Path, source: str, told: dict[str, Any] | None = None, query: str | None = None
) -> list[tuple[str, ...]]:
    """Pull the capitals into a new home, whose template says where they are, and return the plan's rows."""
    template = yaml.safe_load(TEMPLATES)
    if told:
        template["P36"]["source"] = told
    (home / "templates").mkdir(parents=True)
    (home / "templates" / "capital.yaml").write_text(yaml.safe_dump(template), encoding="utf-8")
    pull(home, make_asks(["P36"], source, home=home), source, silent, query=query)
    return sorted((row.sign, row.relation, row.subject, str(row.object)) for row in plan_for(home, None).rows)


EXPECTED = sorted(("+", "P36", land, city) for land, city in FACTS[10:490])


def check(rows: list[tuple[str, ...]]) -> None:
    assert [row for row in rows if row[0] == "+"] == EXPECTED
    assert sorted({row[2] for row in rows if row[0] == "!"}) == sorted(land for land, _ in FACTS[:10])


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_gives_the_same_plan(shape: str, source_of: Callable[[str], str], tmp_path: Path) -> None:
    turtle, told = SHAPES[shape]
    check(planned(tmp_path / "home", source_of(turtle), told))


OWN = {
    "with the source's labels": "SELECT ?subject ?object { ?subject dbo:capital ?object }",
    "with labels of its own": """SELECT ?subject ?subjectLabel ?object ?objectLabel ?relation ?since {
        ?subject dbo:capital ?object ; rdfs:label ?subjectLabel . ?object rdfs:label ?objectLabel .
        VALUES ?relation { "P36" "P37" } OPTIONAL { ?subject dbo:since ?since } }""",
    "with names alone": """# page: 7
        PREFIX ont: <http://dbpedia.org/ontology/>
        SELECT ?subject ?object { [ rdfs:label ?subject ; ont:capital [ rdfs:label ?object ] ] }
        ORDER BY ?subject ?object""",
}


@pytest.mark.parametrize("query", OWN)
def test_a_query_of_ones_own_gives_the_same_plan(query: str, source_of: Callable[[str], str], tmp_path: Path) -> None:
    file = tmp_path / "own.rq"
    file.write_text(OWN[query], encoding="utf-8")
    check(planned(tmp_path / "home", source_of(SHAPES["dbpedia"][0]), query=str(file)))


SQL = "SELECT land AS subject, town AS object, 'unused' AS note FROM lands WHERE relation = :relation"


def test_sqlite_gives_the_same_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with sqlite3.connect("facts.db") as base:
        base.execute("CREATE TABLE lands (land TEXT, town TEXT, relation TEXT)")
        base.executemany("INSERT INTO lands VALUES (?, ?, 'P36')", FACTS)
        base.execute("INSERT INTO lands VALUES ('Land 1', 'German', 'P37')")
    base.close()
    check(planned(tmp_path / "home", "sqlite:///facts.db", query=SQL))


def test_postgresql_gives_the_same_plan(tmp_path: Path) -> None:
    with postgres() as url:
        import psycopg

        with psycopg.connect(url) as base:
            base.execute("CREATE TABLE lands (land TEXT, town TEXT, relation TEXT, since DATE)")
            with base.cursor() as cursor:
                cursor.executemany("INSERT INTO lands VALUES (%s, %s, 'P36', '1990-01-01')", FACTS)
            base.execute("INSERT INTO lands VALUES ('Land 1', 'Next', 'P36', '9990-01-01')")
            base.execute("CREATE SEQUENCE numbers")
        check(planned(tmp_path / "home", url, query=SQL.replace("FROM", ", since FROM")))
        with pytest.raises(SourceError, match=r"cannot execute nextval.* in a read-only transaction") as caught:
            planned(tmp_path / "other", url, query="SELECT nextval('numbers') AS subject, 'x' AS object")
        assert "kb@127.0.0.1" in str(caught.value)


def test_a_table_names_its_columns(tmp_path: Path) -> None:
    file = tmp_path / "lands.csv"
    rows = (f'{land};x;"{city}"' for land, city in FACTS)
    file.write_text("\n".join(("Land;Size;Capital City", *rows)) + "\n", encoding="utf-8")
    check(planned(tmp_path / "home", str(file), {"columns": {"subject": "land", "object": "capital city"}}))
