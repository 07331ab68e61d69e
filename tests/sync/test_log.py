"""A fact's log: all that happened to it, in order."""

import datetime
from pathlib import Path

import pytest

from kbsync.errors import SettingsError
from kbsync.ledger import FactRow, Ledger, Metric
from kbsync.ledger.edits import roll_back
from kbsync.ledger.facts import lift_vetoes, record_aliases, record_vetoes, vetoes
from kbsync.sync.history import Event, fact_log, parse_fact
from tests.homes import done
from tests.ledger.helpers import apply, fact, model, new_edit, pull


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fact that was read, edited, changed, withdrawn, restated, contested, vetoed, rolled back: a second each."""
    clock = iter(datetime.datetime(2025, 6, 1, tzinfo=datetime.UTC) + datetime.timedelta(seconds=n) for n in range(999))
    for part in ("pulls", "edits", "facts", "store"):
        monkeypatch.setattr(f"kbsync.ledger.{part}.now", lambda: next(clock).isoformat())
    home = tmp_path / "home"
    with Ledger.open(home) as ledger:
        key = model(ledger)

        def read() -> FactRow:
            return next(row for row in ledger.facts() if row.subject_label == "France")

        pull(ledger, fact("Q142/France", "Q1/Lyon"), fact("Q183/Germany", "Q64/Berlin"))
        first = new_edit(read())
        apply(ledger, key, added=[first], metrics=[Metric("ES", 0.0, 100.0, first.request), Metric("S", 1.0, 2.0)])
        pull(ledger, fact("Q142/France", "Q90/Paris"), fact("Q183/Germany", "Q64/Berlin"))
        second = new_edit(read())
        (edit,) = ledger.active_edits(key)
        apply(ledger, key, added=[second], superseded=[edit.id])
        apply(ledger, key, metrics=[Metric("recall", 0.0, 100.0, second.request)])
        pull(ledger, fact("Q183/Germany", "Q64/Berlin"))
        pull(
            ledger, fact("Q142/France", "Q90/Paris"), fact("Q142/France", "Q1/Lyon"), fact("Q183/Germany", "Q64/Berlin")
        )
        pull(ledger, fact("Q142/France", "Q46/Europe", "P30"), relation="P30")
        record_vetoes(ledger, [read()], any_object=True, reason="wrong")
        (edit,) = ledger.active_edits(key)
        apply(ledger, key, retracted=[edit.id])
        lift_vetoes(ledger, [veto.id for veto in vetoes(ledger)])
        roll_back(ledger, key, 1)
        record_aliases(ledger, "s", {"Q142": ["French Republic"]})
    return home


def told(event: Event) -> tuple[str, str | None, str | None]:
    where = f"batch {event.batch}" if event.batch else f"pull {event.pull}" if event.pull else None
    return (event.event, event.object, where)


def test_everything_in_order(home: Path) -> None:
    log = fact_log(home, "France", "P36")
    assert (log["subject"], log["ids"]) == ("France", ("Q142",))
    assert [told(event) for event in log["events"]] == [
        ("new", "Lyon", "pull 1"),
        ("edited", "Lyon", "batch 1"),
        ("changed", "Paris", "pull 2"),
        ("edited", "Paris", "batch 2"),
        ("superseded", "Lyon", "batch 2"),
        ("measured", "Paris", "batch 3"),
        ("withdrawn", "Paris", "pull 3"),
        ("stated again", "Paris", "pull 4"),
        ("new", "Lyon", "pull 4"),
        ("in conflict", "Paris | Lyon", "pull 4"),
        ("retracted by you", None, None),
        ("retracted", "Paris", "batch 4"),
        ("retraction undone", None, None),
        ("brought back", "Lyon", "batch 1"),
    ]
    times = [event.time for event in log["events"]]
    assert times == sorted(times)
    assert log["events"][1].metrics == {"ES": {"before": 0.0, "after": 100.0}}
    assert (log["events"][1].model, log["events"][0].source, log["events"][2].previous) == ("practice", "s", "Lyon")
    assert log["events"][5].metrics == {"recall": {"before": 0.0, "after": 100.0}}
    assert log["events"][10].detail == "wrong"
    assert log["events"][-1].detail == "to batch 1"


@pytest.mark.parametrize("name", ["Q142", "france", "  France ", "French republic"])
def test_a_subject_by_any_of_its_names(home: Path, name: str) -> None:
    log = fact_log(home, name)
    assert {event.relation for event in log["events"]} == {"P30", "P36"}
    assert fact_log(home, name, "P30")["events"] == [event for event in log["events"] if event.relation == "P30"]


def test_a_name_with_letters_beyond_a_to_z(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        pull(ledger, fact("Q1/ÉIRE", "x"))
    assert fact_log(tmp_path, "éire")["subject"] == "ÉIRE"


def test_the_rollback_that_takes_an_edit_out(home: Path) -> None:
    with Ledger.open(home) as ledger:
        roll_back(ledger, "model:1", None)
        roll_back(ledger, "model:1", 2)
    last = fact_log(home, "France", "P36")["events"][-2:]
    assert [(event.event, event.object, event.detail) for event in last] == [
        ("rolled back", "Lyon", "to the base model"),
        ("brought back", "Paris", "to batch 2"),
    ]


@pytest.mark.parametrize(
    ("subject", "relation", "said"),
    [
        ("Frence", "P36", r"P36 of 'Frence' is not on record: did you mean France\?"),
        ("Wxyz", None, "subject 'Wxyz' is not on record: give the subject's label or id"),
        ("Germany", "P30", "P30 of 'Germany' is not on record"),
        ("France", "P3", "no fact of P3 is on record: there are facts of P3"),
        ("France", "capital", "no fact of capital is on record: there are facts of P30, P36"),
        ("France", "P 36", "is not a relation id"),
        (" ", "P36", "the subject is empty"),
    ],
)
def test_what_is_not_on_record(home: Path, subject: str, relation: str | None, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        fact_log(home, subject, relation)


def test_a_fact_in_one_text() -> None:
    assert parse_fact("United  Kingdom P36") == ("United  Kingdom", "P36")
    for text in ("P36", "", "France P 36 }"):
        with pytest.raises(SettingsError):
            parse_fact(text)


TRIPLES = """
@prefix wd: <http://www.wikidata.org/entity/> . @prefix wdt: <http://www.wikidata.org/prop/direct/> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> . @prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
wd:Q1 rdfs:label "France"@en ; wdt:P36 wd:Q90 . wd:Q90 rdfs:label "Paris"@en .
wd:Q2 rdfs:label "Norway"@en ; wdt:P36 wd:Q99 .
wd:Q3 wdt:P36 wd:Q90 .
wd:Q4 rdfs:label "Peru"@en ; wdt:P36 "1535-01-18"^^xsd:date .
wd:Q5 rdfs:label "Cuba"@en ; wdt:P36 wd:Q98 . wd:Q98 rdfs:label "LONG"@en .
"""


def test_why_a_fact_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, source = tmp_path / "home", tmp_path / "facts.ttl"
    source.write_text(TRIPLES.replace("LONG", "Havana" * 60), encoding="utf-8")
    pull = ("pull", "--home", home, "--relation", "P36", "--source", source)
    done(*pull)
    reasons = {
        "Norway P36": ("Norway", "Q99", "object without a label (en, mul)"),
        "Q3 P36": ("Q3", "Q90", "subject without a label (en, mul)"),
        "Q4 P36": ("Q4", "1535-01-18", "date in place of an entity"),
        "cuba P36": ("Cuba", "Q98", "label of more than 250 letters"),
    }
    for asked, (subject, thing, reason) in reasons.items():
        log = done("log", "--home", home, "--fact", asked, "--json").json
        assert (log["subject"], [event["event"] for event in log["events"]]) == (subject, ["left out"])
        assert (log["events"][0]["object"], log["events"][0]["detail"]) == (thing, reason)
    (note,) = done("status", "--home", home, "--json").json["notes"]
    assert all(f"{reason} 1" in note for _, _, reason in reasons.values())

    named = TRIPLES.replace("LONG", "Havana") + 'wd:Q99 rdfs:label "Oslo"@en .'
    source.write_text(named, encoding="utf-8")
    done(*pull)
    events = done("log", "--home", home, "--fact", "Norway P36", "--json").json["events"]
    assert [(event["event"], event["object"], event["detail"]) for event in events] == [
        ("left out", "Q99", "object without a label (en, mul) (until pull 1)"),
        ("new", "Oslo", ""),
    ]

    monkeypatch.setenv("KBSYNC_MOST_SKIPPED", "1")
    done(*pull)
    (note,) = done("status", "--home", home, "--json").json["notes"]
    assert note == "P36, left out by the pull: date in place of an entity 1 (`kbsync log` has each)"
