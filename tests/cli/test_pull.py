"""``kbsync pull`` from files: what it prints, what it refuses, and what it leaves alone."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Run
from tests.oxigraph_server import serve, world
from tests.sources.fault_proxy import between, status

FIRST = """\
P36: {France: Paris, Kazakhstan: Astana, Burundi: Bujumbura}
born_in: {Ada Lovelace: London}
"""
SECOND = """\
- {subject: France, relation: P36, object: Paris}
- {subject: Burundi, relation: P36, object: Gitega}
- {subject: Nauru, relation: P36, object: Yaren}
"""
ZSRE = {
    **{"subject": "Ada Lovelace", "src": "Where was Ada Lovelace born?", "rephrase": "What is Ada Lovelace's home?"},
    **{"answers": ["London"], "alt": "Paris", "loc": "nq question: who wrote it", "loc_ans": "Mary Shelley"},
}


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    triples = """wd:Q142 rdfs:label "France"@en ; wdt:P36 wd:Q90 ; wdt:P30 wd:Q46 . wd:Q90 rdfs:label "Paris"@en .
        wd:Q35 rdfs:label "Denmark"@en ; wdt:P30 wd:Q46 . wd:Q46 rdfs:label "Europe"@en .
        <https://www.wikidata.org/wiki/Special:EntityData/Q90> <http://schema.org/about> wd:Q90 ; wikibase:sitelinks 9 .
        wd:Q90 wdt:P30 wd:Q46 ."""
    with serve(world(tmp_path_factory.mktemp("france") / "france.ttl", triples)) as url:
        yield url


def test_counts_and_changes_are_shown(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "facts.yaml"
    source.write_text(FIRST)
    first = run("pull", "--relation", "P36", "--relation", "born_in", "--relation", "P36", "--source", source)
    assert first.code == 0, first.err
    rows = [line.split() for line in first.out.splitlines()]
    assert ["P36", "capital", "3", "0", "0", "0", "0"] in rows
    assert ["born_in", "1", "0", "0", "0", "0"] in rows
    assert "No template yet for born_in" in first.out

    source.write_text(SECOND)
    second = run("pull", "--relation", "P36", "--source", source)
    rows = [line.split() for line in second.out.splitlines()]
    assert ["P36", "capital", "1", "1", "1", "1", "0"] in rows
    assert ["~", "Burundi", "P36", "Bujumbura", "Gitega"] in rows
    assert ["-", "Kazakhstan", "P36", "Astana"] in rows
    assert "No template" not in second.out


def test_json_has_the_same(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "facts.yaml"
    source.write_text(FIRST)
    (pull,) = run("pull", "--relation", "P36", "--source", source, "--json").json["pulls"]
    counts = {name: pull[name] for name in ("new", "changed", "withdrawn", "unchanged", "conflicting")}
    assert counts == {"new": 3, "changed": 0, "withdrawn": 0, "unchanged": 0, "conflicting": 0}
    assert (pull["relation"], pull["label"], pull["source"], pull["skipped"]) == ("P36", "capital", str(source), [])
    assert {(change["sign"], change["subject"], change["object"]) for change in pull["changes"]} == {
        ("+", "France", "Paris"),
        ("+", "Kazakhstan", "Astana"),
        ("+", "Burundi", "Bujumbura"),
    }


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--relation", "P17 } #"], 1, "'P17 } #' is not a relation id"),
        (["--relation", "P999"], 1, "no current statement of P999"),
        (["--relation", "P36", "--relation", "P999"], 1, "no current statement of P999"),
        (["--relation", "P36", "--source", "gone.ttl"], 1, "gone.ttl"),
        (["--relation", "P36", "--source", "facts.csv"], 1, "facts.csv"),
        (["--relation", "P36", "--subjects", "gone.txt"], 1, "gone.txt"),
        (["--relation", "P36", "--lang", "en }"], 1, "language"),
        (["--relation", "P36", "--lang", "en,"], 1, "en,mul,de"),
        (["--relation", "P36", "--dry-run"], 1, "facts.yaml is a file"),
        (["--relation", "P36", "--source", "http://127.0.0.1:9/x", "--contact", "a\nb"], 1, "contact"),
        (["--relation", "P36", "--class", "Q515 } #"], 1, "Q515 } #"),
        (["--relation", "P36", "--as-of", "yesterday"], 2, "--as-of"),
        (["--relation", "P36", "--limit", "0"], 2, "--limit"),
    ],
)
def test_bad_input_is_told_and_changes_nothing(
    arguments: list[str], code: int, message: str, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "facts.yaml").write_text(FIRST)
    given = arguments if "--source" in arguments else [*arguments, "--source", "facts.yaml"]
    ran = run("pull", *given)
    assert (ran.code, ran.out) == (code, "")
    assert message in ran.err
    assert "fault" not in ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["facts.yaml"]


def test_progress_is_on_stderr_and_json_is_silent(run: Run, tmp_path: Path) -> None:
    (tmp_path / "facts.yaml").write_text(FIRST)
    told = run("pull", "--relation", "P36", "--source", "facts.yaml")
    assert told.err.splitlines() == ["reading", "recording"]
    assert run("pull", "--relation", "P36", "--source", "facts.yaml", "--json").err == ""


def test_a_dry_run_prints_the_queries_and_touches_nothing(run: Run, tmp_path: Path) -> None:
    ran = run("pull", "--relation", "P17", "--class", "Q515", "--dry-run")
    assert ran.code == 0, ran.err
    assert ran.err == ""
    assert ran.out.count("# P17 at https://query.wikidata.org/sparql, step ") == 3
    assert "wdt:P31 wd:Q515" in ran.out
    assert "SERVICE" not in ran.out
    (first, *_) = run("pull", "--relation", "P17", "--class", "Q515", "--dry-run", "--json").json["queries"]
    assert (first["relation"], first["step"]) == ("P17", "subjects")
    assert ran.out.startswith(first["text"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("facts.yaml", SECOND + "- {subject: Ada, relation: works_with, object: Charles}\n"),
        ("facts.csv", "subject,relation,object\nFrance,P36,Paris\nAda,works_with,Charles\nBob,works_with,Ada\n"),
    ],
)
def test_a_file_without_the_relation_is_told_with_those_it_has(run: Run, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    ran = run("pull", "--relation", "P17", "--source", name)
    assert ran.code == 1
    assert (
        "no current statement of P17 that can be used (facts of other relations only: 2 (P36, works_with))" in ran.err
    )
    (tmp_path / "zsre.json").write_text(json.dumps([ZSRE]))
    ran = run("pull", "--relation", "P17", "--source", "zsre.json")
    assert "facts of other relations only: 1 (zsRE)" in ran.err
    assert run("pull", "--relation", "zsRE", "--source", "zsre.json").code == 0


@pytest.mark.parametrize("source", ["wikidata", "https://query.wikidata.org/sparql"])
def test_a_relation_that_is_too_large_is_refused_with_a_proposal(run: Run, source: str) -> None:
    ran = run("pull", "--relation", "P27", "--source", source)
    assert (ran.code, ran.out) == (1, "")
    assert "kbsync pull --relation P27 --class Q5 --min-sitelinks 80" in ran.err
    assert ran.err.count("\n") == 1


def test_sitelinks_are_taken_of_the_page_or_told_to_be_missing(run: Run, endpoint: str) -> None:
    pull = ("pull", "--source", endpoint, "--min-sitelinks")
    ran = run(*pull, 9, "--relation", "P30", "--json")
    assert [change["subject"] for change in ran.json["pulls"][0]["changes"]] == ["Paris"]
    ran = run(*pull, 9, "--relation", "P36")
    assert (ran.code, ran.out) == (1, "")
    assert "relation P36: has no number of sitelinks (wikibase:sitelinks), so --min-sitelinks cannot choose" in ran.err
    ran = run(*pull, 10, "--relation", "P30")  # a part with nothing in it, now that the relation is on record
    assert ran.code == 0, ran.err


def test_wikidatas_own_service_is_asked_for_sitelinks_of_the_entity_alone(run: Run) -> None:
    dry = ("pull", "--relation", "P36", "--min-sitelinks", 9, "--dry-run", "--source")
    for source, pages in (("wikidata", 0), ("https://query.wikidata.org/sparql", 0), ("https://example.org/sparql", 1)):
        assert run(*dry, source).out.count("schema:about") == pages


def test_the_contact_comes_from_the_option_or_the_environment(
    run: Run, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KBSYNC_CONTACT", "me@example.org")
    with between(endpoint) as server:
        pull = ("pull", "--relation", "P36", "--source", server.url)
        assert run(*pull).code == 0
        assert run(*pull, "--contact", "https://example.org/us").code == 0
    agents = list(dict.fromkeys(headers["User-Agent"] for _, headers, _ in server.requests))
    assert ["; contact: me@example.org)" in agents[0], "; contact: https://example.org/us)" in agents[1]] == [True] * 2
    assert len(agents) == 2


def test_a_wait_is_told_on_stderr(run: Run, endpoint: str) -> None:
    with between(endpoint, status(429, Retry_After="0")) as server:
        ran = run("pull", "--relation", "P36", "--source", server.url)
    assert ran.code == 0
    assert ran.err.splitlines() == ["reading", f"waiting for {server.url}: over", "recording"]
