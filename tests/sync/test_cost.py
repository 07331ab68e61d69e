"""Cost of a sync: what an apply will optimise anew is said before, and is what it then does."""

from pathlib import Path

import pytest

from kbsync.ledger import BatchRow, Ledger
from kbsync.sync.guards import Cost, expected_seconds
from tests.homes import COUNTRIES, SWAPPED, Editable, kbsync, make_home, pull

SECONDS = {"targets": 20.0, "keys": 6.0, "solve": 3.0, "measure": 10.0, "covariance": 99.0, "total": 140.0}


def batch(
    work: dict[str, int], state: str = "done", device: str = "cpu", seconds: dict[str, float] = SECONDS
) -> BatchRow:
    return BatchRow(1, "m", "memit", {}, "", "", state, None, device, seconds, None, {}, None, work)  # type: ignore[arg-type]


FIRST = {"edits": 10, "optimise": 10, "from_cache": 0, "measure": 10}


def test_seconds_go_by_what_there_is_to_do() -> None:
    cost = Cost(edits=30, optimise=5, from_cache=25, measure=5)
    assert expected_seconds([batch(FIRST)], "cpu", cost) == {
        "targets": 10.0, "keys": 18.0, "solve": 3.0, "measure": 6.2, "total": 37.2
    }  # fmt: skip


def test_targets_go_by_the_newest_batch_that_searched_any() -> None:
    later = batch({"edits": 10, "optimise": 0, "from_cache": 10, "measure": 10}, seconds={"targets": 0.1, "keys": 2.0})
    seconds = expected_seconds([batch(FIRST), later], "cpu", Cost(10, 2, 8, 2))
    assert seconds is not None
    assert (seconds["targets"], seconds["keys"], seconds["solve"]) == (4.0, 2.0, 0.0)


@pytest.mark.parametrize("earlier", [[], [batch(FIRST, device="cuda:0")], [batch(FIRST, state="failed")], [batch({})]])
def test_no_pace_no_estimate(earlier: list[BatchRow]) -> None:
    assert expected_seconds(earlier, "cpu", Cost(10, 2, 8, 2)) is None


def test_ten_new_facts_on_top_of_a_set_are_all_that_is_optimised(small: Editable, tmp_path: Path) -> None:
    some = {country: SWAPPED[country] for country in COUNTRIES[:8]}
    home = make_home(tmp_path / "home", P36=some)
    first = small.apply(home)
    assert first["planned"]["seconds"] is None
    pull(home, P36=SWAPPED)
    rest = len(SWAPPED) - len(some)
    assert rest >= 10
    how = ("--limit", 10, "--yes", "--force")  # how well a model this small learns eighteen facts is not the question
    ran = kbsync("apply", "--home", home, *small.arguments, *how)
    assert ran.code == 0, ran.err
    assert "to do: 10 targets to optimise, 8 from the cache; 18 edits" in ran.err
    assert "s at the pace of earlier batches (targets" in ran.err
    with Ledger.open(home, create=False) as ledger:
        one, two = ledger.batches()
        assert (two.work["optimise"], two.work["from_cache"], two.work["edits"]) == (10, 8, 18)
        assert (one.work["optimise"], one.work["from_cache"]) == (8, 0)
        assert len(ledger.targets()) == 18
    # All from the cache: the settings of the solve alone are others.
    again = small.apply(home, "--limit", 1, "--set", "lambda=2", "--force")
    assert (again["planned"]["optimise"], again["planned"]["from_cache"]) == (again["optimised"], again["from_cache"])
    assert again["planned"]["seconds"]["total"] > 0
