"""Figures on a model that is right in all, and on one that is right in none."""

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import pytest
import torch

from kbsync.metrics import Case, Neighbour, Said, Sampled, evaluate, kept_values, perplexity, say
from kbsync.models import LoadedModel
from kbsync.models.generation import end_tokens
from kbsync.sync.arms import Arm, compare
from kbsync.sync.home import silent
from tests.models.test_chat import QUESTIONS, with_template
from tests.tiny_models import FACTS, set_to

NEAR, OTHER = FACTS[5], FACTS[6]
SOME = FACTS[:3]
RIGHT = [
    Case(
        fact,
        OTHER.target,
        (Neighbour(NEAR.prompt, NEAR.subject, NEAR.target),),
        (Neighbour(NEAR.prompt, NEAR.subject, NEAR.target),),
    )
    for fact in SOME
]
WRONG = [
    Case(replace(fact, target=NEAR.target), fact.target, (Neighbour(NEAR.prompt, NEAR.subject, OTHER.target),))
    for fact in SOME
]
CONTESTS = ("ES", "PS", "NS")
LEADS = ("EM", "PM", "NM")
ANSWERS = (
    *("efficacy", "paraphrase", "specificity", "portability", "recall", "paraphrase_recall", "chat_recall"),
    *("said", "said_paraphrase", "said_question", "said_chat"),
)


@pytest.fixture
def chatty(known: LoadedModel) -> LoadedModel:
    """The model with a chat template in whose words it learnt its facts."""
    return replace(known, tokenizer=with_template(known.tokenizer, QUESTIONS))


def saying(loaded: LoadedModel, token: int) -> AbstractContextManager[None]:
    """Hold the model so that it says one token, whatever it is asked."""
    bias: torch.Tensor = loaded.model.get_output_embeddings().bias
    changed = bias.detach().clone()
    changed[token] = 1e4
    return set_to(bias, changed)


def letter(loaded: LoadedModel) -> int:
    """A token that no answer begins with."""
    return int(loaded.tokenizer("(")["input_ids"][-1])


def test_a_model_that_knows_all_wins_every_contest_or_none(known: LoadedModel) -> None:
    good, bad = (evaluate(known, cases, (*CONTESTS, *LEADS)) for cases in (RIGHT, WRONG))
    for name in CONTESTS:
        assert (set(good[name]), set(bad[name])) == ({100.0}, {0.0})
    for name in LEADS:
        assert all(value is not None and value > 80 for value in good[name])
        assert all(value is not None and value < -80 for value in bad[name])


@pytest.mark.parametrize("name", ANSWERS)
def test_a_model_gives_every_answer_or_none(chatty: LoadedModel, name: str) -> None:
    # It learnt no plain questions, so these are in the words of the prompt.
    plain = name == "said_question"
    cases = [replace(case, request=replace(case.request, question=case.request.prompt)) for case in RIGHT]
    asked = cases if plain else RIGHT
    assert set(evaluate(chatty, asked, [name])[name]) == {100.0}
    with saying(chatty, letter(chatty)):
        assert set(evaluate(chatty, asked, [name])[name]) == {0.0}


def test_all_around_the_edits_is_kept_or_nothing(known: LoadedModel) -> None:
    prompts = tuple(replace(fact, target="") for fact in FACTS[3:6])
    asked = Sampled(SOME, prompts, FACTS[3:6], prompts, prompts)
    base = say(known, asked)
    with saying(known, letter(known)):
        found = kept_values(base, say(known, asked))
    for name, values in kept_values(base, base).items():
        kl = name.startswith("kl_")
        assert set(values) == ({0.0} if kl else {100.0})
        assert all(value is not None and (value > 100 if kl else value == 0) for value in found[name])


def test_what_is_kept_by_hand() -> None:
    def said(worded: list[bool], known: list[bool], *rows: tuple[float, float]) -> Said:
        log_probs = torch.tensor(rows).log()
        return Said(worded, known, log_probs, log_probs, log_probs)

    base = said([False] * 2, [True, True, False], (0.6, 0.4), (0.3, 0.7))
    found = kept_values(base, said([True, False], [True, False, True], (0.2, 0.8), (0.1, 0.9)))
    assert (found["worded_recall"], found["known_kept_same"]) == ([100, 0], [100, 0])
    kl = [0.6 * math.log(3) + 0.4 * math.log(0.5), 0.3 * math.log(3) + 0.7 * math.log(7 / 9)]
    for kind in ("same", "others", "unrelated"):
        assert found[f"kept_{kind}"] == [0, 100]
        assert found[f"kl_{kind}"] == pytest.approx(kl)


def test_withdrawn_facts_are_held_or_gone(known: LoadedModel) -> None:
    gone = Arm("gone", lambda: saying(known, letter(known)))
    found = compare(known, [Arm("base", nullcontext), gone], RIGHT, 0, silent)["figures"]
    assert {name: one.mean for name, one in found["base"].items()} == {
        **{"recall_withdrawn": 100, "choice_withdrawn": 100, "kept_withdrawn": 100, "kl_withdrawn": 0}
    }
    assert (found["gone"]["recall_withdrawn"].mean, found["gone"]["kept_withdrawn"].mean) == (0, 0)
    assert found["gone"]["kl_withdrawn"].mean > 100


def test_text_of_a_model_that_says_nothing(known: LoadedModel) -> None:
    """What is read is the prompt alone."""
    same = replace(RIGHT[0], generation=("la la la la",), references=("la la la la",))
    with saying(known, end_tokens(known)[0]):
        assert evaluate(known, [same], ["GE", "RS"]) == {"GE": [0.0], "RS": [pytest.approx(100)]}
        assert evaluate(known, [replace(same, references=("Paris",))], ["RS"]) == {"RS": [0.0]}


def test_text_that_a_model_is_sure_of_has_a_perplexity_of_one(known: LoadedModel) -> None:
    with saying(known, letter(known)):
        assert perplexity(known, ["(" * 8]) == pytest.approx(1)
