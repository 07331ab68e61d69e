"""ES, PS, NS, S and recall: by hand, and against a plain loop over a real model."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from kbsync.facts import EditRequest
from kbsync.metrics import Case, CaseFigures, Neighbour, measure, summary
from kbsync.metrics.cases import figures
from kbsync.models import LoadedModel, TargetScore
from tests.models.plain import plain_score
from tests.tiny_models import CAPITALS, FACTS

REQUEST = EditRequest("P36", "France", "The capital of {} is", "Lyon", ("{} sits in", "Of {}, the capital is"))
NEAR = (Neighbour("The capital of {} is", "Peru", "Lima"), Neighbour("The capital of {} is", "Chile", "Santiago"))
CASE = Case(REQUEST, "Paris", NEAR)


def scores(
    edit: tuple[float, float],
    paraphrases: Sequence[tuple[float, float]],
    near: Sequence[tuple[float, float]],
    exact: Sequence[bool] = (False, False, False),
) -> dict[tuple[str, str, str], TargetScore]:
    """(new, old) for the prompt and each paraphrase, (own, new) for each neighbour."""
    found = {}
    for wording, (new, old), right in zip(
        (REQUEST.prompt, *REQUEST.paraphrases), (edit, *paraphrases), exact, strict=True
    ):
        found[wording, "France", "Lyon"] = TargetScore(new, right, float(right))
        found[wording, "France", "Paris"] = TargetScore(old, False, 0.0)
    for one, (own, new) in zip(NEAR, near, strict=True):
        found[one.prompt, one.subject, one.object] = TargetScore(own, True, 1.0)
        found[one.prompt, one.subject, "Lyon"] = TargetScore(new, False, 0.0)
    return found


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            scores((-1, -2), [(-1, -2), (-3, -2)], [(-1, -2), (-1, -5)], (True, True, False)),
            CaseFigures(ES=1.0, PS=0.5, NS=1.0, recall=1.0, paraphrase_recall=0.5, log_prob=-1),
        ),
        (
            scores((-2, -1), [(-5, -2), (-3, -2)], [(-2, -1), (-1, -5)], (False, True, True)),
            CaseFigures(ES=0.0, PS=0.0, NS=0.5, recall=0.0, paraphrase_recall=1.0, log_prob=-2),
        ),
        (  # as likely is no success, for either side
            scores((-1, -1), [(-2, -2), (-3, -3)], [(-2, -2), (-1, -1)]),
            CaseFigures(ES=0.0, PS=0.0, NS=0.0, recall=0.0, paraphrase_recall=0.0, log_prob=-1),
        ),
    ],
)
def test_a_cases_figures(given: dict[tuple[str, str, str], TargetScore], expected: CaseFigures) -> None:
    assert figures(CASE, given) == expected


def test_what_a_case_does_not_have_is_none() -> None:
    bare = Case(replace(REQUEST, paraphrases=()), "Paris")
    found = figures(bare, scores((-1, -2), [(-1, -2), (-3, -2)], [(-1, -2), (-1, -5)]))
    assert (found.ES, found.PS, found.NS, found.paraphrase_recall) == (1.0, None, None, None)


def row(ES: float, PS: float | None, NS: float | None, recall: float = 0.0) -> CaseFigures:
    return CaseFigures(ES, PS, NS, recall, PS, -1.0)


def test_the_summary_is_the_mean_over_cases_in_percent() -> None:
    found = summary([row(1, 0.5, 0.25, 1), row(1, 1, 0.75), row(0, 0, 0.5)])
    assert found == pytest.approx(
        {
            "ES": 200 / 3,
            "PS": 50.0,
            "NS": 50.0,
            "recall": 100 / 3,
            "paraphrase_recall": 50.0,
            "S": 3 / (3 / 200 + 1 / 50 + 1 / 50),
        }
    )


@pytest.mark.parametrize("part", [1.0, 0.4, 0.0])
def test_s_of_equal_parts_is_that_part(part: float) -> None:
    assert summary([row(part, part, part)])["S"] == pytest.approx(100 * part)


def test_s_is_zero_where_one_part_is_and_below_the_mean_of_unequal_parts() -> None:
    assert summary([row(1, 1, 0)])["S"] == 0
    assert summary([row(1, 1, 0.5)])["S"] == pytest.approx(75.0)


def test_none_is_left_out_of_a_mean() -> None:
    found = summary([row(1, None, 0.5), row(0, 0.5, None)])
    assert (found["ES"], found["PS"], found["NS"]) == (50.0, 50.0, 50.0)
    assert found["S"] == pytest.approx(50.0)


def test_without_a_part_there_is_no_s() -> None:
    assert summary([row(1, None, None, 1)]) == {"ES": 100.0, "recall": 100.0}
    assert "S" not in summary([row(1, 1, None)])
    assert summary([]) == {}


CASES = [
    Case(
        replace(fact, target="Oslo" if number % 2 else fact.target),
        "Cairo",
        tuple(Neighbour(near.prompt, near.subject, near.target) for near in FACTS[number + 5 : number + 5 + number]),
    )
    for number, fact in enumerate(FACTS[4:8])
]


def plain_figures(loaded: LoadedModel, case: Case) -> CaseFigures:
    def likelier(wording: str, subject: str, one: str, other: str) -> bool:
        return plain_score(loaded, wording, subject, one)[0] > plain_score(loaded, wording, subject, other)[0]

    request = case.request
    wins = [likelier(text, request.subject, request.target, case.old) for text in request.paraphrases]
    exact = [plain_score(loaded, text, request.subject, request.target)[1] for text in request.paraphrases]
    kept = [likelier(one.prompt, one.subject, one.object, request.target) for one in case.neighbours]
    log_prob, recalled = plain_score(loaded, request.prompt, request.subject, request.target)
    return CaseFigures(
        ES=float(likelier(request.prompt, request.subject, request.target, case.old)),
        PS=sum(wins) / len(wins),
        NS=sum(kept) / len(kept) if kept else None,
        recall=float(recalled),
        paraphrase_recall=sum(exact) / len(exact),
        log_prob=log_prob,
    )


def assert_plain(loaded: LoadedModel, cases: Sequence[Case]) -> list[CaseFigures]:
    """Check what is measured against the plain loop; return it."""
    found = measure(loaded, cases)
    for one, case in zip(found, cases, strict=True):
        expected = plain_figures(loaded, case)
        assert one.log_prob == pytest.approx(expected.log_prob, abs=1e-5)
        assert replace(one, log_prob=0.0) == replace(expected, log_prob=0.0)
    return found


def test_measuring_equals_a_plain_loop(known: LoadedModel) -> None:
    found = assert_plain(known, CASES)
    assert {one.recall for one in found} == {0.0, 1.0}
    assert found[0].NS is None


def test_measuring_equals_a_plain_loop_in_every_family(tiny: LoadedModel) -> None:
    assert_plain(tiny, CASES)


def test_what_a_model_knows_is_measured_as_known(known: LoadedModel) -> None:
    cities = list(CAPITALS.values())
    near = tuple(Neighbour(fact.prompt, fact.subject, fact.target) for fact in FACTS[10:])
    cases = [Case(fact, cities[place + 1], near) for place, fact in enumerate(FACTS[:10])]
    assert summary(measure(known, cases))["S"] > 95
    turned = [Case(replace(case.request, target=case.old), case.request.target, near) for case in cases]
    assert summary(measure(known, turned))["ES"] < 5


def test_each_prompt_and_object_is_scored_once(known: LoadedModel) -> None:
    told: list[tuple[str, int, int]] = []
    once = measure(known, [CASES[3]])
    many = measure(known, [CASES[3]] * 4, lambda *seen: told.append(seen))
    assert many == once * 4
    # 3 wordings with 2 objects, and 3 neighbours with 2.
    assert told[-1] == ("measuring", 12, 12)


def test_no_cases_have_no_figures(known: LoadedModel) -> None:
    assert measure(known, []) == []
