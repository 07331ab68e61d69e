"""Which statements are current, and what is left out with a note."""

import datetime
import gzip
from pathlib import Path

import pytest
from pyoxigraph import DefaultGraph, RdfFormat, Store

from kbsync.facts import Fact
from kbsync.sources import Ask, open_source, results
from kbsync.sources.results import Row, Term, parse_results
from tests.oxigraph_server import serve, world

DAY = datetime.date(2025, 6, 1)
RANKS = {"+": "Preferred", "=": "Normal", "-": "Deprecated"}


def read(folder: Path, *statements: str, day: datetime.date = DAY) -> tuple[Fact, ...]:
    """Read what a subject's P6 is on `day`; each statement is ``RANK OBJECT [START] [END]`` ("." for none)."""
    triples = 'kb:x rdfs:label "X"@en .\n' + "".join(f'kb:{name} rdfs:label "{name}"@en .\n' for name in "ABC")
    for statement in statements:
        rank, value, *dates = statement.split()
        triples += f"kb:x p:P6 [ ps:P6 kb:{value} ; wikibase:rank wikibase:{RANKS[rank]}Rank"
        for qualifier, date in zip(("P580", "P582"), dates, strict=False):
            if date == "unknown":
                triples += f" ; pq:{qualifier} []"
            elif date != ".":
                triples += f' ; pq:{qualifier} "{date}T00:00:00Z"^^xsd:dateTime'
        triples += " ] .\n"
    return tuple(open_source(str(world(folder / "x.ttl", triples))).read(Ask("P6", as_of=day)).facts)


@pytest.mark.parametrize(
    ("statements", "objects"),
    [
        (["= A"], "A"),
        (["= A", "= B"], "AB"),
        (["= A", "+ B"], "B"),
        (["+ A", "+ B", "= C"], "AB"),
        (["- A"], ""),
        (["= A", "- B"], "A"),
        (["= A . 2024-07-05", "= B 2024-07-05"], "B"),
        (["+ A . 2024-07-05", "= B"], "B"),  # an ended statement that was left on preferred rank
        (["+ A . 2024-07-05"], ""),
        (["= A . 2025-06-01"], ""),  # ended on the very day
        (["= A . 2025-06-02"], "A"),
        (["= A 2025-06-01"], "A"),  # begins on the very day
        (["= A 2025-06-02"], ""),
        (["= A", "+ B 2025-06-02"], "A"),
        (["= A . unknown"], ""),  # an end at an unknown time is an end
        (["= A unknown ."], "A"),
        (["= A -0044-03-15 ."], "A"),
        (["= A . -0044-03-15"], ""),
        (["= A . 10000-01-01"], "A"),
    ],
)
def test_current_statements(statements: list[str], objects: str, tmp_path: Path) -> None:
    assert "".join(fact.object.label for fact in read(tmp_path, *statements)) == objects


def test_current_is_judged_on_the_day_asked_for(tmp_path: Path) -> None:
    statements = ["= A 2019-07-24 2022-09-06", "= B 2022-09-06"]
    assert [fact.object.label for fact in read(tmp_path, *statements, day=datetime.date(2020, 1, 1))] == ["A"]
    assert [fact.object.label for fact in read(tmp_path, *statements)] == ["B"]
    assert [fact.object.label for fact in read(tmp_path, *statements, day=datetime.date(2019, 1, 1))] == []


def test_without_a_day_it_is_today() -> None:
    assert Ask("P6").day == datetime.date.today()


def test_start_and_rank_are_kept(tmp_path: Path) -> None:
    (fact,) = read(tmp_path, "+ A 2019-07-24")
    assert (fact.since, fact.rank) == ("2019-07-24", "preferred")
    (fact,) = read(tmp_path, "= A")
    assert (fact.since, fact.rank) == (None, "normal")
    (fact,) = read(tmp_path, "= A -0044-03-15")
    assert fact.since == "-0044-03-15"


