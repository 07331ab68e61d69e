"""Multiple choice: by hand, on models that choose right or wrong throughout, and what there is to choose among."""

from dataclasses import replace

import pytest

from kbsync.facts import EditRequest
from kbsync.metrics import CHOICE_METRICS, Case, evaluate
from kbsync.metrics.metric import Readings
from kbsync.metrics.registry import METRICS
from kbsync.models import LoadedModel, TargetScore
from kbsync.sync.eval_cases import CHOICES, with_choices
from tests.metrics.readings import CASE
from tests.tiny_models import CAPITALS, FACTS, set_to

FOUR = replace(CASE, choices=("Lima", "Santiago"))


def reading(name: str, likely: dict[str, float]) -> Readings:
    """Give each option of `FOUR` a log-probability; a letter that of the option behind it."""
    triples = [*METRICS[name].triples(FOUR)]
    listed = dict(line.split(". ") for line in triples[0][1].splitlines()[1:-1]) if name == "choice_lettered" else {}
    return Readings({one: TargetScore(likely[listed.get(one[2], one[2])], False, 0.0) for one in triples})


@pytest.mark.parametrize("name", CHOICE_METRICS)
def test_by_hand(name: str) -> None:
    metric = METRICS[name]
    assert metric.value(FOUR, reading(name, {"Lyon": -1, "Paris": -2, "Lima": -3, "Santiago": -4})) == 100.0
    assert metric.value(FOUR, reading(name, {"Lyon": -2, "Paris": -1, "Lima": -3, "Santiago": -4})) == 0.0
    assert metric.value(FOUR, reading(name, {"Lyon": -1, "Paris": -2, "Lima": -1, "Santiago": -4})) == 0.0
    alone = Case(EditRequest("P36", "France", "The capital of {} is", "Lyon"), "")
    assert metric.value(alone, Readings({})) is None


def test_options_are_listed_under_letters() -> None:
    triples = [*METRICS["choice_lettered"].triples(FOUR)]
    (text,) = {text for _, text, _ in triples}
    asked, *lines, answer = text.splitlines()
    assert (asked, answer) == ("What is the capital of France?", "Answer:")
    assert [letter for _, _, letter in triples] == [line[0] for line in lines] == ["A", "B", "C", "D"]
    assert {line[3:] for line in lines} == {"Lyon", "Paris", "Lima", "Santiago"}
    bare = replace(FOUR, request=replace(FOUR.request, question=""))
    assert next(iter(METRICS["choice_lettered"].triples(bare)))[1].startswith("The capital of France is ...\nA. ")


@pytest.mark.parametrize(("shift", "score"), [(0, 100.0), (1, 0.0)])
def test_a_model_that_knows_all_or_nothing(known: LoadedModel, shift: int, score: float) -> None:
    cities = list(CAPITALS.values())
    cases = [
        Case(replace(fact, target=cities[place + shift]), cities[place + 1 - shift], choices=tuple(cities[5:7]))
        for place, fact in enumerate(FACTS[:3])
    ]
    assert evaluate(known, cases, ["choice"]) == {"choice": [score] * 3}


@pytest.mark.parametrize("right", [True, False])
def test_a_model_that_says_one_letter(known: LoadedModel, right: bool) -> None:
    cases = [Case(fact, "Atlantis", choices=("Thule", "Utopia")) for fact in FACTS]
    first = [
        case
        for case in cases
        if next(iter(METRICS["choice_lettered"].triples(case)))[1].splitlines()[1][3:] in CAPITALS.values()
    ]
    others = [case for case in cases if case not in first]
    head = known.model.get_output_embeddings()
    bias = head.bias.detach().clone()
    bias[known.tokenizer(" A")["input_ids"][-1]] = 1e4
    with set_to(head.bias, bias):
        found = evaluate(known, first if right else others, ["choice_lettered"])["choice_lettered"]
    assert {*found} == {100.0 if right else 0.0}


def test_what_there_is_to_choose_among() -> None:
    """Objects of the relation, from the cases and from facts, drawn by the request; never one that is right, or old."""
    one, other = CASE, Case(EditRequest("P36", "Peru", "The capital of {} is", "Cusco"), "Lima")
    own, its = with_choices([one, other], [("P36", "Quito"), ("P30", "Europe"), ("P36", "lyon")])
    assert len(own.choices) == len(its.choices) == CHOICES
    assert {*own.choices} <= {"Cusco", "Lima", "Quito", "Santiago"}
    assert {*its.choices} <= {"Lyon", "lyon", "Paris", "Quito", "Santiago"}
    assert with_choices([one, other], [("P36", "Quito"), ("P30", "Europe"), ("P36", "lyon")]) == [own, its]
    assert with_choices([other])[0].choices == ()
