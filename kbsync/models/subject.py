"""Find, in a prompt's tokens, the last one of the subject and the first one of the object; and a test of that."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from transformers import PreTrainedTokenizerBase

from kbsync.errors import EditError


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


def locate(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[tuple[str, str, str]]) -> list[TokenizedPrompt]:
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


# Escapes where a letter is not to be seen, or an editor could change it: combining marks, joiners, wide spaces.
TEST_SUBJECTS = (
    *("N'Djamena", "L’Aquila", "'s-Hertogenbosch", "St. John's", "Rock 'n' Roll", "Guns N’ Roses'"),
    *("São Tomé", "İstanbul", "Łódź", "Zoë Kravitz", "Ærøskøbing", "Nguyễn Phú Trọng"),
    *("Zoe\u0308", "e\u0301te\u0301", "n\u0303"),
    *("東京", "中华人民共和国", "서울", "とうきょう", "東京 Tower"),
    *("القاهرة", "ירושלים", "תל אביב-יפו", "تهران ۱۴۰۰"),
    *("Москва", "Ελλάδα", "नई दिल्ली", "กรุงเทพ"),
    *("🦊", "Team 🇫🇷", "👩\u200d🚀", "❤\ufe0f"),
    *("2001", "Boeing 747-400", "Apollo 11", "1,000", "3.14"),
    *("Jean-Luc", "Winston-Salem–Greensboro", "AC/DC", "C++", "AT&T", "Yahoo!"),
    *("Washington, D.C.", "Dr.", "Louis XIV", "the Beatles", "New  York", "X", "iPhone (2nd generation)"),
)
TEST_PROMPTS = ("{} is known for", "The story of {} began in", "Many people admire {}")
"""the subject first, in the middle, and last"""
TEST_TARGET = "Paris"


@dataclass(frozen=True, slots=True)
class Misplaced:
    """A subject whose last token was not found in a prompt, and what went wrong."""

    subject: str
    prompt: str
    reason: str


MARKS = "".join(map(chr, range(0x300, 0x370)))
"""combining marks of letters"""


def misplaced_subjects(tokenizer: PreTrainedTokenizerBase) -> list[Misplaced]:
    """Return each awkward subject, in each prompt, whose last token `locate` does not find."""
    return [
        Misplaced(subject, prompt, reason)
        for subject, prompt in product(TEST_SUBJECTS, TEST_PROMPTS)
        if (reason := reason_against(tokenizer, subject, prompt)) is not None
    ]


def reason_against(tokenizer: PreTrainedTokenizerBase, subject: str, prompt: str) -> str | None:
    """Return why the token that `locate` found is not the subject's last one; None where it is.

    Offsets are not taken at their word: the tokens up to the one found must spell the text up to the subject's last
    character, and those before it must not.
    """
    try:
        (placed,) = locate(tokenizer, [(prompt, subject, TEST_TARGET)])
    except EditError as error:
        return str(error)
    upto = prompt[: prompt.index("{}")] + subject
    encoded = tokenizer(f"{prompt.replace('{}', subject)} {TEST_TARGET}", return_offsets_mapping=True)
    begin, end = encoded["offset_mapping"][placed.subject_last]
    # A combining mark that the tokenizer composed with its letter is in no token of its own.
    ends = {len(upto), len(upto.rstrip(MARKS))}
    if not any(begin < place <= end for place in ends):
        return f"the token found spans characters {begin} to {end}, the subject ends at {len(upto)}"
    if tokenizer.unk_token_id is not None and placed.ids[placed.subject_last] == tokenizer.unk_token_id:
        return "the tokenizer does not know its last letter"
    if not spells(tokenizer, placed.ids[: placed.subject_last + 1], upto):
        return "the tokens up to the one found do not spell the subject"
    if spells(tokenizer, placed.ids[: placed.subject_last], upto):
        return "the subject ends before the token found"
    return None


def spells(tokenizer: PreTrainedTokenizerBase, ids: tuple[int, ...], text: str) -> bool:
    """Tell whether tokens decode to something that begins with `text`; spaces, case and Unicode form do not matter."""
    said = tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return plainly(str(said)).startswith(plainly(text))


def plainly(text: str) -> str:
    """Return `text` without what tokenizers change on the way: spaces, case, Unicode form."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())
