"""Keys that the deltas are to leave alone: the rest of the edits' own prompts, and held facts, whole.

Eqn. 14 knows what is to stay by the covariance of ordinary text alone. Many edits in a small model disturb, beside it,
the words around the subjects and the spelling of the names that are answered. So the sums of k k^T at those tokens can
be added to lambda C, each with a weight. The keys are the base model's: the sums depend on the set of facts alone.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch

from kbsync.memit.groups import RequestGroup
from kbsync.memit.moments import LayerSum
from kbsync.memit.settings import MemitSettings
from kbsync.memit.subject_states import SubjectStates
from kbsync.models import ALONE, LoadedModel, Rows, Team, last_hidden, locate, make_rows, stop_after, watch
from kbsync.models.forward import batches_by_length

__all__ = ["NOTHING_KEPT", "Kept", "kept_moments", "nearness"]

TOKEN_BUDGET = 4096
"""padded tokens of one batch"""
Row = tuple[tuple[int, ...], list[float]]
"""tokens of a prompt with its object, and the weight of the key at each"""


@dataclass(frozen=True, slots=True)
class Kept:
    """Facts beside the edits that are to stay as the base model has them; none may share its key with an edit."""

    held: tuple[RequestGroup, ...] = ()
    """known facts"""
    withdrawn: tuple[RequestGroup, ...] = ()
    """with the base model's answers as objects"""


NOTHING_KEPT = Kept()


@torch.no_grad()
def kept_moments(
    loaded: LoadedModel,
    groups: Sequence[RequestGroup],
    kept: Kept,
    settings: MemitSettings,
    team: Team = ALONE,
) -> dict[int, torch.Tensor]:
    """Return sum_t w_t k_t k_t^T [m, m] in float64 for each edited layer, over bare prompts with their objects.

    Of the edits' prompts every token counts but the subject's last, with `settings.rest_weight`; of `kept` all do, with
    `settings.hold_weight` or `settings.restore_weight`. On the leader of the team; {} where there is nothing to keep.
    """
    own = groups if settings.rest_weight else ()
    if not (own or kept.held or kept.withdrawn):
        return {}
    rows = weighted(loaded, team.share(own), settings.rest_weight, at_subject=False)
    rows += weighted(loaded, team.share(kept.held), settings.hold_weight, at_subject=True)
    rows += weighted(loaded, team.share(kept.withdrawn), settings.restore_weight, at_subject=True)
    widths = {layer: loaded.family.weight(loaded.model, layer).shape[1] for layer in settings.layers}
    sums = {layer: LayerSum(m, len(widths)) for layer, m in widths.items()}
    last = loaded.family.block_list(loaded.model)[settings.layers[-1]]
    for batch in batches_by_length([len(ids) for ids, _ in rows], TOKEN_BUDGET):
        padded = make_rows([rows[place][0] for place in batch], loaded.device)
        roots = roots_of([rows[place][1] for place in batch], padded)
        with ExitStack() as stack:
            for layer, layer_sum in sums.items():
                down = loaded.family.down_projection(loaded.model, layer)

                def see(keys: torch.Tensor, layer_sum: LayerSum = layer_sum, roots: torch.Tensor = roots) -> None:
                    layer_sum.see(keys.reshape(-1, layer_sum.m).float() * roots.to(keys.device))

                stack.enter_context(watch(down, see))
            stack.enter_context(stop_after(last))
            last_hidden(loaded, padded)
        for layer_sum in sums.values():
            layer_sum.commit()
    pooled = {layer: team.sum(layer_sum.matrix()) for layer, layer_sum in sums.items()}
    return pooled if team.leads else {}


def weighted(loaded: LoadedModel, groups: Sequence[RequestGroup], weight: float, *, at_subject: bool) -> list[Row]:
    """Return the rows of all requests; the key at S counts where `at_subject`."""
    members = [request for group in groups for request in group.requests]
    placed = locate(loaded.tokenizer, [(one.prompt, one.subject, one.target) for one in members])
    rows = []
    for tokens in placed:
        weights = [weight] * len(tokens.ids)
        if not at_subject:
            weights[tokens.subject_last] = 0.0
        rows.append((tokens.ids, weights))
    return rows


def roots_of(weights: Sequence[Sequence[float]], rows: Rows) -> torch.Tensor:
    """Return the roots of the weights of right-padded rows, 0 at padding, as a column [B T, 1]."""
    length = rows.ids.shape[1]
    padded = [[*of_row, *[0.0] * (length - len(of_row))] for of_row in weights]
    return torch.tensor(padded, device=rows.ids.device).sqrt().reshape(-1, 1)


@torch.no_grad()
def nearness(
    loaded: LoadedModel, groups: Sequence[RequestGroup], others: Sequence[RequestGroup], layer: int
) -> torch.Tensor:
    """Return for each of `others` the cosine [n] of its key with the nearest of the `groups`'.

    Keys are those of `layer` in the model as it is, of the bare prompts.
    """
    states = SubjectStates(loaded, [*groups, *others], ("{}",))
    if layer > 0:
        states.advance(0, layer - 1)
    keys, _ = states.keys_and_hidden(layer, layer)
    keys = keys / keys.norm(dim=0, keepdim=True)
    edits, rest = keys[:, : len(groups)], keys[:, len(groups) :]
    nearest: torch.Tensor = (rest.T @ edits).amax(dim=1).cpu()
    return nearest