@pytest.mark.parametrize(("written", "since"), [("2019", "2019-01-01"), ("2019-07", "2019-07-01"), ("soon", None)])
def test_dates_of_less_precision(written: str, since: str | None, tmp_path: Path) -> None:
    triples = f"""kb:x rdfs:label "X"@en . kb:a rdfs:label "A"@en .
        kb:x p:P6 [ ps:P6 kb:a ; pq:P580 "{written}" ] ."""
    (fact,) = open_source(str(world(tmp_path / "x.ttl", triples))).read(Ask("P6", as_of=DAY)).facts
    assert fact.since == since


def test_several_starts_and_ends_of_one_statement(tmp_path: Path) -> None:
    start, end = '"{}-01-01T00:00:00Z"^^xsd:dateTime'.format, '"{}-12-31T00:00:00Z"^^xsd:dateTime'.format
    triples = f"""kb:x rdfs:label "X"@en . kb:a rdfs:label "A"@en . kb:b rdfs:label "B"@en .
        kb:x p:P6 [ ps:P6 kb:a ; pq:P580 {start(2001)}, {start(2011)} ; pq:P582 {end(2005)}, {end(2030)} ],
                  [ ps:P6 kb:b ; pq:P582 {end(2005)}, {end(2010)} ] ."""
    (fact,) = open_source(str(world(tmp_path / "x.ttl", triples))).read(Ask("P6", as_of=DAY)).facts
    assert (fact.object.label, fact.since) == ("A", "2011-01-01")


def test_the_world_is_read_with_ids_in_order_and_each_fact_once(world_file: Path) -> None:
    facts = open_source(str(world_file)).read(Ask("P36")).facts
    kb = "http://kbsync.example/entity/"
    assert [(fact.subject.label, fact.subject.id, fact.object.label, fact.object.id) for fact in facts] == [
        ('AC"DC\\ } #', f"{kb}plain", "La Paz", f"{kb}lapaz"),
        ("Bolivia", "Q750", "La Paz", f"{kb}lapaz"),
        ("Bolivia", "Q750", "Sucre", f"{kb}sucre"),
        ("France", "Q142", "Paris", "Q90"),
        ("Literal", f"{kb}literal", "Paris", None),
        ("Twice", f"{kb}twice", "La Paz", f"{kb}lapaz"),
    ]
    assert [*facts][-1].since == "2011-01-01"


def test_what_is_left_out_is_counted_by_kind_with_examples(world_file: Path) -> None:
    kb = "http://kbsync.example/entity/"
    notes = open_source(str(world_file)).read(Ask("P36")).skipped
    assert [note for note in notes if "blank node" not in note] == [
        f"statement beside one of preferred rank: 1 ({kb}novalue -> Q90)",
        f'"no value" stated: 1 ({kb}novalue)',
        f"unknown value: 2 ({kb}skolem, {kb}unknown)",
        f"object without a label (en, mul): 1 ({kb}nameless)",
        f"subject without a label (en, mul): 1 ({kb}unlabelled)",
    ]
    assert sum(note.startswith("subject that is a blank node: 1 (_:") for note in notes) == 1


def test_the_best_language_of_a_label_wins(tmp_path: Path) -> None:
    triples = """kb:x wdt:P6 kb:a, kb:b, kb:c, kb:d ; rdfs:label "X" .
        kb:a rdfs:label "a-en"@en, "a-mul"@mul, "a-de"@de, "a-fr"@fr . kb:b rdfs:label "b-en"@en, "b-mul"@mul .
        kb:c rdfs:label "c-en"@en, "c" . kb:d rdfs:label "  two\\n words "@de ."""
    facts = open_source(str(world(tmp_path / "x.ttl", triples))).read(Ask("P6", language="de")).facts
    assert [fact.object.label for fact in facts] == ["a-de", "b-mul", "c-en", "two words"]


