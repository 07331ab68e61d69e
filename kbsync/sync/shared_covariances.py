"""Covariances handed on: one file with all layers of a model and where they come from, checked as it is taken in.

The header holds a record for each layer with the SHA-256 of its tensor, and a seal over all of it, so that a file
that was cut or changed anywhere is refused.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch

from kbsync.errors import LedgerError, SettingsError
from kbsync.facts import content_id
from kbsync.ledger import Ledger, read_metadata, read_tensors, replace_tensors, write_tensors
from kbsync.models.identity import tokenizer_hash, weights_hashes
from kbsync.sync.choice import choose_model
from kbsync.sync.covariances import UPPER, CovarianceRecord
from kbsync.sync.loading import AS_STORED, Loading
from kbsync.sync.progress import Progress
from kbsync.sync.stats import StatsOptions, covariances_of

__all__ = ["SharedCovariances", "export_covariances", "import_covariances"]


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
    """Write the covariances of a model's edited layers to a new file.

    Raises SettingsError where `file` exists.
    """
    if file.exists():
        raise SettingsError(f"{file} exists already: name a new file")
    _, covariances = covariances_of(home, options, progress)
    tensors = {f"{UPPER}.{layer}": covariances.packed(layer) for layer in covariances}
    rows = [
        covariances.records[layer].metadata() | {"sha256": tensor_hash(tensors[f"{UPPER}.{layer}"])}
        for layer in covariances
    ]
    replace_tensors(file, tensors, {"covariances": json.dumps(rows), "seal": content_id("seal1", rows)}, sealed=False)
    return summary(file, list(covariances.records.values()))


def import_covariances(home: Path, file: Path, model: str | None, loading: Loading = AS_STORED) -> SharedCovariances:
    """Check the file and put its covariances on record, all or none; with `model`, only if they are that model's.

    Raises SettingsError where the file is not as it was exported, or is of another model.
    """
    records, tensors = read_shared(file)
    if model is not None:
        check_model(file, records, model, loading)
    new = []
    with Ledger.open(home) as ledger:
        for record in records:
            if not record.path(ledger.tensors).exists():
                write_tensors(
                    ledger.tensors, {UPPER: tensors[f"{UPPER}.{record.layer}"]}, record.metadata(), record.key
                )
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
    try:
        rows = json.loads(metadata["covariances"])
        records = [CovarianceRecord.of(row) for row in rows]
    except (ValueError, TypeError) as error:
        raise SettingsError(f"{file} is not as it was exported, its header does not read ({error}): {again}") from error
    if content_id("seal1", rows) != metadata["seal"]:
        raise SettingsError(f"{file} is not as it was exported, its header was changed: {again}")
    for row, record in zip(rows, records, strict=True):
        tensor = tensors.get(f"{UPPER}.{record.layer}")
        if tensor is None or tensor_hash(tensor) != row["sha256"]:
            raise SettingsError(
                f"{file} is not as it was exported, the covariance of layer {record.layer} was changed: {again}"
            )
    return records, tensors


def check_model(file: Path, records: list[CovarianceRecord], model: str, loading: Loading) -> None:
    """Raise SettingsError where the covariances are not those of `model`."""
    choice = choose_model(model, loading=loading)
    depth = len(choice.loaded.family.block_list(choice.loaded.model))
    weights = weights_hashes(choice.loaded, range(depth))
    tokenizer = tokenizer_hash(choice.loaded)
    for record in records:
        same = record.layer < depth and weights[record.layer] == record.weights and tokenizer == record.tokenizer
        if not same:
            raise SettingsError(
                f"{file} is of the model {record.model}; {choice.name} has other weights up to layer {record.layer}, or"
                " another tokenizer"
            )


def summary(file: Path, records: list[CovarianceRecord], new: tuple[int, ...] = ()) -> SharedCovariances:
    """Return what is told of a shared file."""
    first = records[0]
    layers = tuple(record.layer for record in records)
    return SharedCovariances(file, first.model, first.corpus, first.tokens, layers, new)


def tensor_hash(tensor: torch.Tensor) -> str:
    """Return the SHA-256 of a tensor's type, shape and bytes."""
    digest = hashlib.sha256(f"{tensor.dtype} {list(tensor.shape)}".encode())
    digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
