"""The project file: what it says, and every problem with its place."""

import datetime
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from kbsync.errors import KbsyncError, SettingsError
from kbsync.project import SCHEMA, find_project, read_project

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


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@given(st.text(max_size=80) | st.sampled_from([text for text, _ in BAD]).map(lambda text: text[::-1]))
def test_whatever_is_written_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.mktemp("project") / "kbsync.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with suppress(KbsyncError):
        read_project(file)
