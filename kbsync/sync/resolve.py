"""The checks of `verify` that need the model: it is the one that was edited, and its deltas are solved again."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from kbsync.facts import EditRequest
from kbsync.ledger import BatchRow, Ledger, ModelRow
from kbsync.memit import WeightDelta, group_requests, spread
from kbsync.memit.settings import settings_on_record
from kbsync.models.identity import model_hash
from kbsync.sync.algorithms import deltas_of, recorded_editor
from kbsync.sync.choice import ModelChoice, choose_model
from kbsync.sync.covariances import covariances_for
from kbsync.sync.edited_words import held_prompts, written_in
from kbsync.sync.loading import Loading
from kbsync.sync.named import model_meant
from kbsync.sync.progress import Progress
from kbsync.sync.sampled_text import with_text
from kbsync.sync.state import current_deltas, is_model_of, model_contexts
from kbsync.sync.target_cache import read_rows, target_keys

__all__ = ["model_checks"]

TOLERANCE = 1e-4
"""largest relative Frobenius difference of a layer's delta, as between one batch and many"""

Found = tuple[str, int, list[str]]
"""name of a check, over how many things, faults"""


def model_checks(
    ledger: Ledger, model: str, corpus: Path | None, loading: Loading, progress: Progress
) -> Iterator[Found]:
    """Yield the check of the base model, and that of the deltas where the model is right and there are edits.

    Writes nothing but, where it is not in the cache, the covariance. Raises as `apply` does.
    """
    known = model_meant(ledger, model)
    current = ledger.current_batch(known.key)
    values = settings_on_record(current.settings) if current else {}
    choice = choose_model(known.name, values, home=ledger.home, loading=loading, corpus=corpus)
    sha256 = model_hash(choice.loaded)
    changed = not is_model_of(known, choice, sha256)
    yield (
        "base model",
        1,
        [
            f"{known.name} has changed: its sha256 is {sha256[:12]}, the ledger has {known.weights_sha256[:12]}; put"
            " back the weights and tokenizer (or the --dtype) that were edited"
        ]
        if changed
        else [],
    )
    if current is not None and not changed and ledger.active_edits(known.key):
        yield _deltas(ledger, known, current, choice, progress)


def _deltas(ledger: Ledger, model: ModelRow, batch: BatchRow, choice: ModelChoice, progress: Progress) -> Found:
    name = "deltas solved again"
    edits = ledger.active_edits(model.key)
    requests = [EditRequest(edit.relation, edit.subject, edit.prompt, edit.object) for edit in edits]
    contexts = model_contexts(model, choice)
    choice, editor = with_text(ledger.home, choice, progress), recorded_editor(batch)
    if editor is not None:
        groups = group_requests(choice.loaded, requests)
        made = deltas_of(
            editor,
            ledger,
            choice,
            groups,
            contexts,
            progress,
            lambda here: covariances_for(ledger.tensors, here, progress),
        )
        return compared(name, ledger, batch, made)
    worded = [written_in(request, batch.work) for request in requests]
    groups = group_requests(choice.loaded, worded, choice.settings.wordings)
    keys = target_keys(model, choice.settings, contexts, groups, {edit.request: edit.retries for edit in edits})
    found = read_rows(ledger, list(ledger.find_targets(keys).values()))
    missing = sum(key not in found for key in keys)
    if missing:
        return (
            name,
            0,
            [f"{missing} of {len(keys)} target vectors are not in the cache: the deltas cannot be solved again"],
        )
    z = torch.stack([found[key] for key in keys])
    covariances = covariances_for(ledger.tensors, choice, progress)
    held = held_prompts(batch.work)
    solved = spread(choice.loaded, groups, contexts, z, covariances, choice.settings, progress, held=held)
    return compared(name, ledger, batch, solved)


def compared(name: str, ledger: Ledger, batch: BatchRow, solved: Mapping[int, WeightDelta | torch.Tensor]) -> Found:
    """Return how the deltas on record differ from those that were made again."""
    stored = current_deltas(ledger, batch)
    faults = [] if stored.keys() == solved.keys() else [f"layers {sorted(stored)} are stored, {sorted(solved)} solved"]
    for layer in stored.keys() & solved.keys():
        made = solved[layer]
        again = (made.matrix() if isinstance(made, WeightDelta) else made).to(stored[layer])
        difference = float((again - stored[layer]).norm() / stored[layer].norm())
        if not difference <= TOLERANCE:
            faults.append(f"the delta of layer {layer} is not what its edits solve to: it differs by {difference:.1e}")
    return name, len(solved), faults
