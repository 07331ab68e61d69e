"""Corpora of each kind give the same documents; what cannot be read is told with file and line."""

import io
import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from kbsync.errors import SettingsError
from kbsync.sync import corpus as corpus_module
from kbsync.sync.corpus import corpus_name, covariance_documents, documents, held_out_documents, settle_stdin

TEXTS = ["Łódź lies in Poland.", "A second document.", "The third."]


def write_text(folder: Path) -> Path:
    path = folder / "corpus.txt"
    path.write_text("".join(f"{text}\n" for text in TEXTS), encoding="utf-8")
    return path


def write_lines(folder: Path, field: str = "text") -> Path:
    path = folder / "corpus.jsonl"
    rows = [{"id": number, field: text} for number, text in enumerate(TEXTS)]
    path.write_text("\n\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return path


def write_parquet(folder: Path, field: str = "text") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "corpus.parquet"
    parquet.write_table(pyarrow.table({"id": [1, 2, 3], field: TEXTS}), path)
    return path


def test_what_perplexity_is_measured_on_is_held_out_of_the_covariance(tmp_path: Path) -> None:
    path = tmp_path / "corpus.txt"
    texts = [f"document {number}" for number in range(25)]
    path.write_text("\n\n".join(texts), encoding="utf-8")
    held, read = list(held_out_documents(path)), list(covariance_documents(path))
    assert held == [texts[1], texts[11], texts[21]]
    assert read == [text for text in texts if text not in held]
    path.write_text("the only one", encoding="utf-8")
    assert list(held_out_documents(path)) == list(covariance_documents(path)) == ["the only one"]


@pytest.mark.parametrize("write", [write_text, write_lines, write_parquet])
def test_each_kind_of_file_gives_its_documents(write: object, tmp_path: Path) -> None:
    assert list(documents(write(tmp_path))) == TEXTS  # type: ignore[operator]


@pytest.mark.parametrize("write", [write_lines, write_parquet])
def test_the_only_string_is_the_text_whatever_its_name(write: object, tmp_path: Path) -> None:
    assert list(documents(write(tmp_path, "body"))) == TEXTS  # type: ignore[operator]


def test_a_data_set_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of Parquet files is opened by the very call that opens a data set of the hub."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    folder = write_parquet(tmp_path / "set").parent
    assert list(documents(folder)) == TEXTS
    assert corpus_name(folder) == "set"
    parquet.write_table(pyarrow.table({"title": ["a"], "body": ["b"]}), folder / "corpus.parquet")
    with pytest.raises(SettingsError, match=r"set, row 1 has no field `text`, and several strings \(title, body\)"):
        list(documents(folder))
    (folder / "corpus.parquet").write_bytes(b"PAR1, not really")
    with pytest.raises(SettingsError, match="set is no file, and as a data set it cannot be read: "):
        list(documents(folder))


def test_rows_without_a_text_are_blank(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"text": null, "title": "x"}\n{"body": null}\n{"text": "all"}\n')
    assert list(documents(path)) == ["", "", "all"]
    parquet.write_table(pyarrow.table({"text": ["one", None]}), tmp_path / "corpus.parquet")
    assert list(documents(tmp_path / "corpus.parquet")) == ["one", ""]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"corpus.jsonl, line 3 is not JSON"),
        ('["a"]', r"corpus.jsonl, line 3 is not an object such as {\"text\": "),
        ('{"id": 1}', r"corpus.jsonl, line 3 has no field `text`, and no string: name its text `text`"),
        ('{"a": "", "b": ""}', r"corpus.jsonl, line 3 has no field `text`, and several strings \(a, b\)"),
    ],
)
def test_a_bad_line_is_named(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text(f'{{"text": "good"}}\n\n{line}\n')
    read = documents(path)
    assert next(read) == "good"
    with pytest.raises(SettingsError, match=message):
        next(read)


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("Łódź".encode("cp1250"))
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    (tmp_path / "latin.jsonl").write_bytes("Łódź".encode("cp1250"))
    for name, message in {
        "latin.txt": "latin.txt cannot be read as UTF-8 text",
        "latin.jsonl": "latin.jsonl cannot be read as UTF-8 text",
        "bad.parquet": "bad.parquet cannot be read as Parquet",
        "nosuch.txt": "nosuch.txt does not exist",
    }.items():
        with pytest.raises(SettingsError, match=message):
            list(documents(tmp_path / name))
    with pytest.raises(SettingsError, match=r"corpus text\.jsonl does not exist"):
        documents("text.jsonl")


def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_parquet(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(SettingsError, match=r"pyarrow is needed: pip install 'kbsync\[corpora\]'"):
        list(documents(path))
    with pytest.raises(SettingsError, match=r"\(there is no such file\), the package datasets is needed: pip install"):
        list(documents("some/name"))


def test_stdin_is_kept_in_the_home_under_its_hash(tmp_path: Path) -> None:
    given = write_text(tmp_path)
    kept = settle_stdin(Path("-"), tmp_path / "home", io.BytesIO(given.read_bytes()))
    assert kept is not None
    assert kept.parent == tmp_path / "home" / "corpora"
    assert list(documents(kept)) == TEXTS
    assert settle_stdin(Path("-"), tmp_path / "home", io.BytesIO(given.read_bytes())) == kept
    assert list(kept.parent.iterdir()) == [kept]
    assert settle_stdin(given, tmp_path / "home") == given
    assert settle_stdin(None, tmp_path / "home") is None


def test_a_corpus_is_read_piece_by_piece(tmp_path: Path) -> None:
    """No more than asked for is taken from a file of any size, and a line without end comes in pieces."""
    path = tmp_path / "long.txt"
    path.write_text("x" * 25 + "\nshort\n")
    assert list(corpus_module.text_lines(path, 10)) == ["x" * 10, "x" * 10, "xxxxx", "short"]
    broken = tmp_path / "late.txt"
    broken.write_bytes(b"good\n" * 100_000 + b"\xff\n")
    read: Iterator[str] = documents(broken)
    assert list(islice(read, 50_000))[-1] == "good"
    with pytest.raises(SettingsError, match="cannot be read as UTF-8"):
        list(read)
