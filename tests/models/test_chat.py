"""Questions in a chat template: where the answer's tokens stand, and scores as a plain loop gives them."""

import copy
from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from kbsync.errors import ModelError
from kbsync.models import LoadedModel, require_chat_template, score_chat
from kbsync.models.scoring import chat_rows
from kbsync.practice import END
from tests.models.plain import next_log_probs
from tests.tiny_models import CAPITALS, FACTS, bos_tokenizer, byte_level_tokenizer

HEADERS = """\
{%- if begin is not defined %}{{ bos_token }}{% endif %}
{%- for turn in messages %}[{{ turn.role }}]
{{ turn.content }}{{ eos_token }}
{% endfor %}
{%- if add_generation_prompt %}[assistant]
{% endif %}"""
"""as ChatML and Llama 3: begins with BOS, the answer right after a header's line"""
QUESTIONS = """\
{%- for turn in messages %}
{%- if turn.role == "user" %}Question: {{ turn.content }} Answer:{% else %} {{ turn.content }}.{% endif %}
{%- endfor %}"""
"""as Llama 2: no header, a space before the answer; `known` was trained on questions in these words"""
THINKING = """\
{%- for turn in messages %}{{ turn.role }}: {{ turn.content }}{{ eos_token }}{% endfor %}
{%- if add_generation_prompt %}assistant: {% if enable_thinking is not defined or enable_thinking %}<think>{% endif %}
{%- endif %}"""
ASKED = [("What is the capital of France?", "Paris"), ("Who is it?", "Ekrem İmamoğlu")]


def with_template(tokenizer: PreTrainedTokenizerBase, template: str) -> PreTrainedTokenizerBase:
    made = copy.deepcopy(tokenizer)
    made.chat_template = template
    return made


@pytest.fixture(params=[HEADERS, QUESTIONS])
def chatty(tiny: LoadedModel, request: pytest.FixtureRequest) -> LoadedModel:
    """A random model of each family, with a chat template."""
    return replace(tiny, tokenizer=with_template(tiny.tokenizer, request.param))


@pytest.mark.parametrize("make", [byte_level_tokenizer, bos_tokenizer])
def test_the_answer_follows_the_assistants_header(make: type) -> None:
    tokenizer = with_template(make(), HEADERS)
    for (question, answer), (ids, start) in zip(ASKED, chat_rows(tokenizer, ASKED), strict=True):
        assert tokenizer.decode(list(ids[:start])) == f"{END}[user]\n{question}{END}\n[assistant]\n"
        assert tokenizer.decode(list(ids[start:])) == answer
        assert ids.count(tokenizer.bos_token_id) == 2  # the template's own two: none is doubled
        assert list(ids[:start]) == tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, return_dict=False
        )


def test_a_space_where_the_template_puts_one() -> None:
    tokenizer = with_template(bos_tokenizer(), QUESTIONS)
    for (question, answer), (ids, start) in zip(ASKED, chat_rows(tokenizer, ASKED), strict=True):
        assert tokenizer.decode(list(ids[:start])) == f"Question: {question} Answer:"
        assert tokenizer.decode(list(ids[start:])) == f" {answer}"


def test_a_model_that_would_think_first_is_asked_not_to() -> None:
    tokenizer = with_template(byte_level_tokenizer(), THINKING)
    ((ids, start),) = chat_rows(tokenizer, ASKED[:1])
    assert tokenizer.decode(list(ids)) == f"user: {ASKED[0][0]}{END}assistant: Paris"
    assert tokenizer.decode(list(ids[start:])) == "Paris"


def test_a_header_keeps_its_tokens_where_an_answer_would_grow_into_it() -> None:
    # A header that ends within a word that the tokenizer knows whole.
    tokenizer = with_template(byte_level_tokenizer(), QUESTIONS.replace("Answer:", "the cap").replace("%} {{", "%}{{"))
    ((ids, start),) = chat_rows(tokenizer, [("Q?", "ital")])
    grown = tokenizer("Question: Q? the capital")["input_ids"]
    assert len(grown) < len(ids)
    assert list(ids[:start]) == tokenizer("Question: Q? the cap")["input_ids"]
    assert tokenizer.decode(list(ids[start:])) == "ital"


@torch.no_grad()
def test_scores_equal_a_plain_loop(chatty: LoadedModel) -> None:
    scores = score_chat(chatty, ASKED)
    for (ids, start), score in zip(chat_rows(chatty.tokenizer, ASKED), scores, strict=True):
        log_probs = next_log_probs(chatty, list(ids))
        each = [log_probs[place - 1, ids[place]] for place in range(start, len(ids))]
        assert score.log_prob == pytest.approx(float(torch.stack(each).mean()), abs=1e-5)
        assert score.exact == all(int(log_probs[place - 1].argmax()) == ids[place] for place in range(start, len(ids)))


@pytest.fixture
def asking(known: LoadedModel) -> LoadedModel:
    """The small model that was trained on questions, with the template that words them so."""
    return replace(known, tokenizer=with_template(known.tokenizer, QUESTIONS))


def test_a_model_recalls_in_a_chat_what_it_learnt_so(asking: LoadedModel) -> None:
    pairs = [(fact.question.format(fact.subject), fact.target) for fact in FACTS]
    assert all(score.exact for score in score_chat(asking, pairs))
    others = [(question, CAPITALS["France"]) for question, target in pairs if target != CAPITALS["France"]]
    assert not any(score.exact for score in score_chat(asking, others))


def test_no_template_is_told(known: LoadedModel) -> None:
    with pytest.raises(ModelError, match="has no chat template: leave out --chat, or name a chat model"):
        require_chat_template(known)


def test_a_template_that_fails_is_told(known: LoadedModel) -> None:
    broken = replace(known, tokenizer=with_template(known.tokenizer, "{{ raise_exception('roles must alternate') }}"))
    with pytest.raises(ModelError, match=r"the chat template of .* cannot be used: roles must alternate"):
        require_chat_template(broken)
