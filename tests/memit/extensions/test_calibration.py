"""The search for settings, on landscapes that are known: it finds their best, and keeps to the bound."""

import math

import pytest

from kbsync.memit import MemitSettings
from kbsync.memit.extensions.calibration import (
    PERPLEXITY_GROWTH,
    Trial,
    candidate_windows,
    critical_layers,
    lambda_of,
    search_settings,
    suggested_window,
)

START = MemitSettings(layers=(3, 4), clamp_norm_factor=0.75)
WINDOWS = [(1,), (1, 2), (3, 4)]


def trial(settings: MemitSettings, S: float, perplexity: float = 1.0, recall: float = 0.0) -> Trial:
    return Trial(settings, {"S": S, "recall": recall, "perplexity": perplexity}, 1.0)


@pytest.mark.parametrize(
    ("effects", "window"),
    [
        ([0.1, 0.2, 0.9, 0.8, 0.5, 0.1, 0.0], (2, 3, 4)),
        ([0.4, -0.1, 0.0, 0.0], (0,)),
        ([0.3, 0.3, 0.3, 0.9], (0, 1, 2)),  # the last block is never edited
        ([0.5] * 12, (0, 1, 2, 3, 4, 5)),
        ([0.1, 0.6, 0.2, 1.0, 0.9, 0.0], (3, 4)),  # a run, without what lies beyond a gap
    ],
)
def test_the_suggested_window(effects: list[float], window: tuple[int, ...]) -> None:
    assert suggested_window(effects) == window


def test_windows_beside_the_suggested_one() -> None:
    assert candidate_windows((2, 3), (4, 5), 8) == [(2, 3), (2, 3, 4), (2, 3, 4, 5), (3, 4), (1, 2), (4, 5)]
    assert candidate_windows((0,), (0,), 3) == [(0,), (0, 1), (1,)]


def test_lambda_is_a_share_of_m() -> None:
    assert [lambda_of(share, 16384) for share in (1.0, 0.1)] == [16000, 1600]
    assert lambda_of(0.1, 256) == 26


@pytest.mark.parametrize("top", [30.0, 300.0, 5000.0])
@pytest.mark.parametrize("clamp", [0.4, 0.75, 3.0])
def test_it_finds_the_top_of_a_hill(top: float, clamp: float) -> None:
    def attempt(settings: MemitSettings) -> Trial:
        away = abs(math.log10(settings.lambda_ / top)) + abs(math.log(settings.clamp_norm_factor / clamp))
        return trial(settings, 90 - 10 * away - 9 * (settings.layers != (1, 2)))

    found = search_settings(START, WINDOWS, 1000, attempt).settings
    assert found.layers == (1, 2)
    assert abs(math.log10(found.lambda_ / top)) < 0.3
    assert abs(math.log(found.clamp_norm_factor / clamp)) < 0.25
    assert (found.steps, found.sweeps, found.lr) == (START.steps, START.sweeps, START.lr)


def test_settings_that_spoil_ordinary_text_are_not_chosen() -> None:
    def attempt(settings: MemitSettings) -> Trial:
        """The smaller lambda, the better the edits, and the worse all else."""
        return trial(settings, 90 - 10 * math.log10(settings.lambda_), 1 + 30 / settings.lambda_)

    found = search_settings(START, WINDOWS, 1000, attempt)
    assert found.bounded
    least = 30 / (PERPLEXITY_GROWTH - 1)
    assert least <= found.settings.lambda_ < least * 10**0.5
    assert found.figures["perplexity"] <= PERPLEXITY_GROWTH


def test_where_none_keeps_to_the_bound_the_least_harmful_is_taken() -> None:
    found = search_settings(START, WINDOWS, 1000, lambda settings: trial(settings, 50, 2 + 1 / settings.lambda_))
    assert not found.bounded
    assert found.settings.lambda_ > 10_000


def test_what_is_better_by_more_than_chance() -> None:
    failed = Trial(START, {}, 1.0, "not positive definite")
    spoilt, worse, plain, better = trial(START, 99, 2.0), trial(START, 99, 3.0), trial(START, 80), trial(START, 83)
    ascending = [failed, worse, spoilt, plain, better]
    for place, one in enumerate(ascending):
        assert [one.beats(other) for other in ascending] == [at < place for at in range(len(ascending))]
    assert not trial(START, 81.9).beats(plain)
    assert trial(START, 80, recall=10).beats(plain)
    assert not trial(START, 79.9, recall=10).beats(plain)


def test_what_is_at_hand_stays_where_nothing_is_better() -> None:
    assert search_settings(START, WINDOWS, 1000, lambda settings: trial(settings, 80)).settings == START


@pytest.mark.parametrize(
    ("gaps", "layers"),
    [
        ([0.4, 0.5, 0.6, 0.6, 0.5, 0.4, 0.4, 0.35, 0.3, 0.1, 0.0, 0.0], (3, 4, 5, 6, 7, 8)),  # as GPT-J's
        ([0.02, 0.01, 0.0, 0.0], (0, 1)),
        ([0.0, 0.1, 0.4, 0.9], (2,)),  # never the last block
        ([0.5, 0.1, 0.5, 0.6, 0.1, 0.0], (2, 3)),  # what lies apart is not taken
    ],
)
def test_the_papers_rule_takes_the_blocks_up_to_where_the_gap_is_half(
    gaps: list[float], layers: tuple[int, ...]
) -> None:
    assert critical_layers(gaps) == layers
