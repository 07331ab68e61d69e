"""A model's state in a home: who it is, and the deltas that are current for it."""

from collections.abc import Mapping

import torch

from kbsync.errors import ModelError
from kbsync.facts import content_id
from kbsync.ledger import BatchRow, Ledger, ModelRow, read_tensors
from kbsync.memit import WeightDelta, sample_contexts
from kbsync.workflows.choice import ModelChoice

__all__ = ["current_deltas", "delta_tensors", "identify", "known_model", "model_contexts", "weights_hash"]

CONTEXT_SETTINGS = ("contexts", "context_tokens", "context_starts")


def weights_hash(choice: ModelChoice) -> str:
    """Return the SHA-256 of the down projections of all blocks, whichever of them are edited."""
    return choice.loaded.weights_sha256(range(len(choice.loaded.family.block_list(choice.loaded.model))))


def known_model(ledger: Ledger, choice: ModelChoice) -> ModelRow | None:
    """Return the record of a loaded base model, None where it is new. Writes nothing.

    Raises ModelError where edits are on record for this name and the weights are not those that were edited.
    """
    return ledger.find_model(checked_key(ledger, choice, weights_hash(choice)))


def checked_key(ledger: Ledger, choice: ModelChoice, sha256: str) -> str:
    """Return the ledger's key of a base model of these weights; raises as `known_model` does."""
    known = ledger.latest_model(choice.name)
    if known is not None and known.weights_sha256 != sha256 and ledger.active_edits(known.key):
        raise ModelError(
            f"model {choice.name} has changed since its edits were made: its weights' sha256 is {sha256[:12]}, the"
            f" ledger has {known.weights_sha256[:12]}. Put back the weights (or the --dtype) that were edited, or begin"
            " anew for this model with another --home"
        )
    return content_id("model1", [choice.name, sha256])


def identify(ledger: Ledger, choice: ModelChoice) -> ModelRow:
    """Record that a loaded base model is in use, and return its record; raises as `known_model` does."""
    sha256 = weights_hash(choice)
    key = checked_key(ledger, choice, sha256)
    found = ledger.find_model(key)
    contexts = found.contexts if found else sample_contexts(choice.loaded, choice.settings)
    return ledger.record_model(
        key=key,
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
