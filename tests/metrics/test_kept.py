"""What edits do around themselves: against plain computation, one prompt at a time; an unedited model keeps all."""

import math
from dataclasses import replace

import pytest
import torch

from kbsync.facts import EditRequest
from kbsync.metrics import ABOUT, KEPT_METRICS, METRICS, TEXT_METRICS, Sampled, kept_values, say
from kbsync.metrics.registry import MEANS
from kbsync.models import LoadedModel
from tests.models.plain import next_log_probs, plain_score
from tests.tiny_models import FACTS, set_to

OPEN = tuple(replace(fact, target="") for fact in FACTS)
WRONG = replace(FACTS[9], target="Oslo")
OTHER_NAME = replace(FACTS[10], target="Oslo", aliases=(FACTS[10].target,))
SAMPLED = Sampled(
    worded=tuple(replace(fact, prompt=text) for fact in FACTS[:3] for text in (fact.prompt, *fact.paraphrases)),
    same=OPEN[:7],
    known=(*FACTS[3:9], WRONG, OTHER_NAME),
    others=tuple(replace(one, prompt="The government of {} sits in") for one in OPEN[7:12]),
    unrelated=tuple(EditRequest("", text, "{}", "") for text in ("The mayor of", "Ulaanbaatar isn't far")),
)

PARTS = ("same", "others", "unrelated")


def means(found: dict[str, list[float | None]]) -> dict[str, float]:
    return {name: sum(value or 0.0 for value in column) / len(column) for name, column in found.items()}


def test_an_unedited_model_keeps_all(tiny: LoadedModel) -> None:
    """In every family, and exactly: also where the model knows none of the facts."""
    base = say(tiny, SAMPLED)
    found = means(kept_values(base, say(tiny, SAMPLED)))
    for part in PARTS:
        assert (found[f"kept_{part}"], found[f"kl_{part}"]) == (100, 0)
    assert found.get("known_kept_same", 100) == 100


def test_figures_agree_with_one_prompt_at_a_time(known: LoadedModel) -> None:
    def plain() -> dict[str, list[torch.Tensor]]:
        texts = {part: getattr(SAMPLED, part) for part in PARTS}
        return {
            part: [
                next_log_probs(known, known.tokenizer(one.prompt.format(one.subject))["input_ids"])[-1] for one in asked
            ]
            for part, asked in texts.items()
        }

    base, plain_base = say(known, SAMPLED), plain()
    weight = known.family.weight(known.model, 1)
    with set_to(weight, -3 * weight):
        found = means(kept_values(base, say(known, SAMPLED)))
        plain_now = plain()
        exact = [plain_score(known, one.prompt, one.subject, one.target)[1] for one in SAMPLED.worded]
        names = [(one, one.target) for one in FACTS[3:9]] + [(OTHER_NAME, name) for name in OTHER_NAME.names]
        answered = [plain_score(known, one.prompt, one.subject, name)[1] for one, name in names]
    for part in PARTS:
        pairs = list(zip(plain_base[part], plain_now[part], strict=True))
        tops = [int(before.argmax()) == int(after.argmax()) for before, after in pairs]
        assert found[f"kept_{part}"] == pytest.approx(100 * sum(tops) / len(tops))
        kl = [float((before.exp() * (before - after)).sum()) for before, after in pairs]
        assert found[f"kl_{part}"] == pytest.approx(sum(kl) / len(kl), rel=1e-3)
        assert found[f"kl_{part}"] > 0
    assert found["worded_recall"] == pytest.approx(100 * sum(exact) / len(exact))
    # The base model answers these seven, one of them by its alias.
    assert found["known_kept_same"] == pytest.approx(100 * (sum(answered[:6]) + any(answered[6:])) / 7)


def test_a_fact_that_the_base_does_not_answer_is_not_lost(known: LoadedModel) -> None:
    base = say(known, Sampled(known=(WRONG,)))
    assert kept_values(base, base) == {}


def test_a_broken_model_is_infinitely_far(known: LoadedModel) -> None:
    base = say(known, SAMPLED)
    weight = known.family.weight(known.model, 1)
    with set_to(weight, math.nan):
        found = kept_values(base, say(known, SAMPLED))
    assert set(found["kl_same"]) == set(found["kl_others"]) == {math.inf}


def test_the_registry_says_of_every_figure_which_way_is_better() -> None:
    assert {*KEPT_METRICS, *METRICS, *TEXT_METRICS, *MEANS} <= ABOUT.keys()
    assert all(about.better in ("higher", "lower") and about.text for about in ABOUT.values())
    assert {name for name, about in ABOUT.items() if about.better == "lower"} >= {"kl_same", "kl_others", "perplexity"}
