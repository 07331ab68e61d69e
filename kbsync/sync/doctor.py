"""Doctor: can this machine edit this model, and how long will it take? Writes nothing and needs no ledger.

Preflight: what an apply needs beside its facts, checked before the long work; each lack is one clear error.
"""

import math
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from kbsync.editors import Editor
from kbsync.editors.editor import block_at
from kbsync.errors import EditError, KbsyncError, LedgerError, ModelError, SettingsError
from kbsync.facts import EditRequest
from kbsync.ledger import Ledger
from kbsync.memit import MemitSettings
from kbsync.memit.covariance import key_widths
from kbsync.memit.extensions import estimates
from kbsync.models import (
    TEST_SUBJECTS,
    DeviceMemory,
    LoadedModel,
    ModelSizes,
    checkpoint_bytes,
    choose_device,
    list_devices,
    misplaced_subjects,
    sizes_of,
)
from kbsync.models.checkpoint import tokenizer_hash
from kbsync.sync.corpus import begin_token, documents, no_corpus
from kbsync.sync.covariances import read_records
from kbsync.sync.home import AS_STORED, Loading, Progress, model_name, silent
from kbsync.sync.model import ModelChoice, choose_model, source_of

_FLOAT, _DOUBLE = 4, 8


def check_before_load(home: Path, model: str, loading: Loading) -> None:
    """Raise ModelError where a model's weights do not fit on the device that it is to be loaded on."""
    if loading.device != "auto" and (reason := too_large(source_of(model, home), loading, list_devices())):
        raise ModelError(reason)


def check_before_work(ledger: Ledger, choice: ModelChoice, editor: Editor, edits: int) -> None:
    """Check what writing `edits` edits needs: text or a covariance, room on the disk, memory for the solve."""
    if not edits or not editor.covariance:
        return
    layer = getattr(editor.settings, "layer", None)
    wanted = choice.settings.layers if layer is None else (block_at(choice.loaded, layer, 0.0),)
    missing = _missing_covariances(ledger.tensors, choice, wanted)
    m, d = max(key_widths(choice.loaded, wanted).values()), choice.loaded.weight(0).shape[0]
    sums = missing * m * m * (_FLOAT + _DOUBLE)
    files = missing * m * (m + 1) // 2 * _DOUBLE + edits * _FLOAT * (d + len(wanted) * (d + m))
    free, needed = shutil.disk_usage(ledger.home).free, max(sums, 3 * m * m * _DOUBLE)
    if files > free:
        raise LedgerError(
            f"{ledger.home} has {free / 2**30:.1f} GB of disk free, but this apply writes about {files / 2**30:.1f} GB:"
            " make room, or choose another --home"
        )
    room = memory_of(choice.loaded.device, list_devices()) if len(choice.loaded.devices) == 1 else None
    if room is not None and needed > room.free:
        raise EditError(
            f"{room.name} has {room.free / 2**30:.1f} GB free, and the solve takes about {needed / 2**30:.1f} GB beside"
            " the weights: free some, or use another --device; `kbsync doctor` shows what each phase needs"
        )


def _missing_covariances(folder: Path, choice: ModelChoice, layers: Sequence[int]) -> int:
    """Return of how many layers C has to be collected; SettingsError where there is no text for it."""
    if choice.corpus is not None and next(filter(str.strip, documents(choice.corpus)), None) is None:
        raise SettingsError(f"corpus {choice.corpus} holds no text: name another with --corpus")
    tokenizer = tokenizer_hash(choice.loaded)
    missing = set(layers) - {record.layer for record in read_records(folder) if record.tokenizer == tokenizer}
    if missing and choice.corpus is None and begin_token(choice.loaded) is None:
        raise no_corpus(choice.name)
    # Whether those on record are of these very weights, which takes a hash of them all, shows when they are read.
    return len(missing)


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

    def tokens(text: str) -> int:
        return len(loaded.tokenizer(text, verbose=False)["input_ids"])

    room = loaded.positions - ROOM - max(map(tokens, contexts), default=0)
    long = []
    for one in requests:
        texts = [f"{text.format(one.subject)} {one.target}" for text in (one.prompt, *one.paraphrases)]
        # A token has a byte at least, so most texts need not be cut into tokens.
        longest = max((tokens(text) for text in texts if len(text.encode()) > room), default=0)
        if longest > room:
            subject = one.subject if len(one.subject) <= 40 else f"{one.subject[:40]}..."
            long.append(f"{one.relation} of {subject!r} ({longest} tokens)")
    if long:
        told = ", ".join(long[:SHOWN])
        more = f" and {len(long) - SHOWN} more" if len(long) > SHOWN else ""
        raise EditError(
            f"too long for {loaded.source}, which takes at most {room} tokens: {told}{more}; "
            "shorten the labels in the source, or leave the facts out with `kbsync retract`"
        )


