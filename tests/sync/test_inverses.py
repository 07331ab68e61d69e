"""Inverse facts as edits of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kbsync.facts import INVERSE
from kbsync.ledger import EditRow, Ledger
from kbsync.ledger.edits import has_inverses, strange_edits
from kbsync.ledger.facts import record_vetoes
from kbsync.sync.plan import Plan, PlanRow, known_facts, plan_for
from kbsync.sync.status import overview_for
from tests.homes import (
    COUNTRIES,
    SMALL_SETTINGS,
    SWAPPED,
    TEMPLATES,
    Editable,
    batches,
    copied,
    deltas_of,
    difference,
    done,
    keep,
    make_home,
    pull,
    small,
)

__all__ = ["small"]

BOTH = (
    TEMPLATES
    + """\
  inverse: "{} is the capital of"
P1376:
  label: capital of
  prompt: "{} is the capital of"
  paraphrases: ["{} governs", "The land of {} is", "{} is the seat of", "From {} they govern"]
  question: What is {} the capital of?
"""
)
A, B, C = COUNTRIES[:3]
FACTS = {one: SWAPPED[one] for one in (A, B, C)}
BACK = f"{INVERSE}P36"


def rows(plan: Plan) -> dict[tuple[str, str], PlanRow]:
    return {(row.relation, row.subject): row for row in plan.rows}


def signs(home: Path, model: str | None = None, **options: bool) -> dict[tuple[str, str], str]:
    """Return the plan's signs, which the overview has, too."""
    plan, seen = plan_for(home, model, **options), overview_for(home, model, **options)  # type: ignore[arg-type]
    found: dict[tuple[str, str], str] = {about: row.sign for about, row in rows(plan).items()}
    assert plan.counts == seen.counts
    assert found == {(row.relation, row.subject): row.sign for row in (*seen.rows, *plan.having("=", "k"))}
    return found


def edits(home: Path) -> dict[tuple[str, str], EditRow]:
    with Ledger.open(home, create=False) as ledger:
        return {(row.relation, row.subject): row for row in ledger.active_edits(ledger.models()[0].key)}


