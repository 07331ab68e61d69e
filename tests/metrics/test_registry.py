"""The metrics over cases: by hand, against a plain one-prompt loop, and within their ranges."""

import math
from dataclasses import replace

import pytest

from kbsync.metrics import Case, Neighbour, summary
from kbsync.metrics.registry import MEANS, METRICS, TEXT_METRICS, evaluate
from kbsync.models import LoadedModel
from tests.metrics.readings import BARE, CASE, readings
from tests.models.plain import plain_accuracy, plain_score
from tests.tiny_models import CAPITALS, FACTS

READ = readings(
    edit=(0.6, 0.3), first=(0.2, 0.1), second=(0.1, 0.4), peru=(0.7, 0.2), chile=(0.25, 0.25), port=(0.75, 0.0)
)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ES", 100.0),
        ("PS", 50.0),
        ("NS", 50.0),  # as likely is no success
        ("EM", 30.0),
        ("PM", -10.0),
        ("NM", 25.0),
        ("efficacy", 60.0),
        ("paraphrase", 15.0),
        ("specificity", 47.5),
        ("portability", 75.0),
        ("recall", 100.0),
        ("paraphrase_recall", 0.0),
        ("chat_recall", 100.0),
        ("said", 100.0),
        ("said_paraphrase", 50.0),
        ("said_question", 0.0),
        ("said_chat", 100.0),
    ],
)
def test_by_hand(name: str, value: float) -> None:
    assert METRICS[name].value(CASE, READ) == pytest.approx(value)


def test_what_a_case_does_not_have_is_none() -> None:
    values = {name: metric.value(BARE, READ) for name, metric in METRICS.items()}
    assert {name for name, value in values.items() if value is not None} == {"efficacy", "recall", "said"}
    for metric in METRICS.values():
        assert all(target for _, _, target in metric.triples(BARE))
        assert [*metric.prompts(BARE)] == []


def test_an_alias_is_recalled_too() -> None:
    case = replace(CASE, request=replace(CASE.request, aliases=("Paris",)))
    assert METRICS["recall"].value(case, readings(edit=(0.3, 0.6))) == 100.0
    assert METRICS["recall"].value(CASE, readings(edit=(0.3, 0.6))) == 0.0


def test_a_neighbour_with_the_new_object_is_no_contest() -> None:
    near = (Neighbour("{}", "The capital of Peru is", "Lyon"),)
    assert METRICS["NS"].value(replace(CASE, neighbours=near), READ) is None


CITIES = list(CAPITALS.values())
CASES = [
    Case(
        replace(fact, target=CITIES[place + 1] if place % 2 else fact.target),
        "Cairo",
        tuple(Neighbour("{}", near.prompt.format(near.subject), near.target) for near in FACTS[12 : 13 + place]),
        generation=(f"{fact.subject} is", f"The capital of {fact.subject}"),
        references=(f"The capital of {fact.subject} is {fact.target}.",),
    )
    for place, fact in enumerate(FACTS[4:8])
]


def plain_values(loaded: LoadedModel, case: Case) -> dict[str, float]:
    """The figures of a case, one prompt at a time."""
    request = case.request

    def likely(text: str, subject: str, target: str) -> float:
        return math.exp(plain_score(loaded, text, subject, target)[0])

    texts = request.paraphrases
    edit = [
        (likely(request.prompt, request.subject, request.target), likely(request.prompt, request.subject, case.old))
    ]
    said = [(likely(text, request.subject, request.target), likely(text, request.subject, case.old)) for text in texts]
    near = [(likely("{}", n.subject, n.object), likely("{}", n.subject, request.target)) for n in case.neighbours]
    found = {}
    for letter, pairs in (("E", edit), ("P", said), ("N", near)):
        found[f"{letter}S"] = 100 * sum(first > second for first, second in pairs) / len(pairs)
        found[f"{letter}M"] = 100 * sum(first - second for first, second in pairs) / len(pairs)
    shares = [plain_accuracy(loaded, text, request.subject, request.target) for text in (request.prompt, *texts)]
    own = [plain_accuracy(loaded, "{}", near.subject, near.object) for near in case.neighbours]
    found |= {"efficacy": 100 * shares[0], "paraphrase": 100 * sum(shares[1:]) / len(texts)}
    return found | {"specificity": 100 * sum(own) / len(own)}


def test_measuring_equals_a_plain_loop(tiny: LoadedModel) -> None:
    """In every family."""
    plain = [plain_values(tiny, case) for case in CASES]
    found = evaluate(tiny, CASES, list(plain[0]))
    for name, values in found.items():
        assert values == pytest.approx([one[name] for one in plain], abs=1e-3), name


def test_each_is_within_its_range_and_the_seed_decides_texts_alone(known: LoadedModel) -> None:
    told: list[str] = []
    found = evaluate(known, CASES, list(METRICS), 0, lambda phase, done, total: told.append(f"{phase} {done}/{total}"))
    assert found.keys() == METRICS.keys()
    assert all(len(column) == len(CASES) for column in found.values())
    for name, column in found.items():
        low, high = -100 if name in ("EM", "PM", "NM") else 0, 700 if name == "GE" else 100
        assert all(value is None or low <= value <= high + 1e-9 for value in column), name
    assert "generating 8/8" in told
    again = evaluate(known, CASES, list(METRICS), 1)
    assert {name for name in METRICS if found[name] != again[name]} == {"GE", "RS"}


def test_a_metric_alone_reads_what_it_needs(known: LoadedModel) -> None:
    told: list[tuple[str, int, int]] = []
    evaluate(known, CASES[:1], ["ES"], 0, lambda *seen: told.append(seen))
    assert told == [("measuring", 2, 2)]
    assert evaluate(known, [], ["ES", "GE"]) == {"ES": [], "GE": []}


def test_a_case_is_scored_once_however_often_it_is_asked_for(known: LoadedModel) -> None:
    told: list[tuple[str, int, int]] = []
    names = ("ES", "PS", "NS", "recall", "paraphrase_recall")
    once = evaluate(known, [CASES[3]], names)
    many = evaluate(known, [CASES[3]] * 4, names, progress=lambda *seen: told.append(seen))
    assert many == {name: column * 4 for name, column in once.items()}
    neighbours = sum(near.object != CASES[3].request.target for near in CASES[3].neighbours)
    assert told[-1] == ("measuring", *(2 * (3 + neighbours),) * 2)  # 3 wordings and the neighbours, two objects each


def test_what_a_model_knows_is_measured_as_known_and_said(known: LoadedModel) -> None:
    near = tuple(Neighbour(fact.prompt, fact.subject, fact.target) for fact in FACTS[10:])
    right = [Case(fact, CITIES[place + 1], near) for place, fact in enumerate(FACTS[:10])]
    wrong = [Case(replace(case.request, target=case.old), case.request.target, near) for case in right]
    names = ("ES", "PS", "NS", "recall", "said")
    good, bad = (summary(evaluate(known, cases, names)) for cases in (right, wrong))
    assert good["S"] > 95
    assert bad["ES"] < 5
    assert (good["recall"], good["said"], bad["recall"], bad["said"]) == (100, 100, 0, 0)


def test_the_means_are_of_metrics_in_the_registry() -> None:
    assert all(part in METRICS for parts in MEANS.values() for part in parts)
    assert not MEANS.keys() & METRICS.keys()
    assert not {*TEXT_METRICS} & (MEANS.keys() | METRICS.keys())
