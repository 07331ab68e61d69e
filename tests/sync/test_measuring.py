"""What an edit is measured on, and what comes of it."""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from kbsync.facts import EditRequest
from kbsync.ledger import FactRow, Ledger, Metric
from kbsync.memit import MemitSettings
from kbsync.metrics import Case, Sampled
from kbsync.metrics.metric import NEIGHBOURS
from kbsync.models import LoadedModel, score_targets
from kbsync.sync.answers import BaseScores
from kbsync.sync.measure import Measured, cases_for, measure_edits
from kbsync.sync.model import ModelChoice, Session
from kbsync.templates import Templates, load_templates
from tests.homes import TEMPLATES
from tests.tiny_models import CAPITALS, FACTS, TEXTS, known, set_to

__all__ = ["known"]

REQUEST = EditRequest("P36", "France", "The capital of {} is", "Oslo")


@pytest.fixture
def templates(tmp_path: Path) -> Templates:
    (tmp_path / "own.yaml").write_text(TEMPLATES)
    return load_templates(tmp_path)


def row(number: int, subject: str, thing: str, relation: str = "P36") -> FactRow:
    labels = (subject.casefold(), subject, None, thing.casefold(), thing, None)
    return FactRow(number, "s", relation, *labels, "normal", None, 1, 1, None)


def case(templates: Templates, facts: list[FactRow], old: str = "Paris", *more: EditRequest) -> Case:
    edited = {(one.relation, one.subject) for one in (REQUEST, *more)}
    (made,) = cases_for([REQUEST], {REQUEST.id: old}, facts, edited, templates)
    return made


def test_neighbours_are_unedited_subjects_of_the_relation(templates: Templates) -> None:
    other = EditRequest("P36", "Peru", "The capital of {} is", "Riga")
    facts = [
        row(1, "France", "Paris"),  # the edit's own subject
        row(2, "Peru", "Lima"),  # edited as well
        row(3, "Norway", "Oslo"),  # its object is the new one: no harm where the model says it
        row(4, "Japan", "Asia", "P30"),
        row(5, "Egypt", "Cairo"),
    ]
    made = case(templates, facts, "Paris", other)
    assert [(near.subject, near.object) for near in made.neighbours] == [("Egypt", "Cairo")]
    assert made.neighbours[0].prompt == "The capital of {} is"
    assert (made.request, made.old) == (REQUEST, "Paris")


def test_there_are_a_few_and_those_of_the_old_object_come_first(templates: Templates) -> None:
    facts = [row(place, f"Land {place}", "Paris" if place > 97 else f"City {place}") for place in range(100)]
    made = case(templates, facts)
    assert len(made.neighbours) == NEIGHBOURS
    assert {near.subject for near in made.neighbours[:2]} == {"Land 98", "Land 99"}
    assert case(templates, facts).neighbours == made.neighbours
    assert case(templates, facts[::-1], "City 5").neighbours[0].subject == "Land 5"


@contextmanager
def session(home: Path, choice: ModelChoice) -> Iterator[Session]:
    with Ledger.open(home) as ledger:
        yield Session.of(ledger, choice)


@contextmanager
def base_scores(home: Path, choice: ModelChoice) -> Iterator[BaseScores]:
    with session(home, choice) as work:
        yield BaseScores(work.ledger, work.model)


def test_no_neighbours_no_ns(templates: Templates, known: LoadedModel, tmp_path: Path) -> None:
    choice = ModelChoice("known", known, MemitSettings(), None, None)
    with session(tmp_path / "home", choice) as work:
        measured = measure_edits(work, nullcontext, [case(templates, [])], [REQUEST], Sampled())
    assert "NS" not in measured.table
    assert "S" not in measured.table
    assert "perplexity" not in measured.table  # no corpus


def figures(known: LoadedModel, tmp_path: Path, damage: float = 0.0) -> Measured:
    """Figures of a fact that the model knows and of one that it does not; "edited" by a factor on a weight."""
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(TEXTS[:8]))  # the second line is held out
    choice = ModelChoice("known", known, MemitSettings(), corpus, None)
    cases = [Case(FACTS[0], "Oslo"), Case(REQUEST, "Paris")]
    weight = known.family.weight(known.model, 1)
    with session(tmp_path / "home", choice) as work:
        active = [FACTS[0], REQUEST]
        return measure_edits(work, lambda: set_to(weight, weight * (1 + damage)), cases, active, Sampled())


