"""Recall by label or alias."""

from dataclasses import replace

from kbsync.metrics import Case, evaluate, recalled
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
    names = ("ES", "PS", "recall", "paraphrase_recall")
    found = evaluate(known, cases, names)
    assert found["recall"] == found["paraphrase_recall"] == [100.0, 0.0, 100.0, 0.0]
    plain = evaluate(known, [replace(case, request=replace(case.request, aliases=())) for case in cases], names)
    assert plain["recall"] == [100.0, 0.0, 0.0, 0.0]
    assert [found[name] for name in ("ES", "PS")] == [plain[name] for name in ("ES", "PS")]
