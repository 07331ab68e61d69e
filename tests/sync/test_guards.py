"""Guards: a result that breaks a bound is on record with its figures, and the state before stays."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbsync.errors import EditError
from kbsync.ledger import Ledger
from kbsync.memit import load_preset
from kbsync.models import load_model
from kbsync.sync.corpus import HELD_OUT
from kbsync.sync.guards import Bounds, Guard
from tests.homes import (
    COUNTRIES,
    SWAPPED,
    WIDE,
    Editable,
    batches,
    copied,
    deltas_of,
    difference,
    done,
    kbsync,
    keep,
    make_home,
    pull,
)
from tests.tiny_models import CAPITALS, TEXTS

A, B = COUNTRIES[:2]
KNOWN = {country: CAPITALS[country] for country in COUNTRIES[4:7]}
NONE = ("--max-perplexity-increase", 0)
"""nothing may rise: an apply of anything breaks it"""


def table(
    perplexity: float = 3.0, specificity: float | None = 90.0, change: float = 20.0
) -> dict[str, dict[str, float | None]]:
    rows: dict[str, tuple[float | None, float | None]] = {"perplexity": (3.0, perplexity), "NS": (95.0, specificity)}
    rows |= {"weight_change.3": (None, 10.0), "weight_change.12": (None, change)}
    return {name: {"before": before, "after": after} for name, (before, after) in rows.items()}


@pytest.fixture(scope="module")
def small(small: Editable, tmp_path_factory: pytest.TempPathFactory) -> Editable:
    """The small model with a corpus whose held-out lines it was trained on: to be surprised by them costs an edit."""
    corpus = tmp_path_factory.mktemp("corpus") / "trained-on.txt"
    lines = small.corpus.read_text().splitlines()
    held = range(1, len(lines), HELD_OUT)
    for place, text in zip(held, TEXTS[: len(held)], strict=True):
        lines[place] = text
    corpus.write_text("\n".join(lines) + "\n")
    return replace(small, corpus=corpus)


@pytest.fixture(scope="module")
def kept(small: Editable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one edit, and a second fact that waits."""
    home = make_home(tmp_path_factory.mktemp("guards") / "home", P36={A: SWAPPED[A], **KNOWN})
    small.apply(home)
    pull(home, P36={A: SWAPPED[A], B: SWAPPED[B], **KNOWN})
    return keep(home)


@pytest.fixture
def home(kept: Path) -> Iterator[Path]:
    with copied(kept) as home:
        yield home


def figures(home: Path, batch: int) -> dict[str, float | None]:
    with Ledger.open(home, create=False) as ledger:
        return {row.name: row.after for row in ledger.metrics(batch) if row.edit is None}


def refuse(home: Path, small: Editable, *more: object) -> str:
    ran = kbsync("apply", "--home", home, *small.arguments, "--yes", *more)
    assert (ran.code, ran.out) == (1, "")
    return ran.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        (table(), []),
        (table(3.29, 85.1), []),
        (table(3.31), ["perplexity on the corpus rose from 3.00 to 3.31 (10.3%, more than the 10%"]),
        (table(specificity=84.0), ["NS fell from 95.00 to 84.00 (11.0 points, more than the 10"]),
        (table(4, 80), ["perplexity", "NS fell"]),
        (table(specificity=None), []),
        (table(change=99), []),
        (table(change=101.26), ["the delta of layer 12 is 101.3% of its weights (more than the 100%"]),
        ({}, []),
    ],
)
def test_which_figures_break_a_bound(measured: dict[str, Any], said: list[str]) -> None:
    breaches = Bounds().breaches(measured)
    assert len(breaches) == len(said)
    assert all(text in breach for text, breach in zip(said, breaches, strict=True))
    assert not Bounds(100, 100, 200).breaches(measured)
    forced = Guard(force=True).judge(measured)
    assert (forced or "").startswith("forced: ") == bool(said)


@pytest.mark.parametrize(("bound", "said"), [(None, 0), (20, 0), (19, 1)])
def test_how_many_known_facts_may_be_lost(bound: float | None, said: int) -> None:
    measured = {"known_kept_same": {"before": 100.0, "after": 80.0}}
    breaches = Bounds().with_values(max_known_loss=bound).breaches(measured)
    text = "20.0% of the edited subjects' other known facts are lost (more than the 19% of"
    assert [breach.startswith(text) for breach in breaches] == [True] * said
    assert not Bounds(max_known_loss=0).breaches({})  # no known fact is none lost


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_result_that_is_not_finite_cannot_be_forced(broken: float, force: bool) -> None:
    with pytest.raises(EditError, match=r"not finite \(perplexity\); the previous state stays. Use --dtype float32"):
        Guard(force=force).judge(table(broken))