@contextmanager
def passes(loaded: LoadedModel) -> Iterator[list[int]]:
    """Count how often the model's first block runs, in the one element of the list."""
    count = [0]

    def see(*_: object) -> None:
        count[0] += 1

    handle = loaded.family.block_list(loaded.model)[0].register_forward_hook(see)
    try:
        yield count
    finally:
        handle.remove()


def test_the_base_model_is_asked_once(known: LoadedModel, tmp_path: Path) -> None:
    with passes(known) as first:
        before = figures(known, tmp_path)
    with passes(known) as second:
        again = figures(known, tmp_path)
    assert again.table == before.table
    assert sorted(again.metrics, key=str) == sorted(before.metrics, key=str)
    asked: list[str] = []
    choice = ModelChoice("known", known, MemitSettings(), tmp_path / "corpus.txt", None)
    with base_scores(tmp_path / "home", choice) as base, passes(known) as none:
        triples = [(one.prompt, one.subject, thing) for one in (FACTS[0], REQUEST) for thing in ("Oslo", "Paris")]
        assert len(base(known, triples, lambda done: asked.append("asked"))) == 4
        base.perplexity(known, TEXTS[1:2], choice.settings.sequence_length)
    assert (none[0], asked) == (0, [])
    assert 0 < second[0] < first[0]


def test_what_another_model_was_asked_does_not_count(known: LoadedModel, tmp_path: Path) -> None:
    choice = ModelChoice("known", known, MemitSettings(), None, None)
    triple = [(REQUEST.prompt, REQUEST.subject, "Oslo")]
    with base_scores(tmp_path / "home", choice) as base:
        (before,) = base(known, triple)
        assert base(known, triple) == [before] == score_targets(known, triple)
    weight = known.family.weight(known.model, 1)
    with set_to(weight, 2 * weight), base_scores(tmp_path / "home", choice) as base:
        assert base(known, triple) == score_targets(known, triple) != [before]


def test_before_and_after_of_the_whole_and_of_each_edit(known: LoadedModel, tmp_path: Path) -> None:
    assert CAPITALS["France"] == FACTS[0].target
    measured = figures(known, tmp_path)
    assert measured.table["ES"] == {"before": 50.0, "after": 50.0}
    assert measured.table["recall"] == {"before": 50.0, "after": 50.0}
    assert measured.table["recall_active"] == {"before": 50.0, "after": 50.0}
    assert Metric("ES", 100.0, 100.0, FACTS[0].id) in measured.metrics
    assert Metric("ES", 0.0, 0.0, REQUEST.id) in measured.metrics
    assert Metric("PS", 100.0, 100.0, FACTS[0].id) in measured.metrics
    assert not any(metric.name == "PS" and metric.request == REQUEST.id for metric in measured.metrics)
    (failed,) = measured.failed
    told = {"subject": "France", "relation": "P36", "object": "Oslo", "rival": "Paris"}
    assert failed.items() >= told.items()
    assert failed["rival_probability"] is not None
    assert 0 < failed["probability"] < failed["rival_probability"] < 1
    assert measured.recalled == {FACTS[0].id: True, REQUEST.id: False}
    assert all(math.isfinite(row["after"] or 0) for row in measured.table.values())


def test_after_is_the_edited_model(known: LoadedModel, tmp_path: Path) -> None:
    table = figures(known, tmp_path, damage=30.0).table
    assert table["perplexity"]["before"] == figures(known, tmp_path).table["perplexity"]["before"]
    assert (table["perplexity"]["after"] or 0) > 1.02 * (table["perplexity"]["before"] or math.inf)


def test_a_broken_model_is_not_finite(known: LoadedModel, tmp_path: Path) -> None:
    broken = figures(known, tmp_path, damage=math.nan).table
    assert broken["perplexity"]["after"] == math.inf
