"""Queries of the user's own: what is refused before anything runs, and that no secret is told."""

import sqlite3
from pathlib import Path

import pytest

from kbsync.errors import KbsyncError, SettingsError, SourceError
from kbsync.sources import Ask, open_source

ENDPOINT = "http://127.0.0.1:9/sparql"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT ?subject WHERE { ?subject ?p ?object }", r"gives no \?object"),
        ("SELECT ?s ?o WHERE { ?s ?p ?o }", r"gives no \?subject and no \?object"),
        ("ASK { ?subject ?p ?object }", r"gives no \?subject and no \?object"),
        ("DELETE WHERE { ?subject ?p ?object }", r"1:\d+: not a SPARQL query"),
        ("SELECT ?subject ?object\nWHERE { ?subject nope:p ?object }", r"2:\d+: not a SPARQL query"),
        ("# page: 10\nSELECT ?subject ?object { ?subject ?p ?object }", "is paged without an order"),
    ],
)
def test_a_bad_query_is_told_with_its_place_before_it_runs(query: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "own.rq"
    file.write_text(query, encoding="utf-8")
    with pytest.raises(SourceError, match=rf"own\.rq:\s?{message}"):
        open_source(ENDPOINT, query=str(file))
    with pytest.raises(SourceError, match=rf"--query:\s?{message}"):
        open_source(ENDPOINT, query=query)


@pytest.mark.parametrize(
    ("source", "query", "message"),
    [
        (ENDPOINT, "capitals", "--query 'capitals' is no query"),
        (
            "facts.csv",
            "SELECT ?subject ?object { ?subject ?p ?object }",
            "it asks an endpoint, an RDF file or",
        ),
        ("sqlite:facts.db", "SELECT 1", "write sqlite:///FILE.db"),
        ("sqlite:///facts.db", "DELETE FROM lands", "is not one SELECT"),
        ("sqlite:///facts.db", "SELECT 1; DROP TABLE lands", "is not one SELECT"),
        ("postgresql://me:hidden@host/base", "SELECT 1", "leave the password out"),
        ("postgresql://host/base?password=hidden", "SELECT 1", "leave the password out"),
        ("postgresql://host:hidden:1/base", "SELECT 1", "cannot be read"),
        ("https://me:hidden@host/sparql", None, "leave name, password and keys out"),
        ("https://me:hidden@ho st/sparql", None, "is not an http"),
        ("ftp://me:hidden@host/sparql", None, "is not an http"),
        ("https://me@host:hidden/sparql", None, "is not an address"),
        ("https://host/sparql?api_key=hidden", None, "leave name, password and keys out"),
        ("https://host/sparql?x=1&access_token=hidden", None, "leave name, password and keys out"),
        ("https://host/sparql?sig=hidden", None, "leave name, password and keys out"),
    ],
)
def test_what_goes_with_no_query_and_what_is_secret_is_refused(
    source: str, query: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("facts.csv").write_text("subject,relation,object\n")
    with pytest.raises(SettingsError, match=message) as caught:
        open_source(source, query=query)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT land AS subject FROM lands", r"facts\.db, row:1: no column 'object'"),
        ("SELECT land AS subject, '' AS object FROM lands", r"row:1: the object is empty.*\n.*row:2: the object"),
        ("SELECT land AS subject, x'00' AS object FROM lands", "gives bytes"),
        ("SELECT land AS subject, nowhere AS object FROM lands", "no such column: nowhere"),
        ("WITH a AS (SELECT 1) DELETE FROM lands", "not authorized"),
        ("SELECT load_extension('x') AS subject, 1 AS object", "not authorized"),
    ],
)
def test_what_a_database_refuses_is_told_and_nothing_changes(query: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "facts.db"
    base = sqlite3.connect(file)
    base.execute("CREATE TABLE lands (land)")
    base.executemany("INSERT INTO lands VALUES (?)", [("A",), ("B",)])
    base.commit()
    with pytest.raises(KbsyncError, match=message):
        open_source(f"sqlite:///{file}", query=query).read(Ask("P36"))
    assert base.execute("SELECT count(*) FROM lands").fetchone() == (2,)
    base.close()
