"""Recall by label or alias."""

from dataclasses import replace

from kbsync.metrics import Case, measure, recalled
from kbsync.models import LoadedModel
from tests.tiny_models import CAPITALS, FACTS

RIGHT = FACTS[0]
WRONG = replace(FACTS[1], target="Lima")
BY_ALIAS = replace(FACTS[2], target="Lima", aliases=("Vienna", CAPITALS[FACTS[2].subject]))
OTHER_ALIAS = replace(FACTS[3], target="Lima", aliases=("Vienna",))


def test_an_alias_counts(known: LoadedModel) -> None:
    assert recalled(known, [RIGHT, WRONG, BY_ALIAS, OTHER_ALIAS]) == [True, False, True, False]
    assert recalled(known, []) == []


def test_in_the_figures_too_and_in_recall_alone(known: LoadedModel) -> None:
    cases = [Case(request, "Oslo") for request in (RIGHT, WRONG, BY_ALIAS, OTHER_ALIAS)]
    found = measure(known, cases)
    assert [one.recall for one in found] == [1.0, 0.0, 1.0, 0.0]
    assert [one.paraphrase_recall for one in found] == [1.0, 0.0, 1.0, 0.0]
    plain = measure(known, [replace(case, request=replace(case.request, aliases=())) for case in cases])
    assert [one.recall for one in plain] == [1.0, 0.0, 0.0, 0.0]
    for one, without in zip(found, plain, strict=True):
        assert (one.ES, one.PS, one.log_prob) == (without.ES, without.PS, without.log_prob)