def test_they_are_asked_for(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", BOTH, P36=FACTS)
    assert signs(home) == {("P36", one): "+" for one in FACTS}
    assert signs(home, inverse=True) == {
        **{("P36", one): "+" for one in FACTS},
        **{(BACK, city): "+" for city in FACTS.values()},
    }
    row = rows(plan_for(home, None, inverse=True))[BACK, FACTS[A]]
    assert (row.object, row.reason) == (A, "inverse of P36")
    assert row.request is not None
    assert row.request.prompt.format(row.request.subject) == f"{FACTS[A]} is the capital of"
    shown = done("plan", "--home", home, "--model", "practice", "--compile-inverse", "--json").json
    assert shown["counts"]["+"] == 6


def test_an_object_of_several_subjects_has_none(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", BOTH, P36={A: "Oslo", B: "Oslo", C: "Lima"})
    found = rows(plan_for(home, None, on_conflict="first", inverse=True))
    assert found[BACK, "Oslo"].sign == "!"
    assert found[BACK, "Oslo"].reason == f"no single inverse: Oslo is P36 of {A}, {B}"
    assert found[BACK, "Lima"].sign == "+"
    assert plan_for(home, None, on_conflict="error", inverse=True).counts["!"] == 1  # it is no fault of the source


def test_what_is_stated_goes_before(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", BOTH, P36=FACTS, P1376={FACTS[A]: A, FACTS[B]: "Elsewhere"})
    found = rows(plan_for(home, None, inverse=True))
    assert (BACK, FACTS[A]) not in found  # it says the same
    assert found[BACK, FACTS[B]].sign == "!"
    assert found[BACK, FACTS[B]].reason == f"P1376 of {FACTS[B]} is stated: Elsewhere"
    assert found["P1376", FACTS[B]].sign == "+"
    assert found[BACK, FACTS[C]].sign == "+"


def test_a_veto_on_one_holds(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", BOTH, P36=FACTS)
    row = rows(plan_for(home, None, inverse=True))[BACK, FACTS[A]]
    assert row.fact is not None
    with Ledger.open(home) as ledger:
        record_vetoes(ledger, [row.fact], any_object=False, reason="found by bisect")
    found = rows(plan_for(home, None, inverse=True))
    assert (found[BACK, FACTS[A]].sign, found["P36", A].sign, found[BACK, FACTS[B]].sign) == ("!", "+", "+")
    done("retract", "--undo", "--subject", FACTS[A], "--relation", BACK, "--home", home)
    assert rows(plan_for(home, None, inverse=True))[BACK, FACTS[A]].sign == "+"


def test_only_what_is_edited_has_one(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", BOTH, P36=FACTS)
    plan = plan_for(home, None, inverse=True)
    right = {f"The capital of {A} is": FACTS[A], f"{FACTS[B]} is the capital of": B}
    right |= {text.format(A): FACTS[A] for text in rows(plan)["P36", A].request.paraphrases}  # type: ignore[union-attr]
    asked: set[str] = set()

    def answers(prompts: dict[str, str]) -> dict[str, str]:
        asked.update(prompts)
        return {prompt: right.get(prompt, "nothing") for prompt in prompts}

    found = rows(known_facts(plan, answers))  # type: ignore[arg-type]
    assert {about: row.sign for about, row in found.items()} == {
        ("P36", A): "k",
        ("P36", B): "+",
        (BACK, FACTS[B]): "k",
        ("P36", C): "+",
        (BACK, FACTS[C]): "+",
    }
    assert f"{FACTS[A]} is the capital of" not in asked


@pytest.fixture(scope="module")
def kept(small: Editable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two facts that are edited both ways. Not to be changed."""
    home = make_home(tmp_path_factory.mktemp("inverses") / "home", BOTH, P36=FACTS)
    small.apply(home, "--set", "steps=6", "--include-known", "--compile-inverse", "--limit", "2")
    return keep(home)


@pytest.fixture
def home(kept: Path) -> Iterator[Path]:
    with copied(kept) as home:
        yield home


def test_they_are_edits_that_name_their_facts(small: Editable, home: Path) -> None:
    held = edits(home)
    first, second = (one for relation, one in held if relation == "P36")
    assert held.keys() == {("P36", first), ("P36", second), (BACK, FACTS[first]), (BACK, FACTS[second])}
    for one in (first, second):
        there, back = held["P36", one], held[BACK, FACTS[one]]
        assert (there.fact, there.object_key) == (back.fact, back.subject_key)
        assert back.object == one
    # What the model was made with goes on, and holds for the third as well.
    (third,) = FACTS.keys() - {first, second}
    found = signs(home)
    assert (found["P36", third], found[BACK, FACTS[third]]) == ("+", "+")
    assert "+" not in {found[about] for about in held}
    with Ledger.open(home) as ledger:
        assert not strange_edits(ledger)
    assert done("verify", "--home", home, "--json").json["whole"]


def test_they_go_with_their_facts(small: Editable, home: Path) -> None:
    first, second = (one for relation, one in edits(home) if relation == "P36")
    pull(home, P36={second: FACTS[second]})
    found = rows(plan_for(home, None))
    assert (found["P36", first].sign, found[BACK, FACTS[first]].sign) == ("-", "-")
    assert found[BACK, FACTS[first]].reason == "its fact is not edited now"
    small.apply(home, "--set", "steps=6")
    assert edits(home).keys() == {("P36", second), (BACK, FACTS[second])}


def test_a_retraction_takes_both(small: Editable, home: Path) -> None:
    first, second = (one for relation, one in edits(home) if relation == "P36")
    done("retract", "--subject", first, "--relation", "P36", "--home", home, "--yes", "--corpus", small.corpus)
    assert edits(home).keys() == {("P36", second), (BACK, FACTS[second])}


def test_without_them_it_is_the_state_of_the_facts_alone(
    small: Editable, home: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first, second = (one for relation, one in edits(home) if relation == "P36")
    both = deltas_of(home)
    pull(home, P36={one: FACTS[one] for one in (first, second)})
    small.apply(home, "--set", "steps=6", "--include-known", "--no-compile-inverse")
    assert edits(home).keys() == {("P36", first), ("P36", second)}
    with Ledger.open(home) as ledger:
        assert not has_inverses(ledger, ledger.models()[0].key)
    never = make_home(tmp_path_factory.mktemp("never") / "home", BOTH, P36={one: FACTS[one] for one in (second, first)})
    small.apply(never, "--set", "steps=6", "--include-known")
    assert difference(deltas_of(home), deltas_of(never)) < 1e-5
    assert difference(deltas_of(home), both) > 1e-3
    assert len(batches(home)) == 2


def test_a_project_says_so(small: Editable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_home(tmp_path / ".kbsync", BOTH, P36={A: FACTS[A]})
    (tmp_path / "kbsync.yaml").write_text(
        f"model: {small.name}\nsources: [{{source: .kbsync/facts.yaml, relations: [P36]}}]\ncorpus: {small.corpus}\n"
        f"compile_inverse: true\nsettings: {{{', '.join(one.replace('=', ': ', 1) for one in _settings())}}}\n"
        "bounds: {max_perplexity_increase: 1000000, max_specificity_loss: 100, max_weight_change: 1.0e+12}\n"
    )
    monkeypatch.chdir(tmp_path)
    assert done("status", "--json").json["counts"]["+"] == 2
    assert done("plan", "--json").json["counts"]["+"] == 2
    values = done("config", "show", "--json").json["values"]
    assert {"name": "compile_inverse", "value": True, "origin": "file"} in values
    synced = done("sync", "--json").json
    assert synced["applied"]["edits"] == 2
    left = done("status", "--json").json["counts"]
    assert left["="] + left["x"] == 2


def _settings() -> list[str]:
    """The small model's settings as YAML takes them."""
    found = [one for one in SMALL_SETTINGS if not one.startswith(("layers", "steps"))]
    return [*found, "layers=[1, 2]", "steps=6"]
