"""Made-up days: what each brings and what holds at its end."""

import pytest

from kbsync.benchmarks.bench import Pool
from kbsync.benchmarks.sync import Day, draw_days
from kbsync.errors import SettingsError
from tests.tiny_models import CAPITALS, FACTS

POOL = Pool("tests", FACTS)


def days() -> list[Day]:
    return draw_days(POOL, 6, 5, seed=3)


def test_a_month_holds_what_it_promises() -> None:
    made = days()
    assert [day.number for day in made] == [1, 2, 3, 4, 5, 6]
    assert sum(len(day.added) for day in made) == 18
    assert sum(len(day.changed) for day in made) == 9
    assert sum(len(day.withdrawn) for day in made) == 3
    assert not made[0].changed
    assert not made[0].withdrawn
    assert all(day.added for day in made)
    assert made == days()
    assert made != draw_days(POOL, 6, 5, seed=4)


def test_each_day_follows_from_the_one_before() -> None:
    active: dict[str, str] = {}
    for day in days():
        for edit in (*day.changed, *day.withdrawn):
            assert edit.request.subject in active
        for edit in day.changed:
            assert edit.request.target not in {active[edit.request.subject], CAPITALS[edit.request.subject]}
        for edit in day.withdrawn:
            assert active.pop(edit.request.subject) == edit.request.target
        assert not active.keys() & {edit.request.subject for edit in day.added}
        active |= {edit.request.subject: edit.request.target for edit in (*day.added, *day.changed)}
        assert {edit.request.subject: edit.request.target for edit in day.active} == active
        assert len(day.requests) == len(day.added) + len(day.changed)


def test_one_day_or_too_few_facts_are_told() -> None:
    with pytest.raises(SettingsError, match="--syncs 1: ask for 2 days at least"):
        draw_days(POOL, 1)
    with pytest.raises(SettingsError, match="--syncs 30 with --daily 22 needs 400 edits, and the model knows enough"):
        draw_days(POOL, 30)
