"""The simulated month: what each day brings and what holds at its end."""

import pytest

from kbsync.benchmarks.month import Day, month
from kbsync.errors import SettingsError
from tests.tiny_models import CAPITALS, FACTS

QUARTER = (20 * 5, 12 * 5, 4 * 5)  # so that six days have 20, 12 and 4


def days() -> list[Day]:
    return month(FACTS, 6, seed=3, monthly=QUARTER)


def test_a_month_holds_what_it_promises() -> None:
    made = days()
    assert [day.number for day in made] == [1, 2, 3, 4, 5, 6]
    assert sum(len(day.added) for day in made) == 20
    assert sum(len(day.changed) for day in made) == 12
    assert sum(len(day.withdrawn) for day in made) == 4
    assert not made[0].changed
    assert not made[0].withdrawn
    assert all(day.added for day in made)
    assert made == days()
    assert made != month(FACTS, 6, seed=4, monthly=QUARTER)


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
    with pytest.raises(SettingsError, match="--syncs 1: a month needs 2 days"):
        month(FACTS, 1)
    with pytest.raises(SettingsError, match="--syncs 30 needs 400 facts that the model knows; there are 20"):
        month(FACTS, 30)
