"""Preflight: what an apply needs beside its facts, checked before the long work; each lack is one clear error.

The lock is taken before all of it (`Ledger.writer`), and a setting that does not exist shows when the model is chosen.
"""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch

from kbsync.editors import Editor
from kbsync.editors.editor import block_at
from kbsync.errors import EditError, LedgerError, ModelError, SettingsError
from kbsync.facts import EditRequest
from kbsync.ledger import Ledger
from kbsync.memit.covariance import key_widths
from kbsync.models import DeviceMemory, LoadedModel, checkpoint_bytes, choose_device, list_devices
from kbsync.models.checkpoint import tokenizer_hash
from kbsync.sync.corpus import begin_token, documents, no_corpus
from kbsync.sync.covariances import read_records
from kbsync.sync.home import Loading
from kbsync.sync.model import ModelChoice, source_of

_AUTO = "auto"
_FLOAT, _DOUBLE = 4, 8


def check_before_load(home: Path, model: str, loading: Loading) -> None:
    """Raise ModelError where a model's weights do not fit on the device that it is to be loaded on."""
    if loading.device != _AUTO and (reason := too_large(source_of(model, home), loading, list_devices())):
        raise ModelError(reason)


def check_before_work(ledger: Ledger, choice: ModelChoice, editor: Editor, edits: int) -> None:
    """Check what writing `edits` edits needs: text or a covariance, room on the disk, memory for the solve.

    Raises SettingsError, LedgerError and EditError.
    """
    if not edits or not editor.covariance:
        return
    wanted = _layers_of(editor, choice)
    missing = _missing_covariances(ledger.tensors, choice, wanted)
    m, d = max(key_widths(choice.loaded, wanted).values()), choice.loaded.weight(0).shape[0]
    sums = missing * m * m * (_FLOAT + _DOUBLE)
    files = missing * m * (m + 1) // 2 * _DOUBLE + edits * _FLOAT * (d + len(wanted) * (d + m))
    _check_disk(ledger.home, files)
    _check_memory(choice, max(sums, 3 * m * m * _DOUBLE))


def _layers_of(editor: Editor, choice: ModelChoice) -> tuple[int, ...]:
    layer = getattr(editor.settings, "layer", None)
    return choice.settings.layers if layer is None else (block_at(choice.loaded, layer, 0.0),)


def _missing_covariances(folder: Path, choice: ModelChoice, layers: Sequence[int]) -> int:
    """Return of how many layers C has to be collected; SettingsError where there is no text for it."""
    if choice.corpus is not None:
        if next(filter(str.strip, documents(choice.corpus)), None) is None:
            raise SettingsError(f"corpus {choice.corpus} holds no text: name another with --corpus")
        tokenizer = tokenizer_hash(choice.loaded)
        on_record = {record.layer for record in read_records(folder) if record.tokenizer == tokenizer}
        return len(set(layers) - on_record)
    tokenizer = tokenizer_hash(choice.loaded)
    missing = set(layers) - {record.layer for record in read_records(folder) if record.tokenizer == tokenizer}
    if missing and begin_token(choice.loaded) is None:
        raise no_corpus(choice.name)
    # Whether those on record are of these very weights, which takes a hash of them all, shows when they are read.
    return len(missing)


def _check_disk(home: Path, needed: int) -> None:
    free = shutil.disk_usage(home).free
    if needed > free:
        raise LedgerError(
            f"{home} has {free / 2**30:.1f} GB of disk free, but this apply writes about {needed / 2**30:.1f} GB: make"
            " room, or choose another --home"
        )


def _check_memory(choice: ModelChoice, needed: int) -> None:
    if len(choice.loaded.devices) > 1:
        return
    room = memory_of(choice.loaded.device, list_devices())
    if needed > room.free:
        raise EditError(
            f"{room.name} has {room.free / 2**30:.1f} GB free, and the solve takes about {needed / 2**30:.1f} GB beside"
            " the weights: free some, or use another --device; `kbsync doctor` shows what each phase needs"
        )


def too_large(source: str, loading: Loading, there: Sequence[DeviceMemory]) -> str | None:
    """Return why the weights will not fit on the device, or None."""
    where = choose_device(loading.device)
    needed = checkpoint_bytes(source, where, loading.dtype)
    room = memory_of(where, there)
    if needed is None or needed <= room.free:
        return None
    return (
        f"{source} has {needed / 2**30:.1f} GB of weights and {room.name} has {room.free / 2**30:.1f} GB free: use a"
        " smaller --dtype or another --device"
    )


def memory_of(device: torch.device, there: Sequence[DeviceMemory]) -> DeviceMemory:
    """Return the entry of `device`; without a number it is the first of its kind."""
    return next(one for one in there if one.name == str(device) or one.name.partition(":")[0] == str(device))


ROOM = 32
"""positions kept free for an answer of the model's own"""
SHOWN = 3


def check_lengths(loaded: LoadedModel, requests: Iterable[EditRequest], contexts: Iterable[str]) -> None:
    """Raise EditError, with the first few and what to do, where a request is too long for the model.

    What is counted is the longest of `contexts` with the longest of a request's texts and its object. A model whose
    positions have no end takes anything.
    """
    if loaded.positions is None:
        return
    room = loaded.positions - ROOM - max((_tokens(loaded, text) for text in contexts), default=0)
    long = [(request, count) for request in requests if (count := _longest(loaded, request, room)) > room]
    if long:
        told = ", ".join(f"{one.relation} of {_short(one.subject)!r} ({count} tokens)" for one, count in long[:SHOWN])
        more = f" and {len(long) - SHOWN} more" if len(long) > SHOWN else ""
        raise EditError(
            f"too long for {loaded.source}, which takes at most {room} tokens: {told}{more}; "
            "shorten the labels in the source, or leave the facts out with `kbsync retract`"
        )


def _longest(loaded: LoadedModel, request: EditRequest, room: int) -> int:
    """Return the tokens of a request's longest text; 0 where no text can be over `room`."""
    # A token has a byte at least, so most texts need not be cut into tokens.
    return max((_tokens(loaded, text) for text in _texts(request) if len(text.encode()) > room), default=0)


def _texts(request: EditRequest) -> Iterator[str]:
    for text in (request.prompt, *request.paraphrases):
        yield f"{text.format(request.subject)} {request.target}"


def _tokens(loaded: LoadedModel, text: str) -> int:
    return len(loaded.tokenizer(text, verbose=False)["input_ids"])


def _short(label: str) -> str:
    return label if len(label) <= 40 else f"{label[:40]}..."
