"""``--hold``: which facts are held, that this depends on the set alone, and that it is on record."""

from pathlib import Path

import pytest

from kbsync.facts import EditRequest
from kbsync.ledger import BatchRow, Ledger
from kbsync.memit import MemitSettings, group_requests
from kbsync.models import LoadedModel
from kbsync.workflows.choice import ModelChoice, choose_model
from kbsync.workflows.held import nearest, recorded_kept
from tests.homes import COUNTRIES, SWAPPED, TEMPLATES, Editable, deltas_of, difference, done, kbsync, make_home, pull
from tests.tiny_models import CAPITALS, known

__all__ = ["known"]

A, B, C = COUNTRIES[:3]
KNOWN = {country: CAPITALS[country] for country in COUNTRIES[6:12]}
REST = TEMPLATES.partition("The capital of {} is\n")[2].replace(
    "The government of {} sits in", "The capital of {} is", 1
)
"""paraphrases and question, which the model was trained on too"""
TWO = f"{TEMPLATES}P37:\n  label: seat\n  prompt: The government of {{}} sits in\n{REST}"
HOLD = ("--hold", 3, "--set", "hold_weight=5")


@pytest.fixture
def home(small: Editable, tmp_path: Path) -> Path:
    """Two edits, known facts, and known facts of edited subjects: one in other words, one with the edit's own key."""
    home = make_home(tmp_path / "home", TWO, P36={A: SWAPPED[A], B: SWAPPED[B], **KNOWN}, P37={A: CAPITALS[A]})
    small.apply(home, *HOLD)
    return home


def newest(home: Path) -> BatchRow:
    with Ledger.open(home, create=False) as ledger:
        return ledger.batches()[-1]


def test_they_are_on_record_and_the_state_is_another(home: Path, small: Editable, tmp_path: Path) -> None:
    batch = newest(home)
    assert (batch.settings["hold"], batch.settings["hold_weight"], batch.work["held"]) == (3, 5, 3)
    held = deltas_of(home)
    found = done("verify", "--home", home, *small.model, "--corpus", small.corpus)
    assert "all is as recorded" in found.out
    ran = kbsync("apply", "--home", home, *small.arguments, "--yes")
    assert ran.code == 0, ran.err
    assert "held" not in newest(home).work
    assert difference(deltas_of(home), held) > 1e-3


def test_a_second_apply_with_the_same_has_nothing_to_do(home: Path, small: Editable) -> None:
    assert small.apply(home, *HOLD)["batch"] is None


def test_the_set_alone_counts_not_the_way_to_it(home: Path, small: Editable, tmp_path: Path) -> None:
    first = newest(home).work["held_id"]
    pull(home, P36={A: SWAPPED[A], B: SWAPPED[B], C: SWAPPED[C], **KNOWN}, P37={A: CAPITALS[A]})
    small.apply(home, *HOLD)
    pull(home, P36={A: SWAPPED[A], B: SWAPPED[B], **KNOWN}, P37={A: CAPITALS[A]})
    small.apply(home, *HOLD)
    assert newest(home).work["held_id"] == first
    fresh = make_home(tmp_path / "fresh", TWO, P36={A: SWAPPED[A], B: SWAPPED[B], **KNOWN}, P37={A: CAPITALS[A]})
    small.apply(fresh, *HOLD)
    assert newest(fresh).work["held_id"] == first
    assert difference(deltas_of(home), deltas_of(fresh)) < 1e-4


def test_a_fact_that_is_held_no_more_makes_the_state_anew(home: Path, small: Editable) -> None:
    before = newest(home).work["held_id"]
    pull(home, P36={A: SWAPPED[A], B: SWAPPED[B]}, P37={A: CAPITALS[A]})
    applied = small.apply(home, *HOLD)
    assert (applied["batch"], applied["optimised"], applied["planned"]["held"]) == (2, 0, 1)
    assert newest(home).work["held_id"] != before


def test_those_of_edited_subjects_come_first(home: Path, small: Editable) -> None:
    small.apply(home, "--hold", 1)
    choice = choose_model(small.name, {"layers": "1,2"})
    with Ledger.open(home, create=False) as ledger:
        (group,) = recorded_kept(ledger, ledger.batches()[-1], choice).held
    assert [(one.relation, one.subject, one.target) for one in group.requests] == [("P37", A, CAPITALS[A])]


def test_a_fact_with_an_edits_key_cannot_be_held(known: LoadedModel) -> None:
    choice = ModelChoice("known", known, MemitSettings(layers=(1, 2), hold=2), None, None)
    edits = group_requests(known, [EditRequest("P36", A, "The capital of {} is", SWAPPED[A])])
    same = EditRequest("P37", A, "The capital of {} was", CAPITALS[A])
    others = [EditRequest("P36", country, "The capital of {} is", city) for country, city in KNOWN.items()]
    held = nearest(choice, edits, [same, *others], {one.id: one.subject for one in (same, *others)}, {A})
    assert held.same_key == 1
    assert len(held.requests) == 2
    assert {one.id for one in held.requests} < {one.id for one in others}
    assert held.id == nearest(choice, edits, [*others[::-1], same], {one.id: "" for one in (same, *others)}, {A}).id


RESTORE = ("--set", "restore_weight=5")


def test_withdrawn_facts_have_the_base_models_answer_again(home: Path, small: Editable, tmp_path: Path) -> None:
    stated = {"P36": {A: SWAPPED[A], B: SWAPPED[B], **KNOWN}, "P37": {A: CAPITALS[A]}}
    less = {"P36": {B: SWAPPED[B], **KNOWN}, "P37": {A: CAPITALS[A]}}
    pull(home, **less)
    applied = small.apply(home, *RESTORE)
    assert (applied["planned"]["withdrawn"], newest(home).work["withdrawn"]) == (1, 1)
    with Ledger.open(home, create=False) as ledger:
        (group,) = recorded_kept(ledger, newest(home), choose_model(small.name, {"layers": "1,2"})).withdrawn
    assert [(one.subject, one.target) for one in group.requests] == [(A, CAPITALS[A])]
    assert "all is as recorded" in done("verify", "--home", home, *small.model, "--corpus", small.corpus).out
    assert small.apply(home, *RESTORE)["batch"] is None
    fresh = make_home(tmp_path / "fresh", TWO, **stated)
    pull(fresh, **less)
    small.apply(fresh, *RESTORE)
    assert difference(deltas_of(home), deltas_of(fresh)) < 1e-4
    without = deltas_of(home)
    small.apply(home)
    assert difference(deltas_of(home), without) > 1e-3


def test_a_withdrawn_fact_that_is_stated_again_is_an_edit(home: Path, small: Editable) -> None:
    pull(home, P36={B: SWAPPED[B], **KNOWN}, P37={A: CAPITALS[A]})
    small.apply(home, *RESTORE)
    pull(home, P36={A: SWAPPED[A], B: SWAPPED[B], **KNOWN}, P37={A: CAPITALS[A]})
    applied = small.apply(home, *RESTORE)
    assert (applied["edits"], applied["planned"]["withdrawn"]) == (2, 0)