def test_text_is_an_object_and_dates_quantities_and_coordinates_are_not(tmp_path: Path) -> None:
    triples = """kb:x rdfs:label "X"@en ; wdt:P6 "plain", "text"@en, "Text"@de .
        kb:y rdfs:label "Y"@en ; wdt:P6 "Ypsilon"@de, "ipsilon"@it .
        kb:z rdfs:label "Z"@en ; wdt:P6 "zeta"@it, "1889-01-01T00:00:00Z"^^xsd:dateTime, "8848"^^xsd:decimal,
            "Point(1 2)"^^<http://www.opengis.net/ont/geosparql#wktLiteral>, "x"^^kb:type, "  " ."""
    file = world(tmp_path / "x.ttl", triples)
    reading = open_source(str(file)).read(Ask("P6", language="en,de"))
    assert [(fact.subject.label, fact.object.label, fact.object.id) for fact in reading.facts] == [
        ("X", "plain", None),
        ("X", "text", None),
        ("Y", "Ypsilon", None),
    ]
    z = "http://kbsync.example/entity/z"
    assert set(reading.skipped) == {
        f"date in place of an entity: 1 ({z} -> '1889-01-01T00:00:00Z')",
        f"quantity in place of an entity: 1 ({z} -> '8848')",
        f"coordinates in place of an entity: 1 ({z} -> 'Point(1 2)')",
        f"literal of another type in place of an entity: 1 ({z} -> 'x')",
        f"empty text in place of an entity: 1 ({z} -> ' ')",
        f"text in another language: 1 ({z} -> it)",
    }
    with serve(file) as url:
        remote = open_source(url).read(Ask("P6", language="en,de"))
    assert (remote.facts, sorted(remote.skipped)) == (reading.facts, sorted(reading.skipped))


def test_a_list_of_languages_is_taken_as_it_stands(tmp_path: Path) -> None:
    triples = """kb:x wdt:P6 kb:a, kb:b, kb:c ; rdfs:label "X"@fr . kb:a rdfs:label "a-de"@de, "a-fr"@fr .
        kb:b rdfs:label "b-en"@en . kb:c rdfs:label "c-de"@de ."""
    reading = open_source(str(world(tmp_path / "x.ttl", triples))).read(Ask("P6", language="fr,de"))
    assert [fact.object.label for fact in reading.facts] == ["a-fr", "c-de"]
    assert reading.skipped == ("object without a label (fr, de): 1 (http://kbsync.example/entity/b)",)


def test_subjects_not_found_are_named(world_file: Path) -> None:
    names = ("France", "Q750", "Q99999", "Atlantis", "<http://nowhere.example/x>", "Mu")
    reading = open_source(str(world_file)).read(Ask("P36", subjects=names))
    assert {fact.subject.label for fact in reading.facts} == {"France", "Bolivia"}
    assert reading.skipped == (
        "subject asked for that has no P36 here: 4 (Q99999, Atlantis, <http://nowhere.example/x>, ...)",
    )
    reading = open_source(str(world_file)).read(Ask("P36", subjects=("France", "Bolivia"), min_sitelinks=251))
    assert reading.skipped == ("subject asked for that has no P36 here, or not the class or sitelinks: 1 (Bolivia)",)


def test_a_limit_counts_subjects_that_have_facts_and_takes_all_of_theirs(tmp_path: Path) -> None:
    triples = "".join(f'kb:x{n} rdfs:label "X{n}"@en ; wdt:P6 {"[]" if n < 3 else "kb:a, kb:b"} .\n' for n in range(9))
    file = world(tmp_path / "x.ttl", triples + 'kb:a rdfs:label "A"@en . kb:b rdfs:label "B"@en .')
    facts = open_source(str(file)).read(Ask("P6", limit=2)).facts
    assert [fact.subject.label + fact.object.label for fact in facts] == ["X3A", "X3B", "X4A", "X4B"]


@pytest.mark.parametrize("in_one", [0, 2**20])
def test_no_part_of_a_result_is_taken_for_the_whole(in_one: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "IN_ONE", in_one)
    body = (
        b'{"head": {"vars": ["s"]}, "results": {"bindings": [{"s": {"type": "uri", "value": "http://a/b"}},'
        b' {"s": {"type": "literal", "value": "x", "xml:lang": "de-AT"}}, {"s": {"type": "bnode", "value": "b0"}}]}}'
    )
    assert parse_results(body) == [
        {"s": Term("http://a/b")},
        {"s": Term("x", "literal", "de-at")},
        {"s": Term("b0", "blank")},
    ]
    for end in range(len(body)):
        with pytest.raises(ValueError, match=r".+"):
            parse_results(body[:end])