TOKENS_A_DIMENSION = 10
"""tokens of text for each of the m dimensions of a covariance (DESIGN section 2.4)"""


def doctor(
    home: Path, model: str, edits: int, *, loading: Loading = AS_STORED, progress: Progress = silent
) -> dict[str, Any]:
    """Examine a model for `edits` edits; what cannot work is a finding (`works`, `problems`), not an error.

    The findings have the keys of the JSON; what was not come to is empty. Presets of `home` are known; nothing there is
    written, and there need be no such folder.
    """
    there = list_devices()
    found: dict[str, Any] = {
        "model": model_name(model, home),
        "edits": edits,
        "works": False,
        "problems": [],
        "remarks": [],
        "devices": in_mb(there),
        "loads": None,
        "memory": [],  # of each phase, beside the weights
        "seconds": {},  # by phase
        "rates": {},  # what these rest on: targets and tokens a second, 1e9 operations a second
        "tokenizer": {"subjects": 0, "misplaced": []},
    }
    try:
        reason = too_large(source_of(model, home), loading, there)
        choice = None if reason else choose_model(model, home=home, loading=loading, progress=progress)
    except KbsyncError as error:
        choice, reason = None, str(error)
    if choice is None:
        return found | {"problems": [reason]}
    examine(choice, found, progress)
    return found | {"works": not found["problems"]}


def in_mb(there: Sequence[DeviceMemory]) -> list[dict[str, Any]]:
    return [
        {"name": one.name, "about": one.about, "total_mb": round(one.total / 2**20), "free_mb": round(one.free / 2**20)}
        for one in there
    ]


def examine(choice: ModelChoice, found: dict[str, Any], progress: Progress) -> None:
    """Add the findings on a loaded model."""
    loaded, settings, sizes = choice.loaded, choice.settings, sizes_of(choice.loaded)
    edits, problems, remarks = found["edits"], found["problems"], found["remarks"]
    progress("trying difficult subjects", 0, 1)
    misplaced = misplaced_subjects(loaded.tokenizer)
    progress("trying difficult subjects", 1, 1)
    tried = {"subjects": len(TEST_SUBJECTS), "misplaced": misplaced}
    found |= {"devices": in_mb(list_devices()), "loads": loads_of(choice, sizes), "tokenizer": tried}
    if subjects := list(dict.fromkeys(one.subject for one in misplaced)):
        problems.append(
            f"the last token of {len(subjects)} of {len(TEST_SUBJECTS)} difficult subjects is not found, such as"
            f" {subjects[0]!r}: edits of such subjects would go wrong"
        )
    try:
        progress("trial", 0, 3)
        found["seconds"], found["rates"] = expected(loaded, settings, sizes, edits, progress)
        found["memory"] = fitting(loaded, settings, sizes, edits)
    except EditError as error:
        problems.append(str(error))
    problems += [
        f"the {row['phase']} needs {row['total_mb']:,.0f} MB, more than there is: edit fewer facts, or use a"
        " smaller --dtype or another --device"
        for row in found["memory"]
        if not row["fits"]
    ]
    if edits > sizes.m:
        remarks.append(f"{edits:,} edits are more than the {sizes.m:,} keys that a layer can distinguish")
    if sizes.positions is not None and settings.sequence_length > sizes.positions:
        remarks.append(
            f"the covariance's sequence_length, {settings.sequence_length}, is more than the model's {sizes.positions}"
            f" positions: give apply --set sequence_length={sizes.positions}"
        )


