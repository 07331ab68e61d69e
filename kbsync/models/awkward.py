"""A tokenizer's self-test: is the subject's last token found, whatever the subject is written with?"""

import unicodedata
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from kbsync.errors import EditError
from kbsync.models.subject import locate

__all__ = ["AWKWARD_SUBJECTS", "PROMPTS", "Misplaced", "misplaced_subjects"]

# Escapes where a letter is not to be seen, or an editor could change it: combining marks, joiners, wide spaces.
AWKWARD_SUBJECTS = (
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
PROMPTS = ("{} is known for", "The story of {} began in", "Many people admire {}")
"""the subject first, in the middle, and last"""
TARGET = "Paris"


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
    found = [
        (subject, prompt, reason_against(tokenizer, subject, prompt))
        for subject in AWKWARD_SUBJECTS
        for prompt in PROMPTS
    ]
    return [Misplaced(subject, prompt, reason) for subject, prompt, reason in found if reason is not None]


def reason_against(tokenizer: PreTrainedTokenizerBase, subject: str, prompt: str) -> str | None:
    """Return why the token that `locate` found is not the subject's last one; None where it is.

    Offsets are not taken at their word: the tokens up to the one found must spell the text up to the subject's last
    character, and those before it must not.
    """
    try:
        (placed,) = locate(tokenizer, [(prompt, subject, TARGET)])
    except EditError as error:
        return str(error)
    upto = prompt[: prompt.index("{}")] + subject
    encoded = tokenizer(f"{prompt.replace('{}', subject)} {TARGET}", return_offsets_mapping=True)
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
