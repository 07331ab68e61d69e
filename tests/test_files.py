"""Files that users name: no pipe, device or socket is read; a file that changes meanwhile is told."""

import os
import re
import socket
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from kbsync import files
from kbsync.datasets import open_dataset
from kbsync.errors import KbsyncError, SettingsError, SourceError, WriteError
from kbsync.files import Unchanged, writing
from kbsync.sources import Ask, open_source, read_subjects
from kbsync.sync.corpus import documents
from kbsync.sync.eval_cases import read_references
from kbsync.templates import check_file

READERS: dict[str, Callable[[Path], object]] = {
    "facts.yaml": lambda path: open_source(str(path)).read(Ask("P36")),
    "facts.csv": lambda path: open_source(str(path)).read(Ask("P36")),
    "facts.ttl": lambda path: open_source(str(path)).read(Ask("P36")),
    "subjects": read_subjects,
    "template.yaml": check_file,
    "records.json": open_dataset,
    "references.json": read_references,
    "corpus.txt": lambda path: list(documents(path)),
    "corpus.jsonl": lambda path: list(documents(path)),
    "corpus.parquet": lambda path: list(documents(path)),
}


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(("make", "said"), [(pipe, "a pipe"), (listening, "a socket"), (device, "a device")])
@pytest.mark.parametrize("name", READERS)
def test_only_regular_files_are_opened(
    name: str, make: Callable[[Path], None], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's name may not be long
    make(tmp_path / name)
    with pytest.raises(KbsyncError, match=rf"{name}: {said}, not a file; name a file"):
        READERS[name](tmp_path / name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("references.json", '{"Paris": ["a \\ud800"]}'),
        ("corpus.jsonl", '{"text": "a \\ud800"}'),
        ("references.json", "[" * 100_000),
        ("corpus.jsonl", "[" * 100_000),
    ],
)
def test_json_that_holds_no_text(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(KbsyncError, match=name):
        READERS[name](tmp_path / name)


def test_a_change_that_leaves_size_and_time_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "facts.csv"
    file.write_text("one")
    before = file.stat()
    state = Unchanged(file)

    def change() -> None:
        with state.reading():
            file.write_text("two")
            os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    with pytest.raises(SourceError, match=r"facts\.csv: changed during reading"):
        change()


def test_a_corpus_that_changes_while_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "corpus.txt"
    file.write_text("one\ntwo\n")

    def take(texts: Iterable[str]) -> None:
        for text in texts:
            file.write_text(f"{text} and more")

    with pytest.raises(SettingsError, match=r"corpus .*corpus\.txt: changed during reading"):
        take(documents(file))


def test_what_cannot_be_written_is_one_error_with_the_room(tmp_path: Path) -> None:
    path = tmp_path / "no" / "file"
    said = rf"cannot write {path}: No such file or directory \([\d,]+ MB are free in {tmp_path}\)"
    with pytest.raises(WriteError, match=said), writing(path):
        path.write_text("x")


def test_the_page_on_hostile_input_names_each_limit() -> None:
    page = Path(__file__).parents[1].joinpath("docs", "hostile-input.md").read_text(encoding="utf-8")
    every = [value for value in vars(files).values() if isinstance(value, files.Limit)]
    assert len(every) > 10
    for limit in every:
        assert f"| `{limit.variable}` | {limit.default:,} {limit.unit} |" in page
    tests = set(re.findall(r"`(tests/\S+\.py)`", page))
    assert all(Path(__file__).parents[1].joinpath(test).is_file() for test in tests)
