"""What a template's ``source`` may say, and what is wrong with it, by name and line."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from kbsync.errors import TemplateError
from kbsync.shapes import ShapeError, read_shape, short_id, short_name, wikibase
from kbsync.templates import check_file
from tests.homes import TEMPLATES

CAPITAL = "<http://dbpedia.org/ontology/capital>"


@pytest.mark.parametrize(
    ("predicate", "path"),
    [
        ("dbo:capital", CAPITAL),
        ("http://dbpedia.org/ontology/capital", CAPITAL),
        (CAPITAL, CAPITAL),
        ("^ dbo:capital", f"^{CAPITAL}"),
        ("(dbo:capital/^<urn:x:y>)+|dbo:capital", f"({CAPITAL}/^<urn:x:y>)+|{CAPITAL}"),
        ("P36/P17", "<http://www.wikidata.org/prop/direct/P36>/<http://www.wikidata.org/prop/direct/P17>"),
    ],
)
def test_a_predicate_is_an_iri_or_a_path(predicate: str, path: str) -> None:
    shape = read_shape("capital", {"predicate": predicate})
    assert (shape.from_subject, shape.node, shape.start) == (path, None, None)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"predicate": "capital"}, "predicate 'capital' is not an IRI"),
        ({"predicate": "nope:capital"}, "predicate 'nope:capital' is not an IRI"),
        ({"predicate": "<http://a b>"}, "is not an IRI"),
        ({"predicate": "dbo:a*"}, "is not an IRI, nor a path"),
        ({"predicate": "!dbo:a"}, "is not an IRI, nor a path"),
        ({"predicate": "dbo:a } INSERT"}, "is not an IRI, nor a path"),
        ({"predicate": "dbo:a//dbo:b"}, "is not a property path"),
        ({"predicate": "(dbo:a"}, "is not a property path"),
        ({"predicate": "dbo:a dbo:b"}, "is not a property path"),
        ({}, "predicate is missing"),
        ({"predicate": ("dbo:a",)}, "predicate is not text"),
        ({"predicate": "dbo:a", "labels": "rdfs:label"}, "labels is not a list"),
        ({"predicate": "dbo:a", "labels": ("label",)}, "labels 'label' is not an IRI"),
        ({"predicate": "dbo:a", "start": "dbo:since"}, "start needs `statement`"),
        ({"predicate": "dbo:a", "begin": "dbo:since"}, "begin is not known; a source has predicate, statement, start"),
        ({"predicate": "dbo:a", "graph": "countries"}, "graph 'countries' is not an IRI"),
        ({"predicate": "dbo:a", "class": "Country"}, "class 'Country' is not an IRI"),
        ({"predicate": "dbo:a", "literals": "maybe"}, "literals is not true or false"),
        ({"predicate": "P36", "start": "since"}, "start 'since' is not the id of a property"),
        ({"predicate": "P36", "wikibase": "kb.example"}, "wikibase 'kb.example' is not a concept base"),
        ({"columns": {"name": "subject"}}, "columns 'name' is no field"),
    ],
)
def test_what_is_wrong_with_a_source_is_told(told: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match=message.replace("(", r"\(")):
        read_shape("capital", told)
    template = yaml.safe_load(TEMPLATES)
    entry = {
        **template.pop("P36"),
        "source": {name: list(one) if isinstance(one, tuple) else one for name, one in told.items()},
    }
    file = tmp_path / "capital.yaml"
    file.write_text(yaml.safe_dump({"capital": entry}, sort_keys=False), encoding="utf-8")
    lines = file.read_text(encoding="utf-8").splitlines()
    line = next(number for number, text in enumerate(lines, start=1) if text.startswith("  source:"))
    with pytest.raises(TemplateError, match=r"capital\.yaml:(\d+): capital: the source's ") as caught:
        check_file(file)
    assert int(str(caught.value).split(":")[1]) in range(line, len(lines) + 1)


def test_another_wikibase_has_its_own_times() -> None:
    found = wikibase("P36").rebased("http://www.wikidata.org/", "https://kb.example/")
    assert found.node == "<https://kb.example/prop/P36>"
    assert (found.start, found.end_time, found.type) == (None, None, wikibase("P36", "https://kb.example/").type)
    named = read_shape("P36", {"start": "P5", "end": "P6"}).rebased("http://www.wikidata.org/", "https://kb.example/")
    assert named.start == "https://kb.example/prop/qualifier/P5"
    over_https = wikibase("P36").in_other_scheme()
    assert (over_https.start, over_https.base) == (
        "https://www.wikidata.org/prop/qualifier/P580",
        "https://www.wikidata.org/",
    )


@pytest.mark.parametrize(
    ("iri", "key", "name"),
    [
        ("http://www.wikidata.org/entity/Q142", "Q142", "Q142"),
        ("https://www.wikidata.org/entity/Q142", "Q142", "Q142"),
        ("https://kb.example/entity/Q142", "https://kb.example/entity/Q142", "Q142"),
        ("http://dbpedia.org/resource/France", "http://dbpedia.org/resource/France", "dbr:France"),
        ("http://dbpedia.org/resource/A(b)", "http://dbpedia.org/resource/A(b)", "http://dbpedia.org/resource/A(b)"),
    ],
)
def test_ids_are_short_where_that_is_safe(iri: str, key: str, name: str) -> None:
    assert (short_id(iri), short_name(iri)) == (key, name)
