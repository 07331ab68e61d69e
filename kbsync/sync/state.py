"""A model's state in a home: who it is, and the deltas that are current for it."""

from collections.abc import Mapping

import torch

from kbsync.errors import ModelError
from kbsync.facts import content_id
from kbsync.ledger import BatchRow, Ledger, ModelRow, read_tensors
from kbsync.memit import WeightDelta, sample_contexts
from kbsync.models.identity import model_hash
from kbsync.sync.choice import ModelChoice

__all__ = ["current_deltas", "delta_tensors", "identify", "is_model_of", "known_model", "model_contexts"]

OLDER = "model1"
"""what the keys of records begin with that were made when the down projections alone were hashed"""
CONTEXT_SETTINGS = ("contexts", "context_tokens", "context_starts")


def known_model(ledger: Ledger, choice: ModelChoice) -> ModelRow | None:
    """Return the record of a loaded base model, None where it is new. Writes nothing.

    Raises ModelError where edits are on record for this name and the model is not the one that was edited.
    """
    return recorded(ledger, choice, model_hash(choice.loaded))


def recorded(ledger: Ledger, choice: ModelChoice, sha256: str) -> ModelRow | None:
    """Return the record of a base model whose `model_hash` this is; raises as `known_model` does."""
    latest = ledger.latest_model(choice.name)
    if latest is None or is_model_of(latest, choice, sha256):
        return latest
    if ledger.active_edits(latest.key):
        raise ModelError(
            f"model {choice.name} has changed since its edits were made: its sha256 is {sha256[:12]}, the ledger has"
            f" {latest.weights_sha256[:12]}. Put back the weights and tokenizer (or the --dtype) that were edited, or"
            " begin anew for this model with another --home"
        )
    return next((row for row in ledger.models() if (row.name, row.weights_sha256) == (choice.name, sha256)), None)


def is_model_of(row: ModelRow, choice: ModelChoice, sha256: str) -> bool:
    """Tell whether a record is of the loaded model, whose `model_hash` is given.

    Earlier versions recorded the hash of the down projections alone: where that is right, the record is taken over.
    """
    if row.weights_sha256 == sha256 or not row.key.startswith(f"{OLDER}:"):
        return row.weights_sha256 == sha256
    blocks = choice.loaded.family.block_list(choice.loaded.model)
    return row.weights_sha256 == choice.loaded.weights_sha256(range(len(blocks)))


def identify(ledger: Ledger, choice: ModelChoice) -> ModelRow:
    """Record that a loaded base model is in use, and return its record; raises as `known_model` does."""
    sha256 = model_hash(choice.loaded)
    found = recorded(ledger, choice, sha256)
    contexts = found.contexts if found else sample_contexts(choice.loaded, choice.settings)
    return ledger.record_model(
        key=found.key if found else content_id("model2", [choice.name, sha256]),
        name=choice.name,
        revision=None,
        architecture=choice.loaded.architecture,
        weights_sha256=sha256,
        settings=choice.settings.as_dict(),
        contexts=contexts,
        layers=choice.settings.layers,
    )


def model_contexts(model: ModelRow, choice: ModelChoice) -> tuple[str, ...]:
    """Return the contexts on record, or fresh ones where the settings now ask for others."""
    settings = choice.settings.as_dict()
    if all(model.settings.get(name) == settings[name] for name in CONTEXT_SETTINGS):
        return model.contexts
    return sample_contexts(choice.loaded, choice.settings)


def delta_tensors(deltas: Mapping[int, WeightDelta | torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors of a batch's file: a layer's factors, or its whole delta where that is smaller."""
    tensors: dict[str, torch.Tensor] = {}
    for layer, delta in deltas.items():
        if isinstance(delta, torch.Tensor):
            tensors[f"delta.{layer}"] = delta
            continue
        u, d, m = delta.right.shape[0], delta.left.shape[0], delta.right.shape[1]
        if u * (d + m) < d * m:
            tensors |= {f"left.{layer}": delta.left, f"right.{layer}": delta.right}
        else:
            tensors[f"delta.{layer}"] = delta.matrix()
    return tensors


def current_deltas(ledger: Ledger, batch: BatchRow | None) -> dict[int, torch.Tensor]:
    """Return the delta [d, m] of each edited layer after `batch`; none where it left no edits.

    Raises LedgerError where a file is missing or is not as it was written.
    """
    deltas: dict[int, torch.Tensor] = {}
    for name, sha256 in (batch.files if batch else {}).items():
        tensors = read_tensors(ledger.tensors / name, sha256)
        for key, tensor in tensors.items():
            kind, _, layer = key.partition(".")
            if kind == "delta":
                deltas[int(layer)] = tensor
            elif kind == "left":
                deltas[int(layer)] = tensor @ tensors[f"right.{layer}"]
    return deltas
