"""A few days of syncs on a small model: each way does what it says."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kbsync.benchmarks.bench import Bench, Pool
from kbsync.benchmarks.sync import KEPT, WAYS, draw_cases, draw_days, run_days
from kbsync.ledger import Ledger
from kbsync.memit import MemitSettings
from kbsync.sync.model import ModelChoice
from tests.homes import small_model
from tests.tiny_models import FACTS, known_model, left_as_found, one_thread

SETTINGS = MemitSettings(
    layers=(0, 2),
    lambda_=0.02,
    steps=15,
    lr=2.0,
    clamp_norm_factor=4.0,
    weight_decay=0.01,
    sweeps=2,
    rest_weight=0.001,
    contexts=2,
)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    base = Path(tmp_path_factory.getbasetemp())
    pool = Pool("tests", FACTS)
    home = tmp_path_factory.mktemp("home")
    with left_as_found(known_model(base)) as loaded, one_thread(), Ledger.open(home) as ledger, ledger.writer("tests"):
        choice = ModelChoice("known", loaded, SETTINGS, small_model(base).corpus, None)
        yield run_days(Bench(ledger, choice), pool, draw_days(pool, 3, 4), cases=5)


def test_every_day_has_every_way(done: dict[str, Any]) -> None:
    assert (done["requests"], done["changes"], done["withdrawals"]) == (11, 4, 1)
    assert [day["active"] for day in done["days"]] == [2, 4, 6]
    for day in done["days"]:
        assert tuple(day["ways"]) == tuple(WAYS)


def test_of_many_facts_a_sample_is_measured() -> None:
    days = draw_days(Pool("tests", FACTS), 3, 4)
    before: set[str] = set()
    for day, sample in zip(days, draw_cases(days, 3), strict=True):
        measured, active, added = ({one.request.subject for one in some} for some in (sample, day.active, day.added))
        assert len(measured) == min(3, len(active))
        assert len((before & active) - measured) <= len(measured & added)  # a fact stays, or a new one takes its place
        before = measured


def test_rebase_is_one_batch_of_the_day(done: dict[str, Any]) -> None:
    assert all(day["one_batch"] < 1e-4 for day in done["days"])


def test_the_base_stays_and_the_others_change(done: dict[str, Any]) -> None:
    last = done["days"][-1]["ways"]
    assert last["none"]["recall"] == 0
    assert last["none"]["withdrawn_restored"] == 100
    assert last["none"]["delta_norm"] == 0
    assert {last["none"][name] for name in KEPT} == {100}
    assert done["days"][0]["ways"]["rebase"]["withdrawn_restored"] is None
    for name in ("rebase", "stacked", "incremental"):
        assert last[name]["perplexity"] != last["none"]["perplexity"]
        assert last[name]["delta_norm"]
        assert last[name]["kept_same"] != 100


def test_the_incremental_way_keeps_earlier_keys(done: dict[str, Any]) -> None:
    first, last = done["days"][0]["ways"], done["days"][-1]["ways"]
    assert first["stacked"] == first["incremental"]
    assert last["stacked"] != last["incremental"]
