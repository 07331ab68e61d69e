"""Stats: the covariances of a model's edited layers as a table, and as one file that is handed on and checked.

The file's header holds a record for each layer with the SHA-256 of its tensor, and a seal over all of it, so that a
file that was cut or changed anywhere is refused.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
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


def covariances_of(home: Path, options: StatsOptions, progress: Progress) -> tuple[ModelChoice, Covariances]:
    """Return a model with the covariances of its edited layers, collected where they are not on record."""
    corpus = settle_stdin(options.corpus, home)
    choice = choose_model(
        options.model, options.values, home=home, loading=options.loading, corpus=corpus, progress=progress
    )
    with Ledger.open(home) as ledger:
        choice = with_text(ledger.home, choice, progress)
        return choice, covariances_for(ledger.tensors, choice, progress)


def stats(home: Path, options: StatsOptions, progress: Progress) -> dict[str, Any]:
    """Return the table, with the keys of the JSON; raises SettingsError without a corpus or a covariance on record."""
    choice, covariances = covariances_of(home, options, progress)
    first = covariances.records[choice.settings.layers[0]]
    rows = [
        {
            "layer": layer,
            "m": record.m,
            "tokens": record.tokens,
            "change": record.change,  # relative, since half the tokens
            "condition": condition(covariances[layer]) if record.m <= EIGENVALUES_UP_TO else None,
            "seconds": record.seconds,  # of the pass that collected it
            "cached": layer in covariances.cached,  # whether it was on record
            "file": record.path(covariances.folder).name,
        }
        for layer, record in covariances.records.items()
    ]
    about = {"model": choice.name, "corpus": first.corpus, "length": first.length}  # length: tokens of a row
    return {**about, "layers": rows, "remark": choice.remark}


def condition(covariance: torch.Tensor) -> float | None:
    """Return the largest eigenvalue over the smallest."""
    values = torch.linalg.eigvalsh(covariance)
    return float(values[-1] / values[0]) if values[0] > 0 else None


def export_covariances(home: Path, file: Path, options: StatsOptions, progress: Progress) -> dict[str, Any]:
    """Write the covariances to a new file; return what it holds (`summary`)."""
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


def import_covariances(home: Path, file: Path, model: str | None, loading: Loading = AS_STORED) -> dict[str, Any]:
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
    return summary(file, records, new)


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


def summary(file: Path, records: list[CovarianceRecord], new: Sequence[int] = ()) -> dict[str, Any]:
    """Return what a shared file holds, for the JSON; `new` layers were not on record before an import."""
    first, layers = records[0], tuple(record.layer for record in records)
    about = {"file": file, "model": first.model, "corpus": first.corpus, "tokens": first.tokens}
    return {**about, "layers": layers, "new": new}


def tensor_hash(tensor: torch.Tensor) -> str:
    digest = hashlib.sha256(f"{tensor.dtype} {list(tensor.shape)}".encode())
    digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
