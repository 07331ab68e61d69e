"""Work shared out over the processes of ``accelerate launch``: the leader runs a workflow, the others do their share.

The followers load the model and wait. Whatever is shared (targets, covariance, the spread over the layers) is an order
that goes to all of them; the ledger, the plan and the figures are the leader's alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from kbsync.errors import KbsyncError
from kbsync.facts import EditRequest
from kbsync.memit import MemitSettings, RequestGroup, WeightDelta, optimise_targets, spread
from kbsync.memit.covariance import sum_moments
from kbsync.memit.fast.moments import MomentSums
from kbsync.memit.fast.packed_text import PackedText
from kbsync.models import LoadedModel, Team
from kbsync.models import join_team as join_team
from kbsync.sync.home import Loading
from kbsync.sync.model import ModelChoice, choose_model


def moments(loaded: LoadedModel, text: PackedText, widths: Mapping[int, int], rows: int, *, team: Team) -> None:
    """Do a follower's share of a covariance; the leader has the first `rows` rows."""
    sums = MomentSums(widths)
    sums.rows = rows
    sum_moments(loaded, text, sums, team=team)


def spread_share(
    loaded: LoadedModel,
    groups: Sequence[RequestGroup],
    contexts: Sequence[str],
    z: torch.Tensor,
    settings: MemitSettings,
    held: Sequence[EditRequest] = (),
    *,
    team: Team,
    covariances: Mapping[int, torch.Tensor] | None = None,
    **leaders: Any,
) -> dict[int, WeightDelta]:
    """Spread with the team; only the leader has covariances."""
    return spread(loaded, groups, contexts, z, covariances or {}, settings, team=team, held=held, **leaders)


ORDERS: dict[str, Callable[..., Any]] = {"targets": optimise_targets, "spread": spread_share, "moments": moments}


def together(choice: ModelChoice, order: str, *given: Any, **leaders: Any) -> Any:
    """Do one piece of work with the whole team and return what it gives; `leaders` are for the leader alone."""
    if choice.team.size > 1:
        choice.team.broadcast((order, given))
    return ORDERS[order](choice.loaded, *given, team=choice.team, **leaders)


def share_covariance(
    choice: ModelChoice,
    text: PackedText,
    sums: MomentSums,
    on_commit: Callable[[], None],
    due: Callable[[], bool],
    progress: Callable[[str, int, int], None],
) -> None:
    """Do `sum_moments` with the whole team."""
    if choice.team.size > 1:
        widths = {layer: layer_sum.m for layer, layer_sum in sums.sums.items()}
        choice.team.broadcast(("moments", (text, widths, sums.rows)))
    sum_moments(choice.loaded, text, sums, on_commit, progress, due=due, team=choice.team)


@contextmanager
def led(team: Team) -> Iterator[None]:
    """Lead the team inside; the followers go home on leaving, however it ended."""
    try:
        yield
    finally:
        if team.size > 1:
            team.broadcast(None)
            team.leave()


def follow(team: Team, loaded: LoadedModel) -> None:
    """Carry out the leader's orders until it sends this process home."""
    while (order := team.broadcast(None)) is not None:
        name, given = order
        try:
            ORDERS[name](loaded, *given, team=team)
        except KbsyncError:
            continue  # the leader met it too, and tells it
    team.leave()


def work_along(team: Team, home: Path, model: str, loading: Loading) -> None:
    """Be a follower from beginning to end: load the model that the leader loads, and do a share of its work."""
    follow(team, choose_model(model, home=home, loading=loading).loaded)
