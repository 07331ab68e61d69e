"""A few days of syncs on a small model: each way does what it says."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from kbsync.benchmarks.month import month
from kbsync.benchmarks.sync import WAYS, SyncBench, SyncDay, run_month
from kbsync.memit import MemitSettings
from kbsync.models import LoadedModel
from kbsync.workflows.choice import ModelChoice
from tests.homes import small_model
from tests.tiny_models import FACTS, known_model, left_as_found, one_thread

SETTINGS = MemitSettings(
    layers=(0, 2),
    lambda_=0.02,
    steps=40,
    lr=2.0,
    clamp_norm_factor=4.0,
    weight_decay=0.01,
    sweeps=3,
    emphasis=3.0,
    rest_weight=0.001,
    contexts=2,
)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SyncBench, list[SyncDay]]]:
    base = Path(tmp_path_factory.getbasetemp())
    days = month(FACTS, 3, monthly=(80, 30, 20))
    seen: list[SyncDay] = []
    with left_as_found(known_model(base)) as loaded, one_thread():
        yield run_month(choice(loaded, small_model(base).corpus), FACTS, days, on_day=seen.append), seen


def choice(loaded: LoadedModel, corpus: Path) -> ModelChoice:
    return ModelChoice("known", loaded, SETTINGS, corpus, None)


def test_every_day_has_every_way(told: tuple[SyncBench, list[SyncDay]]) -> None:
    done, seen = told
    assert done.days == seen
    assert (done.requests, done.changes, done.withdrawals) == (11, 3, 2)
    assert [day.active for day in done.days] == [2, 4, 6]
    for day in done.days:
        assert tuple(day.ways) == WAYS


def test_rebase_is_one_batch_of_the_day(told: tuple[SyncBench, list[SyncDay]]) -> None:
    assert all(day.one_batch < 1e-4 for day in told[0].days)


def test_the_base_stays_and_the_others_change(told: tuple[SyncBench, list[SyncDay]]) -> None:
    last = told[0].days[-1].ways
    assert last["none"].recall == 0
    assert last["none"].withdrawn_restored == 100
    assert last["none"].delta_norm == 0
    assert told[0].days[0].ways["rebase"].withdrawn_restored is None
    for name in WAYS[:3]:
        assert last[name].perplexity != last["none"].perplexity
        assert last[name].delta_norm > 0


def test_the_incremental_way_keeps_earlier_keys(told: tuple[SyncBench, list[SyncDay]]) -> None:
    first, last = told[0].days[0].ways, told[0].days[-1].ways
    assert first["stacked"] == first["incremental"]
    assert last["stacked"] != last["incremental"]
    assert torch.isfinite(torch.tensor([day.ways[name].perplexity for day in told[0].days for name in WAYS])).all()
