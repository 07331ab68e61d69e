"""Keys that the deltas are to leave alone: those at the rest of the edits' own prompts, and those of other subjects.

Eqn. 14 knows what is to stay by the covariance of ordinary text alone. But the facts of a relation share the words of
their prompts, and their residuals share a direction: what spoils an answer is what the edited weights do there. So the
sum of k k^T at those tokens can be added to lambda C, with a weight: a block of keys whose residual is zero. Subjects
of the relation that are not edited can be held in the same wordings, at every token. The keys are the base model's: the
sum depends on the sets of facts alone.
"""

from collections.abc import Sequence
from functools import partial

import torch

from kbsync.facts import EditRequest
from kbsync.memit.covariance import key_widths, see_keys
from kbsync.memit.extensions.groups import RequestGroup
from kbsync.memit.fast.moments import LayerSum
from kbsync.memit.settings import MemitSettings
from kbsync.models import ALONE, LoadedModel, Rows, Team, locate, make_rows
from kbsync.models.forward import batches_by_length

TOKEN_BUDGET = 4096
"""padded tokens of one batch"""
Row = tuple[tuple[int, ...], list[float]]
"""tokens of a prompt with its object, and the weight of the key at each"""


@torch.no_grad()
def preserved_moments(
    loaded: LoadedModel,
    groups: Sequence[RequestGroup],
    settings: MemitSettings,
    team: Team = ALONE,
    held: Sequence[EditRequest] = (),
) -> dict[int, torch.Tensor]:
    """Return sum_t w k_t k_t^T [m, m] in float64 for each edited layer, over bare prompts with their objects.

    Of the edits, in all their wordings, every token t counts but the subject's last, with w = `settings.rest_weight`;
    of prompts that are `held` every one, with w = 1. A text's first token, which no words change, never counts. On the
    leader of the team; {} where there is nothing to keep.
    """
    if not (groups and (settings.rest_weight or held)):
        return {}
    members = [request for group in team.share(groups) for request in (*group.requests, *group.wordings)]
    rows = weighted(loaded, members, settings.rest_weight, at_subject=False) if settings.rest_weight else []
    rows += weighted(loaded, team.share(held), 1.0, at_subject=True)
    widths = key_widths(loaded, settings.layers)
    sums = {layer: LayerSum(m, len(widths)) for layer, m in widths.items()}
    for batch in batches_by_length([len(ids) for ids, _ in rows], TOKEN_BUDGET):
        padded = make_rows([rows[place][0] for place in batch], loaded.device)
        roots = roots_of([rows[place][1] for place in batch], padded)
        see_keys(loaded, padded, {layer: partial(see_weighted, one, roots) for layer, one in sums.items()})
        for layer_sum in sums.values():
            layer_sum.commit()
    pooled = {layer: team.sum(layer_sum.matrix()) for layer, layer_sum in sums.items()}
    return pooled if team.leads else {}


def see_weighted(layer_sum: LayerSum, roots: torch.Tensor, keys: torch.Tensor) -> None:
    """Let a layer's sum see keys times the roots [B T, 1] of their weights."""
    layer_sum.see(keys.reshape(-1, layer_sum.m).float() * roots.to(keys.device))


def weighted(loaded: LoadedModel, members: Sequence[EditRequest], weight: float, *, at_subject: bool) -> list[Row]:
    """Return the rows of all requests; the key at the subject's last token counts where `at_subject`."""
    placed = locate(loaded.tokenizer, [one.written() for one in members])
    rows = []
    for tokens in placed:
        weights = [weight] * len(tokens.ids)
        weights[0] = 0.0
        if not at_subject:
            weights[tokens.subject_last] = 0.0
        rows.append((tokens.ids, weights))
    return rows


def roots_of(weights: Sequence[Sequence[float]], rows: Rows) -> torch.Tensor:
    """Return the roots of the weights of right-padded rows, 0 at padding, as a column [B T, 1]."""
    length = rows.ids.shape[1]
    padded = [[*of_row, *[0.0] * (length - len(of_row))] for of_row in weights]
    return torch.tensor(padded, device=rows.ids.device).sqrt().reshape(-1, 1)
