"""What comes out of other shapes: labels, redirects, literals, classes, graphs, times; file, lines and endpoint."""

import datetime
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pyoxigraph import RdfFormat, Store

from kbsync.shapes import read_shape
from kbsync.sources import Ask, Reading, open_source
from kbsync.sources.loopback import serve
from tests.oxigraph_server import PREFIXES

Read = Callable[[str, Ask], Reading]


@pytest.fixture(params=["file", "lines", "endpoint"])
def read(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Read]:
    with ExitStack() as stack:

        def reading(trig: str, ask: Ask) -> Reading:
            file = tmp_path / "facts.trig"
            file.write_text(f"{PREFIXES}@prefix owl: <http://www.w3.org/2002/07/owl#> .\n{trig}", encoding="utf-8")
            if request.param == "lines":
                monkeypatch.setattr("kbsync.sources.rdf_file.LARGE", 0)
                store, file = Store(), tmp_path / "facts.nq"
                store.load(path=tmp_path / "facts.trig")
                mixed = sorted(line[::-1] for line in (store.dump(format=RdfFormat.N_QUADS) or b"").splitlines())
                file.write_bytes(b"".join(line[::-1] + b"\n" for line in mixed))
            source = stack.enter_context(serve(file)) if request.param == "endpoint" else str(file)
            return open_source(source).read(ask)

        yield reading


def pairs(reading: Reading) -> list[tuple[str, str, str | None]]:
    return [(fact.subject.label, fact.object.label, fact.object.id) for fact in reading.facts]


def ask(**told: Any) -> Ask:
    return Ask("P36", shape=read_shape("P36", told))


LABELS = """
wd:Q1 rdfs:label "A"@en ; wdt:P36 wd:Q11 . wd:Q11 rdfs:label "a gb"@en-gb, "a fr"@fr .
wd:Q2 rdfs:label "B"@mul ; wdt:P36 wd:Q12 . wd:Q12 rdfs:label "b mul"@mul, "b gb"@en-gb .
wd:Q3 rdfs:label "C"@en-ca ; wdt:P36 wd:Q13 . wd:Q13 owl:sameAs wd:Q14 . wd:Q14 rdfs:label "kept"@en .
wd:Q4 rdfs:label "D"@en ; wdt:P36 wd:Q15 . wd:Q15 owl:sameAs wd:Q98, wd:Q99 .
wd:Q16 owl:sameAs wd:Q5 ; wdt:P36 wd:Q14 . wd:Q5 rdfs:label "E"@en .
"""


def test_labels_of_all_forms_of_a_language_and_of_what_an_entity_redirects_to(read: Read) -> None:
    reading = read(LABELS, Ask("P36"))
    assert pairs(reading) == [
        ("A", "a gb", "Q11"),
        ("B", "b mul", "Q12"),
        ("C", "kept", "Q14"),
        ("E", "kept", "Q14"),
    ]
    assert {fact.subject.id for fact in reading.facts} == {"Q1", "Q2", "Q3", "Q5"}
    assert reading.nameless == {("Q4", "Q15")}


ORDER = """
kb:a skos:prefLabel "preferred"@en ; rdfs:label "plain" ; kb:p kb:b . kb:b rdfs:label "b"@en, "anders"@de ;
    skos:prefLabel "only german"@de .
"""


@pytest.mark.parametrize(
    ("labels", "language", "expected"),
    [
        (("rdfs:label", "skos:prefLabel"), "en", ("plain", "b")),
        (("skos:prefLabel", "rdfs:label"), "en", ("preferred", "b")),
        (("skos:prefLabel", "rdfs:label"), "de", ("preferred", "only german")),
    ],
)
def test_label_properties_count_in_order(labels: Any, language: str, expected: Any, read: Read) -> None:
    shape = read_shape("P36", {"predicate": "http://kbsync.example/entity/p", "labels": labels})
    assert [pair[:2] for pair in pairs(read(ORDER, Ask("P36", language=language, shape=shape)))] == [expected]


MORE = """
kb:a rdfs:label "A"@en ; a kb:City ; kb:code 42, "c" ; kb:date "2001-02-03"^^xsd:date .
kb:b rdfs:label "B"@en ; kb:code 7 ; a kb:Town .
kb:graph { kb:a kb:code 43 . }
"""


def test_literals_classes_and_graphs(read: Read) -> None:
    told: dict[str, Any] = {"predicate": "http://kbsync.example/entity/code", "labels": ("rdfs:label",)}
    assert ("A", "c", None) in pairs(read(MORE, ask(**told)))
    assert not any(thing.isdigit() for _, thing, _ in pairs(read(MORE, ask(**told))))
    numbers = pairs(read(MORE, ask(**told, literals=True)))
    assert ("B", "7", None) in numbers
    city = "<http://kbsync.example/entity/City>"
    assert {pair[0] for pair in pairs(read(MORE, ask(**told, literals=True, **{"class": city})))} == {"A"}
    graph = ask(**told, literals=True, graph="http://kbsync.example/entity/graph")
    assert pairs(read(MORE, graph)) == [("A", "43", None)]


TIMES = """
kb:a rdfs:label "A"@en ; kb:role kb:r1, kb:r2 . kb:b rdfs:label "B"@en . kb:c rdfs:label "C"@en .
kb:r1 kb:who kb:b ; kb:till "2020-05"^^xsd:gYearMonth . kb:r2 kb:who kb:c ; kb:from "2020-06-01"^^xsd:date .
"""


@pytest.mark.parametrize(("day", "expected"), [((2020, 1, 1), "B"), ((2021, 1, 1), "C")])
def test_times_of_another_vocabulary_hold(day: tuple[int, int, int], expected: str, read: Read) -> None:
    kb = "http://kbsync.example/entity/"
    told = {"predicate": f"{kb}who", "statement": f"{kb}role", "start": f"{kb}from", "end": f"{kb}till"}
    shape = read_shape("P36", told)
    reading = read(TIMES, Ask("P36", as_of=datetime.date(*day), shape=shape))
    assert [pair[:2] for pair in pairs(reading)] == [("A", expected)]
    (note,) = [line for line in reading.skipped if line.startswith("statement that")]
    assert "kbsync.example" in note