@pytest.mark.parametrize("in_one", [0, 2**20])
@pytest.mark.parametrize("body", [b"[]", b"null", b'{"results": {}}', b'{"results": {"bindings": [{"s": 1}]}}'])
def test_other_json_is_no_result(body: bytes, in_one: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "IN_ONE", in_one)
    with pytest.raises(ValueError, match="not SPARQL results"):
        parse_results(body)


def test_an_iri_that_is_none_reaches_no_query(world_file: Path) -> None:
    from kbsync.sources.paging import Paged
    from kbsync.sources.statements import read_facts

    def hostile(query: str) -> list[Row]:
        return [{"subject": Term("http://a> } #")}] if "STR(?subject)" not in query else []

    facts, notes = read_facts(Paged(hostile), Ask("P6"))
    assert (tuple(facts), notes.lines()) == ((), ("subject with a bad IRI: 1 (http://a> } #)",))


def precise(folder: Path, qualifier: str, time: str, precision: int, day: str) -> tuple[str, str | None, list[str]]:
    """Read a statement with one time of a precision on `day`: its object, or why there is none, and its start."""
    triples = f"""kb:x rdfs:label "X"@en ; p:P6 kb:s . kb:a rdfs:label "A"@en .
        kb:s ps:P6 kb:a ; pq:{qualifier} "{time}"^^xsd:dateTime ;
            <http://www.wikidata.org/prop/qualifier/value/{qualifier}> kb:time .
        kb:time wikibase:timeValue "{time}"^^xsd:dateTime ; wikibase:timePrecision {precision} ."""
    file = world(folder / "x.ttl", triples)
    ask = Ask("P6", as_of=datetime.date.fromisoformat(day))
    reading = open_source(str(file)).read(ask)
    lines = folder / "x.nt.gz"  # the same through the passes of a dump
    store = Store()
    store.load(path=file)
    lines.write_bytes(gzip.compress(store.dump(format=RdfFormat.N_TRIPLES, from_graph=DefaultGraph()) or b""))
    sifted = open_source(str(lines)).read(ask)
    assert (sifted.facts, sifted.skipped) == (reading.facts, reading.skipped)
    facts = [*reading.facts]
    return "".join(fact.object.label for fact in facts), facts[0].since if facts else None, list(reading.skipped)


@pytest.mark.parametrize(
    ("time", "precision", "before", "begun", "since"),
    [
        ("2100-01-01T00:00:00Z", 7, "2000-12-31", "2001-01-01", "2001-01-01"),  # 21st century
        ("2000-01-01T00:00:00Z", 7, "1900-12-31", "1901-01-01", "1901-01-01"),
        ("2015-01-01T00:00:00Z", 8, "2009-12-31", "2010-01-01", "2010-01-01"),  # the 2010s
        ("2019-01-01T00:00:00Z", 9, "2018-12-31", "2019-01-01", "2019-01-01"),
        ("2019-07-01T00:00:00Z", 10, "2019-06-30", "2019-07-01", "2019-07-01"),
        ("2019-07-24T00:00:00Z", 11, "2019-07-23", "2019-07-24", "2019-07-24"),
        ("3000-01-01T00:00:00Z", 6, "2000-12-31", "2001-01-01", "2001-01-01"),  # third millennium
    ],
)
def test_a_start_is_in_the_future_only_if_all_of_it_is(
    time: str, precision: int, before: str, begun: str, since: str, tmp_path: Path
) -> None:
    none, _, notes = precise(tmp_path, "P580", time, precision, before)
    kb = "http://kbsync.example/entity/"
    assert (none, notes) == ("", [f"statement that begins after {before}: 1 ({kb}x -> {kb}a)"])
    assert precise(tmp_path, "P580", time, precision, begun) == ("A", since, [])


