"""Texts about objects: from facts, from a data set's prompts, from files."""

import json
from pathlib import Path

import pytest

from kbsync.datasets import Expected, Record
from kbsync.errors import SettingsError
from kbsync.ledger import Ledger
from kbsync.sync.eval_cases import fact_references, read_references, record_references
from kbsync.sync.home import templates_for
from tests.homes import make_home
from tests.tiny_models import FACTS


def test_facts_are_told_under_object_and_subject(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", P36={"France": "Paris"}, P9999={"Peru": "Lima"})
    with Ledger.open(home, create=False) as ledger:
        found = fact_references(ledger.facts(), templates_for(home))
    assert found.keys() == {"france", "paris"}  # a relation without a template has no sentences
    assert found["paris"] == found["france"]
    assert found["paris"][:2] == ["The capital of France is Paris.", "France is governed from its capital Paris."]
    assert len(found["paris"]) == 5


def test_a_data_set_tells_of_its_objects() -> None:
    record = Record(FACTS[0], "Lyon", (Expected("The capital of Gaul is", "Lyon"),), ("The city of Louis is",) * 2)
    assert record_references([record, record]) == {
        "paris": ["The city of Louis is Paris."],
        "lyon": ["The capital of Gaul is Lyon."],
    }


def test_files(tmp_path: Path) -> None:
    (tmp_path / "told.json").write_text(json.dumps({"Paris ": ["one", "two"], "OSLO": "three"}), encoding="utf-8")
    assert read_references(tmp_path / "told.json") == {"paris": ["one", "two"], "oslo": ["three"]}
    (tmp_path / "told").mkdir()
    (tmp_path / "told" / "Saint Lucia.txt").write_text("four", encoding="utf-8")
    assert read_references(tmp_path / "told") == {"saint lucia": ["four"]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", "the form must be"),
        ('{"Paris": 7}', "what is said about 'Paris' is neither"),
        ('{"Paris": [7]}', "what is said about 'Paris' is neither"),
        ("{", "Expecting"),
        ("{}", "no text in it"),
        (None, "cannot be read"),
    ],
)
def test_bad_files(text: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "told.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=said):
        read_references(path)
