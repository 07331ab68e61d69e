"""Which prompts around the edits are measured: bounded, the same each time, and never what a batch holds."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kbsync.facts import EditRequest
from kbsync.ledger import Ledger
from kbsync.memit import MemitSettings
from kbsync.memit.extensions.groups import edited_wordings
from kbsync.metrics import KEPT_METRICS, Sampled
from kbsync.models import LoadedModel
from kbsync.sync.edits import held_beside
from kbsync.sync.evaluate import EvalOptions, run_eval
from kbsync.sync.home import templates_for
from kbsync.sync.measure import PROMPTS, sampled_prompts
from kbsync.templates import Templates
from tests.homes import SWAPPED, TEMPLATES, Editable, done, kbsync, make_home
from tests.tiny_models import CAPITALS, known

__all__ = ["known"]

LANDS = list(CAPITALS)


def template(relation: str, prompt: str, subject: str = "land") -> str:
    texts = [f"As for the {word} {relation} of {{}}, it is" for word in ("first", "second", "third", "fourth")]
    listed = "".join(f"    - {text}\n" for text in texts)
    return (
        f'{relation}:\n  label: {relation}\n  prompt: "{prompt}"\n  paraphrases:\n{listed}'
        f"  question: What is the {relation} of {{}}?\n  subject: {subject}\n"
    )


OWN = TEMPLATES + '  subject: land\n  wordings:\n    - "{} has its capital in"\n'
OTHERS = [template(f"p{number}", f"The p{number} of {{}} is") for number in range(6)]
MORE = OWN + "".join(OTHERS) + template("first", "{} is first to") + template("far", "The far of {} is", "person")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Capitals of all countries, another relation of eight, and one of another kind of subject."""
    capitals = {land: SWAPPED[land] for land in LANDS}
    return make_home(
        tmp_path / "home", MORE, P36=capitals, p0=dict.fromkeys(LANDS[:8], "Paris"), far={LANDS[0]: "Oslo"}
    )


@pytest.fixture
def opened(home: Path) -> Iterator[tuple[Ledger, Templates]]:
    with Ledger.open(home, create=False) as ledger:
        yield ledger, templates_for(home)


def drawn(
    opened: tuple[Ledger, Templates], known: LoadedModel, settings: MemitSettings, edits: int = 4
) -> tuple[Sampled, list[EditRequest], list[EditRequest]]:
    """Return what is measured around the first edits, these, and what is held with them."""
    ledger, templates = opened
    active = [templates.request(land, "P36", SWAPPED[land]) for land in LANDS[:edits]]
    about = {(one.relation, one.subject) for one in active}
    held = held_beside(ledger, templates, known, settings, about)
    words = [word for one in active for word in edited_wordings(known, one, settings.wordings)]
    return sampled_prompts(ledger, templates, known, active, words, held), active, held


def test_what_is_around_the_edits(opened: tuple[Ledger, Templates], known: LoadedModel) -> None:
    found, active, held = drawn(opened, known, MemitSettings())
    assert held == []
    assert found.worded == ()  # the edit prompt alone
    edited = {one.subject for one in active}
    assert {one.subject for one in found.same} == edited
    assert {one.relation for one in found.same} == {*(f"p{number}" for number in range(6)), "first"}
    assert {(one.relation, one.subject, one.target) for one in found.known} == {
        ("far", LANDS[0], "Oslo"),
        *(("p0", land, "Paris") for land in edited),
    }
    assert {(one.relation, one.subject) for one in found.others} == {("P36", land) for land in LANDS[4:]}
    assert drawn(opened, known, MemitSettings())[0] == found


def test_what_is_held_is_never_measured(opened: tuple[Ledger, Templates], known: LoadedModel) -> None:
    settings = MemitSettings(hold_subjects=5, hold_relations=3, wordings=2)
    found, active, held = drawn(opened, known, settings)
    edited = {one.subject for one in active}
    beside = {one.relation for one in held if one.subject in edited}
    assert len(beside) == 3
    assert len({one.subject for one in held} - edited) == 5
    measured = {one.relation for one in (*found.same, *found.known)}
    assert measured
    assert not measured & beside
    assert found.others
    assert not {one.subject for one in found.others} & {one.subject for one in held}
    # Each edit in all of the words that it is written in, and in none that is kept for measuring.
    assert len(found.worded) == 3 * len(active)
    assert not {one.prompt for one in found.worded} & {text for one in active for text in one.paraphrases}


def test_prompts_are_as_many_however_many_edits_there_are(tmp_path: Path, known: LoadedModel) -> None:
    lands = {f"Land {number}": "Paris" for number in range(260)}
    home = make_home(tmp_path / "home", MORE, P36=lands, p0=dict(list(lands.items())[:130]))
    with Ledger.open(home, create=False) as ledger:
        templates = templates_for(home)
        active = [templates.request(land, "P36", "Oslo") for land in list(lands)[:130]]
        words = [replace(one, prompt=one.wordings[0], wordings=()) for one in active]
        found = sampled_prompts(ledger, templates, known, active, words, [])
    assert {len(part) for part in (found.worded, found.same, found.known, found.others)} == {PROMPTS}
    assert len({one.id for one in found.worded}) == PROMPTS


def test_an_apply_its_status_and_eval_tell_them(small: Editable, home: Path) -> None:
    small_home = ("--home", home, *small.arguments, "--relation", "P36", "--limit", 2, "--set", "wordings=1", "--yes")
    applied = done("apply", *small_home, "--json").json["metrics"]
    named = [name for name in KEPT_METRICS if name != "known_kept_same"]  # which the model may know or not
    assert {*named, "paraphrase_recall"} <= applied.keys()
    for name in named:
        before, after = applied[name]["before"], applied[name]["after"]
        if name.startswith("kl"):
            assert before == 0 < after
        elif name != "worded_recall":
            assert before == 100 >= after
    status = done("status", "--home", home, "--json").json["metrics"]
    assert {name: status[name] for name in applied} == applied
    named = [name for name in named if not name.endswith("unrelated")]  # of the apply's corpus, which eval knows not
    found = run_eval(home, small.name, EvalOptions(metrics=("paraphrase_recall", *named)))
    assert found["edited"] is not None
    for name in ("paraphrase_recall", *named):
        figures = (found["base"][name].mean, found["edited"][name].mean)
        assert figures == pytest.approx((applied[name]["before"], applied[name]["after"]), rel=1e-3, abs=1e-4)
    assert found["lower"] == ("kl_same", "kl_others")
    with Ledger.open(home, create=False) as ledger:
        assert {"paraphrase_recall", *named} <= {row.name for row in ledger.metrics(1) if row.edit is None}


def test_what_is_known_of_the_edited_subjects_is_guarded(small: Editable, tmp_path: Path) -> None:
    """The capitals are what the model knows; other facts of the same countries are edited in."""
    home = make_home(
        tmp_path / "home",
        MORE,
        P36={land: CAPITALS[land] for land in LANDS[:3]},
        p0={LANDS[0]: "Oslo", LANDS[1]: "Rome"},
    )
    # The relation that is known is not asked for: its facts stay unedited.
    options = ("--home", home, *small.arguments, "--relation", "p0", "--yes", "--json")
    kept = done("apply", *options).json["metrics"]["known_kept_same"]
    assert kept["before"] == 100
    done("rollback", "--home", home, "--yes")
    ran = kbsync("apply", *options, "--max-known-loss", 0)
    if kept["after"] == 100:
        assert ran.code == 0
    else:
        assert ran.code == 1
        assert "of the edited subjects' other known facts are lost" in ran.err