@pytest.mark.parametrize(
    ("time", "precision", "stands", "over"),
    [
        ("2026-01-01T00:00:00Z", 9, "2026-12-30", "2026-12-31"),
        ("2026-02-01T00:00:00Z", 10, "2026-02-28", "2026-03-01"),
        ("2026-02-01T00:00:00Z", 11, "2026-01-31", "2026-02-01"),
        ("2100-01-01T00:00:00Z", 7, "2100-12-30", "2100-12-31"),
        ("2020-01-01T00:00:00Z", 8, "2029-12-30", "2029-12-31"),
    ],
)
def test_an_end_is_in_the_past_only_if_all_of_it_is(
    time: str, precision: int, stands: str, over: str, tmp_path: Path
) -> None:
    assert precise(tmp_path, "P582", time, precision, stands) == ("A", None, [])
    none, _, notes = precise(tmp_path, "P582", time, precision, over)
    kb = "http://kbsync.example/entity/"
    assert (none, notes) == ("", [f"statement that has ended by {over}: 1 ({kb}x -> {kb}a)"])


def test_an_endpoint_tells_how_precise_a_time_is(tmp_path: Path) -> None:
    precise(tmp_path, "P582", "2026-01-01T00:00:00Z", 9, "2026-05-01")
    with serve(tmp_path / "x.ttl") as url:
        (fact,) = open_source(url).read(Ask("P6", as_of=datetime.date(2026, 5, 1))).facts
    assert fact.object.label == "A"


def test_what_is_not_current_is_counted_by_reason(tmp_path: Path) -> None:
    statements = ["+ A", "= B", "- B", "= B . 2024-07-05", "= C 2030-01-01", "= C . 2020-01-01"]
    read(tmp_path, *statements)
    kb = "http://kbsync.example/entity/"
    notes = open_source(str(tmp_path / "x.ttl")).read(Ask("P6", as_of=DAY)).skipped
    assert f"statement that begins after 2025-06-01: 1 ({kb}x -> {kb}C)" in notes
    assert sorted(note.partition(" (")[0] for note in notes) == [
        "statement beside one of preferred rank: 1",
        "statement of deprecated rank: 1",
        "statement that begins after 2025-06-01: 1",
        "statement that has ended by 2025-06-01: 2",
    ]


def test_invisible_marks_make_no_other_label(tmp_path: Path) -> None:
    triples = """kb:x rdfs:label "Bern\\u200e"@en ; wdt:P6 kb:a . kb:y rdfs:label "\\u200fBern"@en ; wdt:P6 kb:b .
        kb:a rdfs:label "Ada\\u2060 Lovelace\\u00ad"@en .
        kb:b rdfs:label "\\u0645\\u06cc\\u200c\\u062e\\u0648\\u0627\\u0647\\u0645"@en ."""
    facts = open_source(str(world(tmp_path / "x.ttl", triples))).read(Ask("P6")).facts
    assert {(fact.subject.label, fact.object.label) for fact in facts} == {
        ("Bern", "Ada Lovelace"),
        ("Bern", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),  # a joiner that Persian needs
    }


@pytest.mark.parametrize(
    ("language", "labels", "wanted"),
    [
        ("en", '"colour"@en-gb, "couleur"@fr', "colour"),
        ("en", '"colour"@en-gb, "m"@mul', "m"),
        ("en", '"colour"@en-gb, "color"@en', "color"),
        ("en-gb", '"color"@en', "color"),
        ("en-gb", '"color"@en-us', "color"),
        ("de", '"Farbe"@de-at, "color"@en', "Farbe"),
        ("de,fr", '"Farbe"@de-at, "couleur"@fr', "couleur"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_label_may_be_in_another_form_of_the_language(
    language: str, labels: str, wanted: str, packed: bool, tmp_path: Path
) -> None:
    file = world(tmp_path / "x.ttl", f'kb:x rdfs:label "X" ; wdt:P6 kb:a . kb:a rdfs:label {labels} .')
    if packed:
        store = Store()
        store.load(path=file)
        file = tmp_path / "x.nt.gz"
        file.write_bytes(gzip.compress(store.dump(format=RdfFormat.N_TRIPLES, from_graph=DefaultGraph()) or b""))
    (fact,) = open_source(str(file)).read(Ask("P6", language=language)).facts
    assert fact.object.label == wanted
