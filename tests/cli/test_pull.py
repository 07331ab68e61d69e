"""``kbsync pull`` from files: what it prints, what it refuses, and what it leaves alone."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from kbsync.ledger import Ledger
from tests.conftest import Run
from tests.oxigraph_server import serve, world
from tests.sources.fault_proxy import between, change_rows, status

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
    assert ["P36", "capital", "3", "0", "0", "0", "0", "0"] in rows
    assert ["born_in", "1", "0", "0", "0", "0", "0"] in rows
    assert "No template yet for born_in" in first.out

    source.write_text(SECOND)
    second = run("pull", "--relation", "P36", "--source", source)
    rows = [line.split() for line in second.out.splitlines()]
    assert ["P36", "capital", "1", "1", "0", "1", "1", "0"] in rows
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
        "no current statement of P17 that kbsync can use (facts of other relations only: 2 (P36, works_with))"
        in ran.err
    )
    (tmp_path / "zsre.json").write_text(json.dumps([ZSRE]))
    ran = run("pull", "--relation", "P17", "--source", "zsre.json")
    assert "facts of other relations only: 1 (zsRE)" in ran.err
    assert run("pull", "--relation", "zsRE", "--source", "zsre.json").code == 0


def cities(path: Path, *, class_of_kiel: str = "Q515", oslo: str = "Q20", lyon: bool = True) -> Path:
    """Write a world of four cities, and a bridge in France, with numbers of sitelinks."""
    where = {"Q1": "Q142", "Q2": oslo, "Q3": "Q183", "Q4": "Q142", "Q5": "Q142"}
    names = {"Q1": "Paris", "Q2": "Oslo", "Q3": "Kiel", "Q4": "Lyon", "Q5": "A bridge"}
    names |= {"Q142": "France", "Q20": "Norway", "Q183": "Germany", "Q34": "Sweden"}
    kinds = {"Q1": "Q515", "Q2": "Q515", "Q3": class_of_kiel, "Q4": "Q515", "Q5": "Q12280"}
    lines = [f'wd:{key} rdfs:label "{name}"@en .' for key, name in names.items()]
    for key, country in where.items():
        if lyon or key != "Q4":
            lines.append(f"wd:{key} wdt:P31 wd:{kinds[key]} ; wikibase:sitelinks 40 ; p:P17 [ ps:P17 wd:{country} ] .")
    return world(path, "\n".join(lines))


def test_a_relation_that_is_too_large_is_pulled_in_the_part_that_its_template_names(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(cities(tmp_path / "cities.ttl")) as url:
        monkeypatch.setattr("kbsync.sources.WIKIDATA", url)
        ran = run("pull", "--relation", "P17")
        assert ran.code == 0, ran.err
        assert ["P17", "country", "4", "0", "0", "0", "0", "0"] in [line.split() for line in ran.out.splitlines()]
        said = "P17: only instances of Q515 with 40 sitelinks or more, by its template (--class, --min-sitelinks, "
        assert said + "--subjects or --limit for another part, --all for everything)" in ran.out
        monkeypatch.setattr("kbsync.sources.paging.PAGE", 3)
        (everything,) = run("pull", "--relation", "P17", "--all", "--json").json["pulls"]
        assert (everything["unchanged"], everything["withdrawn"]) == (4, 0)
        assert ([change["subject"] for change in everything["changes"]], everything["scope"]) == (["A bridge"], None)
        refused = run("pull", "--relation", "P17", "--all", "--class", "Q515")
        assert (refused.code, "--all reads everything: leave out --class" in refused.err) == (1, True)


def test_what_left_the_scope_is_withdrawn_and_told_from_what_is_gone(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(cities(tmp_path / "before.ttl")) as url:
        monkeypatch.setattr("kbsync.sources.WIKIDATA", url)
        assert run("pull", "--relation", "P17", "--class", "Q12280").code == 0  # the bridge, of another scope
        assert run("pull", "--relation", "P17").code == 0
    with serve(cities(tmp_path / "after.ttl", class_of_kiel="Q1549591", oslo="Q34", lyon=False)) as url:
        monkeypatch.setattr("kbsync.sources.WIKIDATA", url)
        (pulled,) = run("pull", "--relation", "P17", "--json").json["pulls"]
    assert (pulled["unchanged"], pulled["changed"], pulled["withdrawn"]) == (1, 1, 2)
    why = {change["subject"]: change["why"] for change in pulled["changes"] if change["sign"] == "-"}
    assert why == {"Kiel": "outside the scope now", "Lyon": "gone from the source"}
    with Ledger.open(tmp_path / ".kbsync") as ledger:
        assert {row.subject_label for row in ledger.facts(withdrawn=False)} == {"Paris", "Oslo", "A bridge"}


def test_a_source_that_suddenly_says_less_is_kept_apart(run: Run, tmp_path: Path) -> None:
    with serve(cities(tmp_path / "cities.ttl")) as endpoint, between(endpoint) as server:
        pull = ("pull", "--relation", "P17", "--source", server.url)
        empty = change_rows(lambda rows: [])
        assert run(*pull).code == 0
        server.faults.append(empty)
        ran = run(*pull)
        assert (ran.code, ran.out) == (3, "")
        assert f"{server.url} has far fewer facts than before; this pull would withdraw P17 5 of 5." in ran.err
        assert "--accept-withdrawals" in ran.err
        with Ledger.open(tmp_path / ".kbsync") as ledger:
            assert (len(ledger.facts(withdrawn=False)), len(ledger.pulls())) == (5, 1)
        assert run(*pull, "--json").json["pulls"][0]["unchanged"] == 5  # nothing of the empty answer was kept
        server.faults.append(empty)
        assert run(*pull, "--accept-withdrawals", "--json").json["pulls"][0]["withdrawn"] == 5


@pytest.mark.parametrize(
    ("facts", "kept", "options", "code"),
    [
        (5, 1, (), 0),  # four are few
        (25, 20, (), 0),  # a fifth
        (24, 19, (), 3),
        (24, 19, ("--max-withdrawn", 21), 0),
        (24, 14, ("--max-withdrawn", 21), 3),
        (2, 0, ("--max-withdrawn", 100), 3),  # all of them
        (2, 0, ("--accept-withdrawals",), 0),
    ],
)
def test_the_bound_of_what_a_pull_may_withdraw(
    facts: int, kept: int, options: tuple[object, ...], code: int, run: Run, tmp_path: Path
) -> None:
    def pull(count: int, *more: object) -> int:
        rows = [f"Land {number},P36,Town {number}" for number in range(count)]
        (tmp_path / "facts.csv").write_text("\n".join(["subject,relation,object", *rows, "Ada,born_in,London"]))
        return run("pull", "--relation", "P36", "--source", "facts.csv", *more).code

    assert pull(facts) == 0
    assert pull(kept, *options) == code
    with Ledger.open(tmp_path / ".kbsync") as ledger:
        assert len(ledger.facts(["P36"], withdrawn=False)) == (facts if code else kept)


def test_a_new_label_of_the_same_object_is_told_and_the_old_one_kept(run: Run, tmp_path: Path) -> None:
    triples = 'wd:Q212 rdfs:label "Ukraine"@en ; wdt:P36 wd:Q1899 . wd:Q1899 rdfs:label "{}"@en .'
    source = world(tmp_path / "world.ttl", triples.format("Kiev"))
    pull = ("pull", "--relation", "P36", "--source", source)
    assert run(*pull).code == 0
    world(source, triples.format("Kyiv"))
    shown = [line.split() for line in run(*pull).out.splitlines()]
    assert ["P36", "capital", "0", "0", "1", "0", "0", "0"] in shown
    assert ["=", "Ukraine", "P36", "Kiev", "Kyiv", "relabelled"] in shown
    world(source, triples.format("Kyiv").replace('"Ukraine"', '"The Ukraine"'))
    (pulled,) = run(*pull, "--json").json["pulls"]
    assert (pulled["relabelled"], pulled["changes"][0]["why"]) == (1, "relabelled: the subject was Ukraine")
    events = run("log", "--subject", "Q212", "--json").json["events"]
    assert [(event["event"], event["previous"], event["object"], event["detail"]) for event in events] == [
        ("new", None, "Kiev", ""),
        ("relabelled", "Kiev", "Kyiv", ""),
        ("relabelled", "Kyiv", "Kyiv", "the subject was Ukraine"),
    ]


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


@pytest.mark.parametrize(
    ("source", "query"),
    [
        ("https://me:hidden@kb.example/sparql", ()),
        ("https://kb.example/sparql?apikey=hidden", ()),
        ("postgresql://me:hidden@kb.example/facts", ("--query", "SELECT 1 AS subject, 2 AS object")),
    ],
)
def test_an_address_with_a_secret_leaves_it_nowhere(
    source: str, query: tuple[str, ...], run: Run, tmp_path: Path
) -> None:
    (tmp_path / "facts.yaml").write_text(FIRST)
    assert run("pull", "--relation", "P36", "--source", "facts.yaml").code == 0
    for more in ((), ("--debug",), ("--verbose",), ("--json",)):
        ran = run("pull", "--relation", "P36", "--source", source, *query, *more)
        assert ran.code == 1
        assert "hidden" not in ran.out + ran.err
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"hidden" in path.read_bytes()]
