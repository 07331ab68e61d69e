"""Questions as a chat model gets them: in its tokenizer's chat template, the answer after the assistant's header."""

from collections.abc import Callable, Sequence

from transformers import PreTrainedTokenizerBase

from kbsync.errors import ModelError, foreign
from kbsync.models.loaded import LoadedModel
from kbsync.models.scoring import TargetScore, score_rows

ChatRow = tuple[tuple[int, ...], int]
"""tokens of a chat with its answer, and the position of the answer's first token"""


def require_chat_template(loaded: LoadedModel) -> None:
    """Raise ModelError where the model's tokenizer has no chat template, or one that cannot be used."""
    if not loaded.tokenizer.chat_template:
        raise ModelError(
            f"the tokenizer of {loaded.source} has no chat template: leave out --chat, or name a chat model"
        )
    with foreign(lambda reason: ModelError(f"the chat template of {loaded.source} cannot be used: {reason}")):
        render(loaded.tokenizer, "?")


def render(tokenizer: PreTrainedTokenizerBase, question: str, answer: str | None = None) -> str:
    """Return the chat's text up to where the answer begins or, with `answer`, the whole of it."""
    turns = [{"role": "user", "content": question}]
    if answer is not None:
        turns.append({"role": "assistant", "content": answer})
    text = tokenizer.apply_chat_template(
        turns,
        tokenize=False,
        add_generation_prompt=answer is None,
        enable_thinking=False,  # some would have the model think first; templates that know no such thing leave it be
    )
    assert isinstance(text, str)
    return text


def question_prompt(tokenizer: PreTrainedTokenizerBase, question: str) -> str:
    """Return a question form as the prompt that the answer follows: in the chat template where there is one.

    The ``{}`` for the subject stays. A template that cannot be used, or writes braces of its own, leaves the question
    as it is.
    """
    if not tokenizer.chat_template:
        return question
    try:
        with foreign(ModelError):
            text = render(tokenizer, question)
    except ModelError:
        return question
    # The tokenizer puts its begin token before every text, so the template's own would be a second one.
    begin = tokenizer.bos_token_id
    if begin is not None and tokenizer("x")["input_ids"][0] == begin:
        text = text.removeprefix(str(tokenizer.bos_token))
    return text if text.count("{}") == 1 else question


def chat_rows(tokenizer: PreTrainedTokenizerBase, asked: Sequence[tuple[str, str]]) -> list[ChatRow]:
    """Tokenize (question, answer) pairs.

    The chat up to the answer keeps the tokens that it has alone, as a chat begins with just those. A template writes
    its special tokens itself, so the tokenizer adds none. Between header and answer stands what the template puts
    there, a space or nothing.
    """
    rows = []
    for question, answer in asked:
        before = render(tokenizer, question)
        whole = render(tokenizer, question, answer)
        between, found, _ = whole[len(before) :].partition(answer)
        # A template that words past turns otherwise than the present one tells nothing: the answer follows at once.
        space = between if whole.startswith(before) and found and not between.strip() else ""
        head = tuple(tokenizer(before, add_special_tokens=False)["input_ids"])
        spoken = tuple(tokenizer(before + space + answer, add_special_tokens=False)["input_ids"])
        if spoken[: len(head)] != head:  # the answer's first letters grew together with the header
            spoken = head + tuple(tokenizer(space + answer, add_special_tokens=False)["input_ids"])
        rows.append((spoken, len(head)))
    return rows


def score_chat(
    loaded: LoadedModel, asked: Sequence[tuple[str, str]], progress: Callable[[int], None] = lambda done: None
) -> list[TargetScore]:
    """Score (question, answer) pairs, each asked in the tokenizer's chat template."""
    return score_rows(loaded, chat_rows(loaded.tokenizer, asked), progress)
