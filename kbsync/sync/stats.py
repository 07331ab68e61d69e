"""Stats: the covariances of a model's edited layers as a table, and as one file that is handed on and checked.

The file's header holds a record for each layer with the SHA-256 of its tensor, and a seal over all of it, so that a
file that was cut or changed anywhere is refused.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from kbsync.errors import LedgerError, SettingsError
from kbsync.facts import content_id
from kbsync.ledger import Ledger, read_metadata, read_tensors, replace_tensors, write_tensors
from kbsync.models.checkpoint import tokenizer_hash, weights_hashes
from kbsync.sync.corpus import settle_stdin
from kbsync.sync.covariances import UPPER, CovarianceRecord, Covariances, covariances_for, with_text
from kbsync.sync.home import AS_STORED, Loading, Progress
from kbsync.sync.model import ModelChoice, choose_model

EIGENVALUES_UP_TO = 2048
"""m up to which the eigenvalues take about a second"""


@dataclass(frozen=True, slots=True)
class StatsOptions:
    model: str
    corpus: Path | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    """settings by name"""
    loading: Loading = AS_STORED


@dataclass(frozen=True, slots=True)
class LayerStats:
    layer: int
    m: int
    tokens: int
    change: float | None
    """relative change since half the tokens"""
    condition: float | None
    """largest eigenvalue over the smallest; None for a large m"""
    seconds: float
    """of the pass that collected it"""
    cached: bool
    """whether it was on record"""
    file: str


@dataclass(frozen=True, slots=True)
class Stats:
    model: str
    corpus: str
    length: int
    """tokens of a row"""
    layers: tuple[LayerStats, ...]
    remark: str | None


def covariances_of(home: Path, options: StatsOptions, progress: Progress) -> tuple[ModelChoice, Covariances]:
    """Return a model with the covariances of its edited layers, collected where they are not on record."""
    corpus = settle_stdin(options.corpus, home)
    choice = choose_model(
        options.model, options.values, home=home, loading=options.loading, corpus=corpus, progress=progress
    )
    with Ledger.open(home) as ledger:
        choice = with_text(ledger.home, choice, progress)
        return choice, covariances_for(ledger.tensors, choice, progress)


def stats(home: Path, options: StatsOptions, progress: Progress) -> Stats:
    """Return the table; raises SettingsError where there is neither a corpus nor a covariance on record."""
    choice, covariances = covariances_of(home, options, progress)
    first, rows = covariances.records[choice.settings.layers[0]], []
    for layer, record in covariances.records.items():
        number = condition(covariances[layer]) if record.m <= EIGENVALUES_UP_TO else None
        where = (layer in covariances.cached, record.path(covariances.folder).name)
        rows.append(LayerStats(layer, record.m, record.tokens, record.change, number, record.seconds, *where))
    return Stats(choice.name, first.corpus, first.length, tuple(rows), choice.remark)


def condition(covariance: torch.Tensor) -> float | None:
    values = torch.linalg.eigvalsh(covariance)
    return float(values[-1] / values[0]) if values[0] > 0 else None


@dataclass(frozen=True, slots=True)
class SharedCovariances:
    """What a shared file holds; `new` layers were not on record before an import."""

    file: Path
    model: str
    corpus: str
    tokens: int
    layers: tuple[int, ...]
    new: tuple[int, ...] = ()


def export_covariances(home: Path, file: Path, options: StatsOptions, progress: Progress) -> SharedCovariances:
    if file.exists():
        raise SettingsError(f"{file} exists already: name a new file")
    _, covariances = covariances_of(home, options, progress)
    tensors = {f"{UPPER}.{layer}": covariances.packed(layer) for layer in covariances}
    rows = [
        record.metadata() | {"sha256": tensor_hash(tensors[f"{UPPER}.{layer}"])}
        for layer, record in covariances.records.items()
    ]
    replace_tensors(file, tensors, {"covariances": json.dumps(rows), "seal": content_id("seal1", rows)}, sealed=False)
    return summary(file, list(covariances.records.values()))


def import_covariances(home: Path, file: Path, model: str | None, loading: Loading = AS_STORED) -> SharedCovariances:
    """Check the file and put its covariances on record, all or none; with `model`, only if they are that model's."""
    records, tensors = read_shared(file)
    if model is not None:
        choice = choose_model(model, home=home, loading=loading)
        weights = weights_hashes(choice.loaded, range(len(choice.loaded.family.block_list(choice.loaded.model))))
        tokenizer = tokenizer_hash(choice.loaded)
        for record in records:
            if weights.get(record.layer) != record.weights or tokenizer != record.tokenizer:
                raise SettingsError(
                    f"{file} is of the model {record.model}; {choice.name} has other weights up to layer"
                    f" {record.layer}, or another tokenizer"
                )
    new = []
    with Ledger.open(home) as ledger:
        for record in records:
            if not record.path(ledger.tensors).exists():
                upper = {UPPER: tensors[f"{UPPER}.{record.layer}"]}
                write_tensors(ledger.tensors, upper, record.metadata(), record.key)
                new.append(record.layer)
    return summary(file, records, tuple(new))


def read_shared(file: Path) -> tuple[list[CovarianceRecord], dict[str, torch.Tensor]]:
    """Return what a shared file holds, every hash of it checked."""
    if not file.is_file():
        raise SettingsError(f"{file} does not exist")
    again = "nothing was imported; get the file again"
    try:
        metadata, tensors = read_metadata(file), read_tensors(file)
    except LedgerError as error:
        raise SettingsError(f"{file} is cut or damaged, or no safetensors file: {again}") from error
    if not metadata.keys() >= {"covariances", "seal"}:
        raise SettingsError(f"{file} holds no covariances: `kbsync stats export` writes such files")
    changed = f"{file} was changed after the export"
    try:
        rows = json.loads(metadata["covariances"])
        records = [CovarianceRecord.of(row) for row in rows]
    except (ValueError, TypeError) as error:
        raise SettingsError(f"{changed}, its header cannot be read ({error}): {again}") from error
    if content_id("seal1", rows) != metadata["seal"]:
        raise SettingsError(f"{changed}, in its header: {again}")
    for row, record in zip(rows, records, strict=True):
        tensor = tensors.get(f"{UPPER}.{record.layer}")
        if tensor is None or tensor_hash(tensor) != row["sha256"]:
            raise SettingsError(f"{changed}, in the covariance of layer {record.layer}: {again}")
    return records, tensors


def summary(file: Path, records: list[CovarianceRecord], new: tuple[int, ...] = ()) -> SharedCovariances:
    first, layers = records[0], tuple(record.layer for record in records)
    return SharedCovariances(file, first.model, first.corpus, first.tokens, layers, new)


def tensor_hash(tensor: torch.Tensor) -> str:
    digest = hashlib.sha256(f"{tensor.dtype} {list(tensor.shape)}".encode())
    digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