def test_a_broken_bound_leaves_the_state_before(home: Path, small: Editable) -> None:
    before = deltas_of(home)
    said = refuse(home, small, *NONE)
    assert said.startswith("Error: perplexity on the corpus rose from")
    assert said.endswith("--force makes it current anyway")
    assert "more than the 0% of --max-perplexity-increase" in said
    failed = batches(home)[1]
    assert failed.state == "failed"
    assert f"Error: {failed.reason}" == said
    assert failed.files == {}
    assert failed.seconds["total"] >= failed.seconds["measure"] > 0
    bounds = {"max_perplexity_increase": 0, "max_specificity_loss": 100, "force": False}
    assert bounds.items() <= failed.work.items()
    assert {"ES", "PS", "NS", "S", "recall", "recall_active", "perplexity"} <= figures(home, 2).keys()
    assert difference(deltas_of(home), before) == 0
    with Ledger.open(home, create=False) as ledger:
        assert [edit.subject for edit in ledger.active_edits(ledger.models()[0].key)] == [A]
    # The target that was found is not lost.
    applied = small.apply(home)
    assert (applied["batch"], applied["edits"], applied["optimised"]) == (3, 2, 0)
    assert batches(home)[2].reason is None


def test_force_makes_it_current_and_the_record_says_so(home: Path, small: Editable) -> None:
    assert small.apply(home, *NONE, "--force")["edits"] == 2
    batch = batches(home)[1]
    assert (batch.state, batch.work["force"]) == ("done", True)
    assert (batch.reason or "").startswith("forced: perplexity on the corpus rose from")
    shown = " ".join(done("history", "--home", home).out.split())
    assert "batch 2 is done: forced: perplexity" in shown
    # What a forced state loses, it loses by the same leave.
    done("retract", "--home", home, "--subject", B, "--relation", "P36", "--corpus", small.corpus, "--yes")
    assert (batches(home)[2].state, batches(home)[2].work["force"]) == ("done", True)


def test_each_layers_change_is_measured_and_bounded(home: Path, small: Editable) -> None:
    shown = {name: after for name, after in figures(home, 1).items() if name.startswith("weight_change.")}
    base = load_model(small.name)
    changes = {layer: float(delta.norm() / base.weight(layer).norm()) for layer, delta in deltas_of(home).items()}
    assert shown == pytest.approx(
        {f"weight_change.{layer}": 100 * change for layer, change in changes.items()}, rel=1e-3
    )
    said = refuse(home, small, "--max-weight-change", 0)
    assert "% of its weights (more than the 0% of --max-weight-change)" in said
    assert small.apply(home, "--max-weight-change", 0, "--force")["metrics"].keys() >= shown.keys()


def test_force_without_need_is_no_reason(home: Path, small: Editable) -> None:
    small.apply(home, "--force")
    assert batches(home)[1].reason is None


def test_a_presets_bounds_hold_where_the_user_gives_none(home: Path, small: Editable) -> None:
    (home / "presets").mkdir()
    preset = home / "presets" / "own.yaml"
    names = ", ".join(text.replace("=1,2", "=[1, 2]").replace("=", ": ") for text in small.settings)
    head = f"model: {small.name}\ncorpus: {small.corpus}\nmax_specificity_loss: 100\n"
    preset.write_text(f"{head}max_perplexity_increase: 0\nsettings: {{{names}}}\n")
    ran = kbsync("apply", "--home", home, "--model", "own", "--yes")
    assert ran.code == 1
    assert "more than the 0% of --max-perplexity-increase" in ran.err
    assert kbsync("apply", "--home", home, "--model", "own", "--yes", *WIDE).code == 0


def test_the_practice_model_has_bounds_of_its_own() -> None:
    practice, gpt_j = load_preset("practice"), load_preset("gpt-j")
    assert practice is not None
    assert gpt_j is not None
    assert (practice.max_perplexity_increase, practice.max_specificity_loss) == (100, None)
    assert (gpt_j.max_perplexity_increase, gpt_j.max_specificity_loss) == (None, None)


@pytest.mark.parametrize(
    "option", ["--max-perplexity-increase", "--max-specificity-loss", "--max-weight-change", "--max-known-loss"]
)
def test_a_bound_below_zero_is_wrong_usage(option: str, home: Path, small: Editable) -> None:
    assert kbsync("apply", "--home", home, *small.arguments, option, -1).code == 2


def test_edits_that_do_not_arrive_are_told_with_what_to_do() -> None:
    table = {"ES": {"before": 37.5, "after": 40.0}}
    with pytest.raises(EditError, match=r"have no effect \(ES 40\.0, before 37\.5\).*kbsync calibrate"):
        Guard().judge(table, 40)
    assert Guard().judge(table, 3) is None
    assert Guard().judge({"ES": {"before": 37.5, "after": 60.0}}, 40) is None
    assert "have no effect" in (Guard(force=True).judge(table, 40) or "")
