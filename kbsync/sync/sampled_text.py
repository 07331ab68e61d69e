"""Text that a model writes itself, for where no corpus is named: drawn once, kept in the home, read as any corpus."""

import json
from dataclasses import replace
from math import ceil
from pathlib import Path

from kbsync.errors import LedgerError
from kbsync.facts import content_id
from kbsync.memit.covariance import TOKENS_PER_DIMENSION, key_widths
from kbsync.models import LoadedModel, list_devices, sampled_rows
from kbsync.models.identity import model_hash, tokenizer_hash, weights_hashes
from kbsync.sync.choice import ModelChoice
from kbsync.sync.corpus import SAMPLED, documents
from kbsync.sync.covariances import no_corpus, on_record, read_records
from kbsync.sync.progress import Progress

__all__ = ["begin_token", "kept_text", "with_text"]

LENGTH = 128
"""tokens of a row, which is one document: each step copies all keys and values so far, so many short rows are fast"""
MOST_ROWS = 256
"""that are written at once, where there is memory for their keys and values"""
MEMORY_SHARE = 4
"""one part in so many of a device's free memory may go to those"""
SPARE = 1.17
"""times the covariance's tokens: a tenth of the documents is held out, and text that is read again may be shorter"""


def with_text(home: Path, choice: ModelChoice, progress: Progress) -> ModelChoice:
    """Return `choice` with a corpus: the one that is named, else text that the model writes now or wrote before.

    Where covariances of another text are on record (`stats import`) they do, and there is no corpus. Raises
    SettingsError where the model has no token that begins a text, LedgerError where the text cannot be kept.
    """
    loaded, folder = choice.loaded, home / "tensors"
    if choice.corpus is not None:
        return choice
    if any(record.corpus != SAMPLED for record in read_records(folder)):
        layers = choice.settings.layers
        found = on_record(folder, weights_hashes(loaded, layers), tokenizer_hash(loaded))
        if found is not None and found[layers[0]].corpus != SAMPLED:
            return choice
    path = sampled_file(home, choice)
    if not path.exists():
        write_text(path, choice, progress)
    return replace(choice, corpus=path)


def kept_text(home: Path, choice: ModelChoice) -> ModelChoice:
    """Return `choice` with the text that the model wrote before, where it has no corpus and there is one."""
    if choice.corpus is not None or not list((home / "corpora").glob(f"{SAMPLED}-*")):
        return choice
    path = sampled_file(home, choice)
    return replace(choice, corpus=path) if path.exists() else choice


def begin_token(loaded: LoadedModel) -> int | None:
    """Return the token that begins a text, or else ends one; None where the tokenizer has neither."""
    found: int | None = loaded.tokenizer.bos_token_id
    if found is None:
        found = loaded.tokenizer.eos_token_id
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
    try:
        partial.replace(path)
    except OSError as error:
        raise cannot_keep(path, error) from error


def keep(texts: list[str], path: Path) -> None:
    """Write texts as JSON lines, all or none."""
    new = path.with_suffix(".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
        new.replace(path)
    except OSError as error:
        raise cannot_keep(path, error) from error
    finally:
        new.unlink(missing_ok=True)


def cannot_keep(path: Path, error: OSError) -> LedgerError:
    """Return the error that tells why a text cannot be kept."""
    return LedgerError(f"cannot keep the model's text in {path.parent}: {error.strerror or error}")


def rows_at_once(loaded: LoadedModel, length: int) -> int:
    """Return for how many rows there is memory: each has a key and a value per token, block and head."""
    config = loaded.model.config.get_text_config()
    heads = config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    width = head * (getattr(config, "num_key_value_heads", None) or heads)
    row: int = 2 * config.num_hidden_layers * width * length * loaded.model.dtype.itemsize
    names = {str(device) for device in loaded.devices}
    there = list_devices()
    free = [one.free for one in there if one.name in names or one.name.partition(":")[0] in names]
    return max(1, min(MOST_ROWS, min(free or [there[-1].free]) // MEMORY_SHARE // row))
