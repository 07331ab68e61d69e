"""Opening a source, asking, and the file of subjects."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kbsync.errors import KbsyncError, SettingsError, SourceError
from kbsync.sources import Ask, open_source, read_subjects


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("wikidatta", "unknown source 'wikidatta': a source is 'wikidata', .*endpoint, an RDF file .*YAML file"),
        ("facts.xlsx", "unknown source 'facts.xlsx'"),
        ("facts.yaml.gz", "unknown source 'facts.yaml.gz'"),
        ("facts.csv", "facts.csv: no such file"),
        ("nowhere.ttl", "nowhere.ttl: no such file"),
        ("nowhere.yml", "nowhere.yml: no such file"),
        ("ftp://example.org/sparql", "not an http"),
        ("http://", "not an http"),
        ("http://exa mple.org/", "not an http"),
        ("http://example.org:port/", "is not an address"),
        ("https://me:secret@example.org/sparql", "leave name, password and keys out"),
    ],
)
def test_what_is_no_source_is_refused_with_the_kinds(source: str, message: str) -> None:
    with pytest.raises(KbsyncError, match=message) as caught:
        open_source(source)
    assert "secret" not in str(caught.value)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "x.ttl").mkdir()
    with pytest.raises(SourceError, match=r"x\.ttl: a folder, not a file"):
        open_source(str(tmp_path / "x.ttl"))


@pytest.mark.parametrize("name", ["x.ttl", "x.nt.gz", "x.csv", "x.yaml", "x.json"])
def test_a_pipe_is_refused_and_not_waited_for(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(SourceError, match=rf"{name}: a pipe, not a file"):
        open_source(str(tmp_path / name))
    with pytest.raises(SourceError, match=rf"{name}: a pipe, not a file"):
        read_subjects(tmp_path / name)


def test_the_kind_is_told_by_name_and_suffix(tmp_path: Path) -> None:
    for name, kind in (("a.TTL", "RdfFile"), ("a.yml", "YamlFile"), ("a.yaml", "YamlFile")):
        (tmp_path / name).touch()
        assert type(open_source(str(tmp_path / name))).__name__ == kind
    assert type(open_source("HTTP://127.0.0.1:9/sparql")).__name__ == "SparqlSource"


@pytest.mark.parametrize(
    "wrong",
    [
        {"class_id": "city"},
        {"class_id": "Q515 } #"},
        {"class_id": "<http://a> . ?s ?p ?o . #>"},
        {"language": 'en")) } #'},
        {"language": ""},
        {"limit": 0},
        {"min_sitelinks": -1},
        {"subjects": ("",)},
        {"subjects": ("a\x00b",)},
        {"subjects": ("http://a b",)},
        {"subjects": ("<Q42",)},
    ],
)
def test_an_ask_that_is_not_what_it_says_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        Ask("P36", **wrong)


def test_a_part_of_a_relation_is_known_for_one() -> None:
    assert not Ask("P36", language="de").partial
    for part in ({"limit": 1}, {"class_id": "Q515"}, {"subjects": ("Q1",)}, {"subjects": ()}, {"min_sitelinks": 0}):
        assert Ask("P36", **part).partial


def test_a_file_of_subjects(tmp_path: Path) -> None:
    file = tmp_path / "subjects.txt"
    file.write_text("# mine\n\n  Q42 \nNew York City\n<http://a/b>\nC# minor\nQ42\n", encoding="utf-8-sig")
    assert read_subjects(file) == ("Q42", "New York City", "<http://a/b>", "C# minor")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"Q42\nhttp://a b\n", r"subjects\.txt:2: subject 'http://a b' is not an IRI"),
        (b"Q42\nx\x07y\n", r"subjects\.txt:2: .*control characters"),
        (b"Q42\n\nTroms\xf8\n", r"subjects\.txt:3: not UTF-8"),
        (b"# none\n", r"subjects\.txt: names no subject"),
    ],
)
def test_a_bad_file_of_subjects_is_told_with_its_line(content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "subjects.txt"
    file.write_bytes(content)
    with pytest.raises(SourceError, match=message):
        read_subjects(file)


def test_a_file_of_subjects_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"none\.txt: cannot be read \(No such file"):
        read_subjects(tmp_path / "none.txt")


def test_opening_a_yaml_file_loads_no_sparql_library(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("P36: {France: Paris}\n")
    code = (
        "import sys; from kbsync.sources import Ask, open_source;"
        "assert open_source(sys.argv[1]).read(Ask('P36')).facts;"
        "print(sorted({'SPARQLWrapper', 'pyoxigraph', 'rdflib', 'torch'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "x.yaml"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
