"""What follows from an edit: by hand, and on a model that answers all of it or nothing."""

from dataclasses import replace

import pytest

from kbsync.metrics import RIPPLE_METRICS, Case, Ripple, evaluate
from kbsync.metrics.metric import Readings, Spoken
from kbsync.metrics.registry import METRICS
from kbsync.metrics.said import KINDS
from kbsync.models import LoadedModel, TargetScore
from tests.metrics.readings import CASE
from tests.tiny_models import CAPITALS, FACTS

PROMPTS = ("The capital of Peru is", "The capital of Chile is")


@pytest.mark.parametrize("kind", KINDS)
def test_by_hand(kind: str) -> None:
    """One of two is right, in words and by the likelier of two answers."""
    said = Readings({}, said={Spoken(PROMPTS[0]): " Lima.", Spoken(PROMPTS[1]): " not Santiago"})
    asked = tuple(Ripple(kind, prompt, (name,)) for prompt, name in zip(PROMPTS, ("Lima", "Santiago"), strict=True))
    metric = METRICS[f"ripple_{kind}"]
    assert (metric.value(replace(CASE, ripples=asked), said), metric.value(CASE, said)) == (50.0, None)
    likely = {("Lima", 0): -1.0, ("Lyon", 0): -2.0, ("Lima", 1): -2.0, ("Lyon", 1): -2.0}
    scores = {("{}", PROMPTS[place], name): TargetScore(value, False, 0.0) for (name, place), value in likely.items()}
    contest = tuple(Ripple(kind, prompt, ("Lima",), "Lyon") for prompt in PROMPTS)
    case = replace(CASE, ripples=contest)
    assert metric.value(case, Readings(scores)) == 50.0  # as likely is not right
    assert {*metric.triples(case)} == scores.keys()
    assert [*metric.spoken(case)] == []


def asked(kind: str, prompt: str, right: str, wrong: str) -> Ripple:
    """A question of a kind, as it is asked of the knowledge base."""
    contest = kind in ("true_false", "negation")
    return Ripple(kind, prompt, (right,), wrong) if contest else Ripple(kind, prompt, ("Atlantis", right))


@pytest.mark.parametrize(("shift", "score"), [(0, 100.0), (1, 0.0)])
def test_a_model_that_knows_all_or_nothing(known: LoadedModel, shift: int, score: float) -> None:
    """The model answers with the country's own capital; what is right is that, or another one."""
    cities = list(CAPITALS.values())
    cases = [
        Case(
            fact,
            "",
            ripples=tuple(
                asked(kind, fact.prompt.format(fact.subject), cities[place + shift], cities[place + 1 - shift])
                for kind in KINDS
            ),
        )
        for place, fact in enumerate(FACTS[:3])
    ]
    found = evaluate(known, cases, RIPPLE_METRICS)
    assert {name: set(column) for name, column in found.items()} == {name: {score} for name in RIPPLE_METRICS}


def test_what_is_told_before_a_prompt_changes_the_answer_and_not_its_place(known: LoadedModel) -> None:
    names = ("ES", "recall", "said")
    case = Case(FACTS[0], "Oslo")
    plain = evaluate(known, [case], names)
    assert evaluate(known, [case], names, told=lambda prompt: "") == plain
    heard: list[str] = []

    def told(prompt: str) -> str:
        heard.append(prompt)
        return "The capital of Norway is Oslo. "

    assert evaluate(known, [case], names, told=told).keys() == plain.keys()
    assert {*heard} == {"The capital of France is"}
