"""Corpora, read one document after another: files, data sets, stdin, and text that the model writes itself.

Nothing is held but the document at hand, so a corpus may be larger than memory.
"""

import hashlib
import json
import os
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any, BinaryIO

from kbsync.errors import SettingsError, SourceError, foreign
from kbsync.facts import content_id
from kbsync.files import LINE, Unchanged, is_text, writing
from kbsync.memit.covariance import TOKENS_PER_DIMENSION, key_widths
from kbsync.models import LoadedModel, list_devices, sampled_rows
from kbsync.models.checkpoint import model_hash
from kbsync.sync.home import Progress
from kbsync.sync.model import ModelChoice

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
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                while part := given.read(CHUNK):
                    digest.update(part)
                    file.write(part)
            return partial.replace(folder / f"stdin-{digest.hexdigest()[:16]}.txt")
        finally:
            partial.unlink(missing_ok=True)


def documents(corpus: Path | str) -> Iterator[str]:
    """Yield the documents of a corpus.

    A file is read by its ending: ``.jsonl`` a document an object, ``.parquet`` a document a row, any other a document a
    line. What is no file is a Hugging Face data set, ``name`` or ``name:config``, whose split ``train`` is streamed; a
    folder with such files may stand in for its name. Of several fields the text is `text`, else the only string.
    """
    path, named = Path(corpus), str(corpus)
    if path.exists() and not path.is_dir():
        readers = {".jsonl": json_lines, ".parquet": parquet_rows}
        return _unchanged(path, readers.get(path.suffix.lower(), text_lines)(path))
    if not path.is_dir() and (named.startswith((".", "/", "~")) or path.suffix.lower() in FILE_ENDINGS):
        raise SettingsError(f"corpus {named} does not exist")
    return data_set(named)


def _unchanged(path: Path, texts: Iterator[str]) -> Iterator[str]:
    """Yield the documents of a file; SettingsError where it is none, or has changed when its last one was read."""
    try:
        with Unchanged(path).reading():
            yield from texts
    except SourceError as error:
        raise SettingsError(f"corpus {error}") from error


def covariance_documents(corpus: Path | str) -> Iterator[str]:
    """Yield the documents that a covariance is taken over: those with text, without `held_out_documents`."""
    return (text for place, text in enumerate(filter(str.strip, documents(corpus))) if place % HELD_OUT != 1)


def held_out_documents(corpus: Path | str) -> Iterator[str]:
    """Yield the documents that perplexity is measured on, which no covariance of this corpus reads.

    A corpus of one document is read for both.
    """
    texts = filter(str.strip, documents(corpus))
    first, second = list(islice(texts, 1)), list(islice(texts, 1))
    yield from second or first
    yield from islice(texts, HELD_OUT - 1, None, HELD_OUT)


def text_lines(path: Path, longest: int = LONGEST) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8") as file:
            while line := file.readline(longest):
                yield line.removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"corpus {path} cannot be read as UTF-8 text: {error}") from error


def json_lines(path: Path) -> Iterator[str]:
    for number, line in enumerate(text_lines(path, longest=LINE.bytes), 1):
        if not line.strip():
            continue
        where = f"corpus {path}, line {number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise SettingsError(f"{where} is not JSON: {error}") from error
        if not isinstance(record, dict):
            raise SettingsError(f'{where} is not an object such as {{"text": "..."}}')
        text = text_of(record, where)
        if not is_text(text):
            raise SettingsError(f"{where} holds half of a surrogate pair: write the character itself")
        yield text


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
    try:
        import datasets
    except ImportError:
        raise missing_package(named, "a Hugging Face data set (there is no such file)", "datasets") from None
    name, _, config = named.partition(":")
    datasets.disable_progress_bars()
    unreadable = f"corpus {named} is no file, and as a data set it cannot be read"
    with foreign(lambda reason: SettingsError(f"{unreadable}: {reason}")):
        rows = datasets.load_dataset(name, config or None, split="train", streaming=True)
        for number, row in enumerate(rows, 1):
            yield text_of(row, f"corpus {named}, row {number}")


def text_of(record: Mapping[str, Any], where: str) -> str:
    """Return the text of a record: none where nothing is said in its place."""
    strings = [name for name, value in record.items() if isinstance(value, str)]
    if record.get("text", "") is None or (not strings and None in record.values()):
        return ""
    return str(record[text_field(strings, where)])


