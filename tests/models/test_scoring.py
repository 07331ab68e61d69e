"""Scores against a plain loop: one prompt and one target at a time, the whole forward, no cache and no padding."""

import random

import pytest
import torch
from transformers import Cache, DynamicCache

from kbsync.models import LoadedModel, Rows, head_log_probs, last_hidden, score_targets, scoring
from kbsync.models.forward import continue_hidden, fill_cache
from kbsync.models.scoring import score_rows
from tests.models.plain import next_log_probs, plain_accuracy, plain_score
from tests.tiny_models import CAPITALS, FACTS

TRIPLES = [
    ("The capital of {} is", "France", "Paris"),
    ("{}", "Peru", "a very long answer of many words"),
    ("In 1987 the government of {} sat in", "Saint Lucia", "İstanbul"),
    ("{} is", "x", "y"),
    ("The capital of {} is", "France", "Oslo"),
    ("The capital of {} is", "France", "Osaka"),
    ("The capital of {} is", "France", "Paris"),
    ("The capital of {} is", "France", "Paris and then a whole sentence more"),
    ("The capital of {}", "France", "is"),
    ("{}", "The capital of France", "is Oslo"),
]
"""a prompt with several targets, a pair asked twice, targets and prompts that begin others"""


def test_scores_equal_a_plain_loop(tiny: LoadedModel) -> None:
    done: list[int] = []
    scores = score_targets(tiny, TRIPLES, done.append)
    for triple, score in zip(TRIPLES, scores, strict=True):
        log_prob, exact = plain_score(tiny, *triple)
        assert score.log_prob == pytest.approx(log_prob, abs=1e-5)
        assert score.exact is exact
    assert done[-1] == len(TRIPLES)


def test_a_target_is_exact_only_with_every_token(known: LoadedModel) -> None:
    triples = [(fact.prompt, fact.subject, fact.target) for fact in FACTS]
    triples += [(fact.prompt, fact.subject, f"{fact.target}land") for fact in FACTS]
    triples += [("Zanzibar and {} in", fact.subject, fact.target) for fact in FACTS]
    scores = score_targets(known, triples)
    plain = [plain_score(known, *triple) for triple in triples]
    assert [score.exact for score in scores] == [exact for _, exact in plain]
    assert [score.log_prob for score in scores] == pytest.approx([log_prob for log_prob, _ in plain], abs=1e-5)
    accuracies = [score.accuracy for score in scores]
    assert accuracies == pytest.approx([plain_accuracy(known, *triple) for triple in triples])
    assert any(0 < share < 1 for share in accuracies)
    exact = [score.exact for score in scores]
    assert [share == 1 for share in accuracies] == exact
    assert (all(exact[:20]), any(exact[20:40])) == (True, False)


def test_no_triples_have_no_scores(known: LoadedModel) -> None:
    assert score_targets(known, []) == []


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The tokens of every row that a model runs while scoring; those that several share are run once."""
    seen: list[list[int]] = []
    begun: list[list[int]] = []

    def texts(rows: Rows) -> list[list[int]]:
        return [ids[mask.bool()].tolist() for ids, mask in zip(rows.ids, rows.mask, strict=True)]

    def alone(loaded: LoadedModel, rows: Rows) -> torch.Tensor:
        seen.extend(texts(rows))
        return last_hidden(loaded, rows)

    def begin(loaded: LoadedModel, rows: Rows) -> DynamicCache:
        begun.extend(texts(rows))
        return fill_cache(loaded, rows)

    def goes_on(loaded: LoadedModel, before: Rows, rest: Rows, cache: Cache) -> torch.Tensor:
        whole = [one + other for one, other in zip(texts(before), texts(rest), strict=True)]
        assert sorted(begun) == sorted(map(list, set(map(tuple, texts(before)))))
        begun.clear()
        seen.extend(whole)
        return continue_hidden(loaded, before, rest, cache)

    monkeypatch.setattr(scoring, "last_hidden", alone)
    monkeypatch.setattr(scoring, "fill_cache", begin)
    monkeypatch.setattr(scoring, "continue_hidden", goes_on)
    return seen


def test_candidates_of_one_token_are_one_row(known: LoadedModel, run: list[list[int]]) -> None:
    prompt = known.tokenizer("The capital of France is")["input_ids"]
    rows = [([*prompt, token], len(prompt)) for token in range(40)]
    scores = score_rows(known, rows)
    assert run == [prompt]
    plain = next_log_probs(known, prompt)[-1, :40].tolist()
    assert [score.log_prob for score in scores] == pytest.approx(plain, abs=1e-5)


def test_what_begins_another_row_is_read_off_it(known: LoadedModel, run: list[list[int]]) -> None:
    asked = [([5, 6, 7, 8, 9], 2), ([5, 6, 7, 8, 9], 3), ([5, 6, 11], 2), ([5, 6, 7, 4], 1), ([5, 12, 7, 8], 2)]
    scores = score_rows(known, asked)
    assert sorted(run) == [[5, 6, 7, 8], [5, 12, 7]]
    for (ids, start), score in zip(asked, scores, strict=True):
        (alone,) = score_rows(known, [(ids, start)])
        assert score.log_prob == pytest.approx(alone.log_prob, abs=1e-5)


def test_each_distinct_row_that_begins_no_other_is_run_once(
    known: LoadedModel, run: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "TOKEN_BUDGET", 40)  # several batches
    countries, cities = list(CAPITALS), list(CAPITALS.values())
    triples = [("The capital of {} is", country, city) for country in countries[:4] for city in cities]
    triples += [("{} is", f"The capital of {country}", cities[0]) for country in countries[:4]]
    random.Random(0).shuffle(triples)
    told: list[int] = []
    scores = score_targets(known, triples, told.append)
    texts = {tuple(known.tokenizer(f"{t.format(s)} {o}")["input_ids"][:-1]) for t, s, o in triples}
    ends = [text for text in texts if not any(text == other[: len(text)] for other in texts - {text})]
    assert sorted(map(tuple, run)) == sorted(ends)
    assert len(ends) < len(triples)
    assert (told[-1], len(told) > 1) == (len(triples), True)
    plain = [plain_score(known, *triple) for triple in triples]
    assert [score.log_prob for score in scores] == pytest.approx([log_prob for log_prob, _ in plain], abs=1e-5)
    assert [score.exact for score in scores] == [exact for _, exact in plain]


def test_logits_are_made_once_where_they_are_read(known: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def noted(loaded: LoadedModel, hidden: torch.Tensor) -> torch.Tensor:
        made.append(len(hidden))
        return head_log_probs(loaded, hidden)

    monkeypatch.setattr(scoring, "head_log_probs", noted)
    score_rows(known, [([5, 6, 7, 8], 2), ([5, 6, 7, 9], 2), ([5, 6, 7, 9, 4], 4)])
    assert made == [3]