def loads_of(choice: ModelChoice, sizes: ModelSizes) -> dict[str, Any]:
    loaded, tokenizer = choice.loaded, choice.loaded.tokenizer
    ids = tokenizer("x")["input_ids"]
    return {
        "source": loaded.source,
        "architecture": loaded.architecture,
        "family": loaded.family.name,
        "blocks": sizes.blocks,
        "d": sizes.d,
        "m": sizes.m,
        "vocabulary": sizes.vocabulary,
        "tied_head": sizes.tied_head,
        "tokenizer": f"{type(tokenizer).__name__} ({type(tokenizer.backend_tokenizer.model).__name__})",
        # what the tokenizer puts before each text
        "bos": str(tokenizer.decode(ids[:1])) if ids and ids[0] in tokenizer.all_special_ids else None,
        "chat_template": bool(tokenizer.chat_template),
        "device": str(loaded.device),
        "dtype": str(loaded.model.dtype).removeprefix("torch."),
        "weights_mb": megabytes(sizes.weights_bytes),
        "layers": choice.settings.layers,
        "remark": choice.remark,
    }


def expected(
    loaded: LoadedModel, settings: MemitSettings, sizes: ModelSizes, edits: int, progress: Progress
) -> tuple[dict[str, float], dict[str, float]]:
    """Return seconds by phase for `edits` edits, and the rates that were measured for it."""
    costs = estimates.target_costs(loaded, settings)
    progress("trial", 1, 3)
    length = min(settings.sequence_length, sizes.positions or settings.sequence_length)
    tokens = estimates.token_rate(loaded, settings, length)
    progress("trial", 2, 3)
    operations = estimates.solve_rate(loaded.device, sizes.m)
    progress("trial", 3, 3)
    request = costs.seconds(settings.steps)
    work = estimates.solve_operations(sizes, len(settings.layers), settings.sweeps, edits)
    seconds = {
        "covariance": TOKENS_A_DIMENSION * sizes.m / tokens,
        "targets": edits * request,
        "solve": work / operations,
    }
    rates = {"targets": 1 / request, "covariance_tokens": tokens, "solve_gflops": operations / 1e9}
    return seconds, rates


def fitting(loaded: LoadedModel, settings: MemitSettings, sizes: ModelSizes, edits: int) -> list[dict[str, Any]]:
    """Return each phase's memory, by part and in all, and whether it fits.

    Targets fit if one request does, as batches halve where memory ends; a solve fits on the CPU, too.
    """
    rows = estimates.trial_rows(loaded, settings)
    graph, there = estimates.graph_bytes(loaded, settings), list_devices()
    room = memory_of(loaded.device, there).free
    about, keeps = (sizes, len(settings.layers), edits, rows), settings.rest_weight > 0
    whole, least = (
        estimates.memory_needs(*about, together, graph, keeps=keeps)
        for together in (estimates.target_batch(loaded.device.type, edits, rows), 1)
    )
    made = []
    for phase in dict.fromkeys(need.phase for need in whole):
        parts = {need.what: megabytes(need.bytes) for need in whole if need.phase == phase}
        total, lowest = (sum(need.bytes for need in some if need.phase == phase) for some in (whole, least))
        most = max(one.free for one in there) if phase == "solve" else room
        made.append({"phase": phase, "what": parts, "total_mb": megabytes(total), "fits": lowest <= most})
    return made


def megabytes(count: int) -> float:
    """Return bytes as MB (2^20), with a digit that says something of small ones."""
    value = count / 2**20
    return round(value, 1 if value >= 1 else 1 - math.floor(math.log10(value))) if value else 0.0
