"""What is said on paper of memory, against what is there: rows, cache, the graph of a step, the solve's matrices."""

from dataclasses import replace

import torch

from kbsync.memit import MemitSettings, optimise_targets
from kbsync.memit.extensions.estimates import (
    RequestRows,
    graph_bytes,
    memory_needs,
    solve_operations,
    solve_rate,
    target_batch,
    target_costs,
    token_rate,
    trial_contexts,
    trial_requests,
    trial_rows,
)
from kbsync.memit.fast.packed_rows import group_rows
from kbsync.memit.targets import TOKEN_BUDGET
from kbsync.models import LoadedModel, ModelSizes, sizes_of

SETTINGS = MemitSettings(layers=(1, 2), contexts=2)
GPT_J = ModelSizes(28, 4096, 16384, 50400, 2048, False, 12 * 10**9, 2, 28 * 2 * 4096 * 2)


def needed(phase: str, what: str, edits: int = 10_000) -> int:
    rows = RequestRows(7, 14, 6, 20)
    (found,) = (
        need.bytes
        for need in memory_needs(GPT_J, 6, edits, rows, 100, 10**6, keeps=True)
        if need.phase == phase and what in need.what
    )
    return found


def test_the_designs_figures_for_gpt_j() -> None:
    """DESIGN section 8: a covariance of 1.07 GB a layer in float32, a matrix of the solve 2.1 GB in float64."""
    assert needed("covariance", "float32 and float64") == 6 * (1_073_741_824 + 2_147_483_648)
    assert needed("solve", "factor in float64") == 3 * 2_147_483_648
    assert needed("solve", "keys that stay") == 6 * 2_147_483_648
    assert needed("targets", "cache of") == 100 * 7 * 20 * GPT_J.cache_bytes
    assert needed("prefill", "cache of") == 2 * needed("targets", "cache of")
    assert needed("solve", "keys,") == 10 * needed("solve", "keys,", 1000)


def test_rows_are_those_of_the_search(tiny: LoadedModel) -> None:
    rows = trial_rows(tiny, SETTINGS)
    made = group_rows(tiny, trial_requests(1)[0], trial_contexts(SETTINGS))
    assert rows.count == len(made.prefixes)
    assert rows.prefix == max(map(len, made.prefixes))
    assert rows.reads == sum(map(len, made.reads)) + 1
    assert trial_rows(tiny, replace(SETTINGS, wordings=3)).count == rows.count + 3


def test_batches_keep_to_the_token_budget() -> None:
    rows = RequestRows(7, 14, 6, 20)
    assert target_batch("cpu", 10_000, rows) == TOKEN_BUDGET["cpu"] // 140
    assert target_batch("cpu", 3, rows) == 3
    assert target_batch("cpu", 3, RequestRows(7, 10**6, 6, 20)) == 1


def test_the_graph_holds_what_the_blocks_above_make(tiny: LoadedModel) -> None:
    """Fewer blocks above L keep less, and weights are not counted."""
    low, high = (graph_bytes(tiny, MemitSettings(layers=(layer,), contexts=2)) for layer in (0, 2))
    rows = trial_rows(tiny, SETTINGS)
    sizes = sizes_of(tiny)
    assert low > high > 0
    # The inner layer's activations of two more blocks, at the least.
    assert low - high > 2 * rows.count * rows.suffix * sizes.m * sizes.item_bytes
    assert graph_bytes(tiny, MemitSettings(layers=(2,), contexts=4)) > high


def test_trials_measure_and_leave_the_model_alone(known: LoadedModel) -> None:
    costs = target_costs(known, SETTINGS)
    assert costs.start > 0
    assert costs.seconds(25) >= costs.seconds(1) == costs.start
    assert token_rate(known, SETTINGS, 16) > 0
    assert solve_rate(torch.device("cpu"), 64) > 0


def test_trial_requests_are_requests_like_others(known: LoadedModel) -> None:
    groups = trial_requests(5)
    assert len({group.id for group in groups}) == 5
    targets = optimise_targets(known, groups, trial_contexts(SETTINGS), MemitSettings(layers=(1, 2), steps=2))
    assert all(torch.isfinite(target.z).all() for target in targets)


def test_operations_of_a_solve() -> None:
    m, d, u = GPT_J.m, GPT_J.d, 100
    assert solve_operations(GPT_J, 6, 2, u) == 12 * (m**3 / 3 + 4 * m * m * u + 2 * d * m * u)
