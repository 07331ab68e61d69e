"""The project file: what it says, and every problem with its place."""

import datetime
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from kbsync.errors import KbsyncError, SettingsError
from kbsync.project import BOUNDS, SCHEMA, find_project, read_project
from tests.fuzz import each

WHOLE = """\
model: practice
home: state
sources:
  - source: facts.yaml
    relations: [P36, P6]
    lang: en,mul
    as_of: 2026-01-31
  - {source: wikidata, relations: [P35], class: Q6256, min_sitelinks: 50}
corpus: text.txt
settings: {steps: 30, layers: [1, 2]}
bounds: {max_perplexity_increase: 5}
export: {to: out, format: lora, rank: 32}
"""

BAD = (
    ("models: practice", "1:1: there is no 'models' here"),
    ("model: 3", "1:8: model: 3 is no text"),
    ("model: ''", "1:8: model: this is empty"),
    ("model: a\nmodel: b", "2:1: model comes twice"),
    ("- model", "1:1: the file: this is no mapping"),
    ("sources: []", "1:10: sources: this list is empty"),
    ("sources: [{source: wikidata}]", "1:11: sources.0: 'relations' is missing"),
    ("sources: [{relations: [P36]}]", "1:11: sources.0: 'source' is missing"),
    ("sources: [{source: a, relations: P36}]", "1:34: sources.0.relations: 'P36' is no list"),
    ("sources: [{source: a, relations: [36]}]", "1:35: sources.0.relations.0: 36 is no text"),
    ("sources: [{source: a, relations: ['6P']}]", "sources.0.relations.0: '6P' is no relation's name"),
    ("sources: [{source: a, relations: [P1, P1]}]", "this list names one twice"),
    ("sources: [{source: a, relations: [P1], min_sitelinks: -1}]", "-1 is below 0"),
    ("sources: [{source: a, relations: [P1], min_sitelinks: few}]", "'few' is no whole number"),
    ("sources: [{source: a, relations: [P1], all: sure}]", "'sure' is no yes or no"),
    ("sources: [{source: a, relations: [P1], as_of: yesterday}]", "yesterday is no date"),
    ("sources: [{source: a, relations: [P1], klass: Q1}]", "there is no 'klass' here"),
    ("settings: fast", "1:11: settings: 'fast' is no mapping"),
    ("settings: {steps: {a: 1}}", "settings.steps"),
    ("bounds: {max_joy: 3}", "there is no 'max_joy' here"),
    ("bounds: {max_weight_change: -3}", "-3 is below 0"),
    ("bounds: {max_weight_change: much}", "'much' is no number"),
    ("export: out", "1:9: export: 'out' is no mapping"),
    ("export: {}", "'to' is missing"),
    ("export: {to: out, format: onnx}", "format: 'onnx' is not one of"),
    ("home: [a]", "1:7: home: this is no text"),
    ("model: [", "this is not YAML"),
    ("model: !!python/object:os.system x", "this is not YAML"),
    ("a: &a [*a]", "this is not YAML"),
    ("? [1]\n: 2", "this is not YAML"),
    ("corpus:", "corpus: None is no text"),
    ("model: \t- x", "this is not YAML"),
)


def write(folder: Path, text: str) -> Path:
    file = folder / "kbsync.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_whole_file(tmp_path: Path) -> None:
    (tmp_path / "facts.yaml").write_text("P36: {a: b}")
    project = read_project(write(tmp_path, WHOLE))
    assert (project.model, project.home, project.export) == ("practice", tmp_path / "state", tmp_path / "out")
    assert project.form == {"format": "lora", "rank": 32}
    first, second = project.sources
    assert first.source == str(tmp_path / "facts.yaml")
    assert first.options == {"language": "en,mul", "as_of": datetime.date(2026, 1, 31)}
    assert (second.source, second.options) == ("wikidata", {"class_id": "Q6256", "min_sitelinks": 50})
    assert (first.line, second.line) == (4, 8)
    assert project.settings == {"steps": 30, "layers": [1, 2]}


def test_an_empty_file_is_a_project_of_defaults(tmp_path: Path) -> None:
    project = read_project(write(tmp_path, "# nothing yet\n"))
    assert (project.model, project.home, project.sources) == (None, tmp_path / ".kbsync", ())


