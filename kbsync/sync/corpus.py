"""Corpora: text files, JSON lines, Parquet, Hugging Face data sets and stdin, read one document after another.

Nothing is held but the document at hand, so a corpus may be larger than memory.
"""

import hashlib
import json
import os
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from kbsync.errors import KbsyncError, LedgerError, SettingsError

__all__ = ["corpus_name", "covariance_documents", "documents", "held_out_documents", "settle_stdin"]

LONGEST = 1 << 20
"""characters of a line that are read as one document; a longer line makes several"""
CHUNK = 1 << 20
SAMPLED = "sampled"
"""what the record calls text that a model wrote itself; its file in a home's corpora begins with it"""
HELD_OUT = 10
"""of so many documents with text, the second is held out of the covariance; perplexity is measured on those"""
FILE_ENDINGS = (".txt", ".jsonl", ".parquet")


def corpus_name(corpus: Path | str) -> str:
    """Return what the record calls a corpus: a file's name without its folder, the data set's name, or `SAMPLED`."""
    path = Path(corpus)
    if path.parent.name == "corpora" and path.name.startswith(f"{SAMPLED}-"):
        return SAMPLED
    return path.name if path.exists() else str(corpus)


def settle_stdin(corpus: Path | None, home: Path, stdin: BinaryIO | None = None) -> Path | None:
    """Return `corpus`, but for ``-``: what stdin gives is kept in the home, under its hash, and read from there."""
    if corpus is None or str(corpus) != "-":
        return corpus
    folder = home / "corpora"
    partial = folder / f".{os.getpid()}-{secrets.token_hex(4)}.partial"
    given, digest = stdin or sys.stdin.buffer, hashlib.sha256()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                while part := given.read(CHUNK):
                    digest.update(part)
                    file.write(part)
            kept = folder / f"stdin-{digest.hexdigest()[:16]}.txt"
            partial.replace(kept)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise LedgerError(f"cannot keep the corpus from stdin in {folder}: {error.strerror or error}") from error
    return kept


def documents(corpus: Path | str) -> Iterator[str]:
    """Yield the documents of a corpus.

    A file is read by its ending: ``.jsonl`` a document an object, ``.parquet`` a document a row, any other a document
    a line. What is no file is a Hugging Face data set, ``name`` or ``name:config``, whose split ``train`` is streamed;
    a folder with such files may stand in for its name. Of several fields the text is `text`, else the only string.
    Raises SettingsError where it cannot be read.
    """
    path = Path(corpus)
    if path.is_file():
        readers = {".jsonl": json_lines, ".parquet": parquet_rows}
        return readers.get(path.suffix.lower(), text_lines)(path)
    named = str(corpus)
    if not path.is_dir() and (named.startswith((".", "/", "~")) or path.suffix.lower() in FILE_ENDINGS):
        raise SettingsError(f"corpus {named} does not exist")
    return data_set(named)


def covariance_documents(corpus: Path | str) -> Iterator[str]:
    """Yield the documents that a covariance is taken over: those with text, without `held_out_documents`."""
    return (text for place, text in enumerate(_with_text(corpus)) if place % HELD_OUT != 1)


def held_out_documents(corpus: Path | str) -> Iterator[str]:
    """Yield the documents that perplexity is measured on, which no covariance of this corpus reads.

    A corpus of one document is read for both.
    """
    texts = _with_text(corpus)
    first, second = list(islice(texts, 1)), list(islice(texts, 1))
    yield from second or first
    yield from islice(texts, HELD_OUT - 1, None, HELD_OUT)


def _with_text(corpus: Path | str) -> Iterator[str]:
    return (text for text in documents(corpus) if text.strip())


def text_lines(path: Path, longest: int = LONGEST) -> Iterator[str]:
    """Yield the lines of a UTF-8 file, longer ones in pieces."""
    try:
        with path.open(encoding="utf-8") as file:
            while line := file.readline(longest):
                yield line.removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"corpus {path} cannot be read as UTF-8 text: {error}") from error


def json_lines(path: Path) -> Iterator[str]:
    """Yield the text of each object of a JSON lines file."""
    for number, line in enumerate(text_lines(path, longest=-1), 1):
        if not line.strip():
            continue
        where = f"corpus {path}, line {number}"
        try:
            record = json.loads(line)
        except ValueError as error:
            raise SettingsError(f"{where} is not JSON: {error}") from error
        if not isinstance(record, dict):
            raise SettingsError(f'{where} is not an object such as {{"text": "..."}}')
        yield text_of(record, where)


def parquet_rows(path: Path) -> Iterator[str]:
    """Yield the text of each row of a Parquet file; rows without one are left out."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise missing_package(path, "a Parquet file", "pyarrow") from None
    try:
        with parquet.ParquetFile(path) as file:
            strings = [
                field.name
                for field in file.schema_arrow
                if pyarrow.types.is_string(field.type) or pyarrow.types.is_large_string(field.type)
            ]
            column = text_field(strings, f"corpus {path}")
            for batch in file.iter_batches(batch_size=256, columns=[column]):
                for text in batch.column(0).to_pylist():
                    yield text or ""
    except (OSError, pyarrow.ArrowException) as error:
        raise SettingsError(f"corpus {path} cannot be read as Parquet: {error}") from error


def data_set(named: str) -> Iterator[str]:
    """Yield the text of each row of a Hugging Face data set's split ``train``."""
    try:
        import datasets
    except ImportError:
        raise missing_package(named, "a Hugging Face data set (there is no such file)", "datasets") from None
    name, _, config = named.partition(":")
    datasets.disable_progress_bars()
    try:
        rows = datasets.load_dataset(name, config or None, split="train", streaming=True)
        for number, row in enumerate(rows, 1):
            yield text_of(row, f"corpus {named}, row {number}")
    except KbsyncError:
        raise
    except Exception as error:  # the hub, the net, the files and their formats each fail in their own way
        reason = " ".join(str(error).split())[:300]
        raise SettingsError(f"corpus {named} is no file, and as a data set it cannot be read: {reason}") from error


def text_of(record: Mapping[str, Any], where: str) -> str:
    """Return the text of a record: none where nothing is said in its place."""
    strings = [name for name, value in record.items() if isinstance(value, str)]
    if record.get("text", "") is None or (not strings and None in record.values()):
        return ""
    text: str = record[text_field(strings, where)]
    return text


def text_field(strings: Sequence[str], where: str) -> str:
    """Return which of the string fields is the text."""
    if "text" in strings:
        return "text"
    if len(strings) != 1:
        found = f"several strings ({', '.join(strings)})" if strings else "no string"
        raise SettingsError(f"{where} has no field `text`, and {found}: name its text `text`")
    return strings[0]


def missing_package(corpus: Path | str, what: str, package: str) -> SettingsError:
    """Return the error that tells how to read such a corpus."""
    return SettingsError(
        f"corpus {corpus}: to read {what}, the package {package} is needed: pip install 'kbsync[corpora]'"
    )
