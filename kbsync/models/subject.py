"""Find, in a prompt's tokens, the last one of the subject and the first one of the object."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from kbsync.errors import EditError

__all__ = ["TokenizedPrompt", "locate"]


@dataclass(frozen=True, slots=True)
class TokenizedPrompt:
    """Tokens of prompt and target; positions count from 0."""

    ids: tuple[int, ...]
    subject_last: int
    """position of the token that covers the subject's last character"""
    target_start: int
    """position of the target's first token; len(ids) where there is no target"""

    @property
    def target(self) -> tuple[int, ...]:
        """The target's tokens."""
        return self.ids[self.target_start :]


def ends_at(offsets: Sequence[tuple[int, int]], end: int) -> list[int]:
    """Return the places of the tokens that cover the character before `end`."""
    return [place for place, (begin, stop) in enumerate(offsets) if begin < end <= stop]


def locate(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[tuple[str, str, str]],
) -> list[TokenizedPrompt]:
    """Tokenize (template, subject, target) triples; `template` has one ``{}`` for the subject.

    The whole text is tokenized at once and positions come from character offsets: pieces tokenized apart would
    split otherwise in some tokenizers. The target follows after a space, or at once where the prompt ends with white
    space of its own, as a chat's does. An empty target means a prompt alone. Raises EditError where the
    tokenizer leaves a subject or target without a token.
    """
    if not prompts:
        return []
    texts, spans = [], []
    for template, subject, target in prompts:
        start = template.index("{}")
        prompt = template[:start] + subject + template[start + 2 :]
        between = "" if prompt[-1:].isspace() else " "
        texts.append(f"{prompt}{between}{target}" if target else prompt)
        spans.append((start + len(subject), len(prompt)))
    encoded = tokenizer(texts, return_offsets_mapping=True)
    found = []
    for text, (subject_end, prompt_end), ids, offsets in zip(
        texts, spans, encoded["input_ids"], encoded["offset_mapping"], strict=True
    ):
        # A character of several bytes can be parted over tokens with the same offsets: the last of them ends it.
        # A tokenizer that composes letters can leave a combining mark in no token: its letter's token ends the subject.
        while unicodedata.combining(text[subject_end - 1]) and not ends_at(offsets, subject_end):
            subject_end -= 1
        covering = ends_at(offsets, subject_end)
        after = [place for place, (_, end) in enumerate(offsets) if end > prompt_end]
        if not covering:
            raise EditError(f"the tokenizer gives no token for the end of the subject in {text!r}")
        if not after and len(text) > prompt_end:
            raise EditError(f"the tokenizer gives no token for the target in {text!r}")
        found.append(TokenizedPrompt(tuple(ids), covering[-1], after[0] if after else len(ids)))
    return found