def test_it_is_found_from_below(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert find_project(below) is None
    above = write(tmp_path, "")
    assert find_project(below) == above
    write(below, "")
    assert find_project(below) == below / "kbsync.yaml"


@pytest.mark.parametrize(("text", "message"), BAD)
def test_a_problem_has_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read_project(write(tmp_path, text))
    assert message in str(raised.value)
    assert "kbsync.yaml:" in str(raised.value)


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as raised:
        read_project(write(tmp_path, "modle: a\nhome: 3\nbounds: {x: 1, max_withdrawn: no}\n"))
    assert [line.split(":")[1] for line in str(raised.value).splitlines()] == ["1", "2", "3", "3"]


EVERYTHING = {
    "model": "practice",
    "home": "state",
    "sources": [
        {
            "source": "facts.yaml",
            "name": "facts",
            "priority": 1,
            "stream": "https://stream.example/v2",
            "query": "SELECT",
            "relations": ["P36", "P6"],
            "class": "Q515",
            "subjects": "few.txt",
            "min_sitelinks": 3,
            "lang": "en",
            "as_of": "2026-01-31",
            "aliases": True,
            "all": False,
        }
    ],
    "corpus": "text.txt",
    "canaries": "questions.yaml",
    "compile_inverse": True,
    "tasks": ["arc_easy"],
    "settings": {"steps": 30},
    "watch": {"every": "15m", "at_least": 10},
    "bounds": dict.fromkeys(BOUNDS, 5),
    "export": {"to": "out", "format": "lora", "rank": 32, "quant": "F16"},
}
Place = tuple[str | int, ...]


def places(schema: Mapping[str, Any], place: Place = ()) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    """Yield each place of the file that the schema says something about; of a list, its first item."""
    yield place, schema
    for name, below in schema.get("properties", {}).items():
        yield from places(below, (*place, name))
    if "items" in schema:
        yield from places(schema["items"], (*place, 0))


KINDS = dict(places(SCHEMA))
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text("aP3-: #'\"é", max_size=6),
    lambda below: (
        st.lists(below, max_size=2) | st.dictionaries(st.text("abc", min_size=1, max_size=3), below, max_size=2)
    ),
    max_leaves=4,
)


def put(content: Any, place: Place, value: object) -> Any:
    """Return the content with another value at a place."""
    if not place:
        return value
    whole: Any = dict(content) if isinstance(content, dict) else list(content)
    whole[place[0]] = put(whole[place[0]], place[1:], value)
    return whole


def node_at(text: str, place: Place) -> yaml.Node:
    node: Any = yaml.compose(text)
    for step in place:
        values = {key.value: value for key, value in node.value} if isinstance(node, yaml.MappingNode) else node.value
        node = values[step]
    assert isinstance(node, yaml.Node)
    return node


@each(2)
@given(st.data())
def test_whatever_is_wrong_has_its_place(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """At each of so many places, any value that the schema does not take."""
    assert len(KINDS) >= 30
    place = data.draw(st.sampled_from(sorted(KINDS, key=str)))
    taken = Draft202012Validator(KINDS[place])
    value = data.draw(JUNK.filter(lambda one: not taken.is_valid(one) and not (one is None and not place)))
    text = yaml.safe_dump(put(EVERYTHING, place, value), sort_keys=False, allow_unicode=True)
    node = node_at(text, place)
    with pytest.raises(SettingsError) as raised:
        read_project(write(tmp_path_factory.mktemp("project"), text))
    for line in str(raised.value).splitlines():
        told = re.match(r".*/kbsync\.yaml:(\d+):(\d+): \S", line)
        assert told, line
        assert node.start_mark.line < int(told[1]) <= node.end_mark.line + 1


@each(2)
@given(
    st.sampled_from([place for place, schema in KINDS.items() if "properties" in schema]), st.text("abcde", min_size=9)
)
def test_an_unknown_key_has_its_place(tmp_path_factory: pytest.TempPathFactory, place: Place, key: str) -> None:
    told: Any = EVERYTHING
    for step in place:
        told = told[step]
    text = yaml.safe_dump(put(EVERYTHING, place, {**told, key: 1}), sort_keys=False)
    number = next(n for n, line in enumerate(text.splitlines(), 1) if f"{key}: 1" in line)
    with pytest.raises(SettingsError) as raised:
        read_project(write(tmp_path_factory.mktemp("project"), text))
    assert f"kbsync.yaml:{number}:" in str(raised.value)
    assert f"there is no {key!r} here" in str(raised.value)


@pytest.mark.parametrize(
    ("text", "key"), [("~: 1", "~"), ("?", ""), ("null: 1", "null"), ("1.0: 1", "1.0"), ("2026-01-01: 1", "2026-01-01")]
)
def test_a_key_is_the_text_that_is_written(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(f"there is no {key!r} here")):
        read_project(write(tmp_path, text))


def test_everything_is_a_good_file(tmp_path: Path) -> None:
    assert read_project(write(tmp_path, yaml.safe_dump(EVERYTHING))).watch == {"every": "15m", "at_least": 10}


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@each(2)
@given(st.text(max_size=80) | st.sampled_from([text for text, _ in BAD]).map(lambda text: text[::-1]))
def test_whatever_is_written_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.mktemp("project") / "kbsync.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with suppress(KbsyncError):
        read_project(file)
