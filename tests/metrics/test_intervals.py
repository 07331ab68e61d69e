"""Means and bootstrap intervals: by hand, and by what they must hold to."""

import random
from statistics import NormalDist, fmean, harmonic_mean

import pytest

from kbsync.metrics.intervals import Figure, figures, summary

ROWS = random.Random(0)
HITS = [100.0 * (ROWS.random() < 0.7) for _ in range(400)]


def test_the_mean_leaves_none_out() -> None:
    found = figures({"ES": [100.0, 0.0, None], "GE": [None, None, None]})
    assert found.keys() == {"ES"}
    assert (found["ES"].mean, found["ES"].cases) == (50.0, 2)
    assert (found["ES"].low, found["ES"].high) == (0.0, 100.0)
    assert figures({"ES": []}) == figures({}) == {}


def test_an_interval_is_as_wide_as_theory_says() -> None:
    """Of a share: 1.96 standard errors to either side, within the bootstrap's own noise."""
    found = figures({"ES": HITS})["ES"]
    share = fmean(HITS) / 100
    half = 100 * NormalDist().inv_cdf(0.975) * (share * (1 - share) / len(HITS)) ** 0.5
    assert found.mean == pytest.approx(fmean(HITS))
    assert found.low == pytest.approx(found.mean - half, abs=0.6)
    assert found.high == pytest.approx(found.mean + half, abs=0.6)


def test_more_cases_make_it_narrower_and_equal_ones_a_point() -> None:
    few, many = figures({"ES": HITS[:40]})["ES"], figures({"ES": HITS})["ES"]
    assert many.high - many.low < few.high - few.low
    assert figures({"ES": [25.0] * 9})["ES"] == Figure(25.0, 25.0, 25.0, 9)


def test_a_seed_decides() -> None:
    assert figures({"ES": HITS}) == figures({"ES": HITS})
    assert figures({"ES": HITS}, seed=1) != figures({"ES": HITS})


@pytest.mark.parametrize("part", [100.0, 40.0, 0.0])
@pytest.mark.parametrize("names", [("S", "ES", "PS", "NS"), ("score", "efficacy", "paraphrase", "specificity")])
def test_a_harmonic_mean_of_equal_parts_is_that_part(names: tuple[str, ...], part: float) -> None:
    found = figures({name: [part] * 3 for name in names[1:]})
    assert found[names[0]].mean == pytest.approx(part)
    assert (found[names[0]].low, found[names[0]].high) == pytest.approx((part, part))


def test_s_is_the_harmonic_mean_of_the_means_and_needs_all_parts() -> None:
    values: dict[str, list[float | None]] = {"ES": [*HITS[:50]], "PS": [*HITS[50:100]], "NS": [None, *HITS[101:150]]}
    found = figures(values)
    parts = [found[name].mean for name in ("ES", "PS", "NS")]
    assert found["S"].mean == pytest.approx(harmonic_mean(parts))
    assert found["S"].low < found["S"].mean < found["S"].high
    assert found["S"].cases == 49
    assert "S" not in figures({"ES": HITS, "PS": HITS})
    assert summary(values) == pytest.approx({name: one.mean for name, one in found.items()})
    assert summary({"ES": [100.0, None], "PS": [None], "NS": [0.0]}) == {"ES": 100.0, "NS": 0.0}
    assert summary({"ES": [100.0], "PS": [100.0], "NS": [0.0]})["S"] == 0