def text_field(strings: Sequence[str], where: str) -> str:
    if "text" in strings:
        return "text"
    if len(strings) != 1:
        found = f"several strings ({', '.join(strings)})" if strings else "no string"
        raise SettingsError(f"{where} has no field `text`, and {found}: name its text `text`")
    return strings[0]


def missing_package(corpus: Path | str, what: str, package: str) -> SettingsError:
    return SettingsError(
        f"corpus {corpus}: to read {what}, the package {package} is needed: pip install 'kbsync[corpora]'"
    )


LENGTH = 128
"""tokens of a row, which is one document: each step copies all keys and values so far, so many short rows are fast"""
MOST_ROWS = 256
"""that are written at once, where there is memory for their keys and values"""
SAMPLING_SHARE = 4
"""one part in so many of a device's free memory may go to those"""
SPARE = 1.17
"""times the covariance's tokens: a tenth of the documents is held out, and text that is read again may be shorter"""


def begin_token(loaded: LoadedModel) -> int | None:
    """Return the token that begins a text, or else ends one; None where the tokenizer has neither."""
    tokenizer = loaded.tokenizer
    found: int | None = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    return found


def shape(choice: ModelChoice) -> tuple[int, int]:
    """Return how many rows of text the settings ask for, and their tokens; the token that begins each counts."""
    length = min(LENGTH, choice.loaded.positions or LENGTH)
    m = max(key_widths(choice.loaded, choice.settings.layers).values())
    wanted = choice.settings.covariance_tokens or TOKENS_PER_DIMENSION * m
    return 1 + ceil(SPARE * wanted / (length - 1)), length


def sampled_file(home: Path, choice: ModelChoice) -> Path:
    """Return where a model's text lies: its name is the hash of all that the text depends on."""
    key = content_id("sampled1", [model_hash(choice.loaded), begin_token(choice.loaded), *shape(choice)])
    return home / "corpora" / f"{SAMPLED}-{key.partition(':')[2][:16]}.jsonl"


def write_text(path: Path, choice: ModelChoice, progress: Progress) -> None:
    """Let the model write the text, and keep it; a run that was killed goes on behind its last batch of rows."""
    loaded, (rows, length) = choice.loaded, shape(choice)
    begin = begin_token(loaded)
    if begin is None:
        raise no_corpus(choice.name)
    partial = path.with_name(f"{path.stem}.partial.jsonl")
    texts = list(documents(partial)) if partial.exists() else []
    batches = ceil((rows - len(texts)) / rows_at_once(loaded, length))
    total = rows * (length - 1)
    for left in range(batches, 0, -1):
        first = len(texts)
        seeds = range(first, first + ceil((rows - first) / left))

        def told(tokens: int, first: int = first) -> None:
            progress("sampling text from the model", first * (length - 1) + tokens, total)

        for row in sampled_rows(loaded, begin, length - 1, seeds, told).tolist():
            texts.append(str(loaded.tokenizer.decode(row, clean_up_tokenization_spaces=False)))
        keep(texts, partial)
    with writing(path.parent):
        partial.replace(path)


def keep(texts: list[str], path: Path) -> None:
    """Write texts as JSON lines, all or none."""
    new = path.with_suffix(".new")
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            new.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)


def rows_at_once(loaded: LoadedModel, length: int) -> int:
    """Return for how many rows there is memory: each has a key and a value per token, block and head."""
    config = loaded.model.config.get_text_config()
    heads = config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    width = head * (getattr(config, "num_key_value_heads", None) or heads)
    row: int = 2 * config.num_hidden_layers * width * length * loaded.model.dtype.itemsize
    names, there = {str(device) for device in loaded.devices}, list_devices()
    free = [one.free for one in there if one.name in names or one.name.partition(":")[0] in names]
    return max(1, min(MOST_ROWS, min(free or [there[-1].free]) // SAMPLING_SHARE // row))


def no_corpus(model: str) -> SettingsError:
    return SettingsError(
        f"{model} has no corpus, and its tokenizer no token that begins or ends a text, from which it could write one:"
        " name a text for its covariance, such as --corpus text.txt, or get one that is collected already (kbsync stats"
        " import)"
    )
