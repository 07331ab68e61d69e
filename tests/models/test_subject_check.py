"""The tokenizer's self-test: right tokenizers pass it, and each way of being wrong is found."""

from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from kbsync.models import TEST_SUBJECTS, LoadedModel, misplaced_subjects
from kbsync.models import subject as module
from kbsync.models.subject import TokenizedPrompt, locate
from tests.tiny_models import TEXTS, bos_tokenizer, byte_level_tokenizer


def test_there_are_fifty_subjects_of_many_kinds() -> None:
    assert len(set(TEST_SUBJECTS)) == 50
    letters = "".join(TEST_SUBJECTS)
    for kind in ("'", "’", "é", "\u0308", "東", "ا", "ש", "🦊", "\u200d", "2", "-", "  ", "."):
        assert kind in letters
    assert any(subject.startswith("the ") for subject in TEST_SUBJECTS)
    assert any(len(subject) == 1 for subject in TEST_SUBJECTS)


@pytest.mark.parametrize("make", [byte_level_tokenizer, bos_tokenizer])
def test_byte_level_tokenizers_pass(make: Callable[[], PreTrainedTokenizerFast]) -> None:
    assert misplaced_subjects(make()) == []


def test_the_families_pass(tiny: LoadedModel) -> None:
    assert misplaced_subjects(tiny.tokenizer) == []


def test_letters_that_a_tokenizer_does_not_know_are_told() -> None:
    words = sorted({letter for text in TEXTS for letter in text if letter.isascii() and letter != " "})
    backend = Tokenizer(
        models.WordLevel({"[UNK]": 0, **{word: place + 1 for place, word in enumerate(words)}}, "[UNK]")
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split("", "isolated")]
    )
    found = misplaced_subjects(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]"))
    assert {one.subject for one in found} >= {"東京", "Москва"}
    assert "the tokenizer does not know its last letter" in {one.reason for one in found if one.subject == "東京"}


@pytest.mark.parametrize(("shift", "reason"), [(-1, "spans characters"), (1, "spans characters")])
def test_a_neighbouring_token_is_not_the_last_one(shift: int, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def off(tokenizer: Any, prompts: Any) -> list[TokenizedPrompt]:
        (placed,) = locate(tokenizer, prompts)
        return [TokenizedPrompt(placed.ids, max(placed.subject_last + shift, 0), placed.target_start)]

    monkeypatch.setattr(module, "locate", off)
    found = misplaced_subjects(byte_level_tokenizer())
    assert {one.subject for one in found} == set(TEST_SUBJECTS)
    assert all(reason in one.reason or "spell" in one.reason for one in found)


def test_wrong_offsets_are_not_taken_at_their_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offsets that are one character late, as some converted tokenizers give: the spelling tells."""
    tokenizer = byte_level_tokenizer()
    encode = PreTrainedTokenizerFast.__call__

    def late(self: PreTrainedTokenizerFast, *args: Any, **kwargs: Any) -> Any:
        encoded = encode(self, *args, **kwargs)
        if "offset_mapping" in encoded:
            rows = encoded["offset_mapping"]
            single = isinstance(rows[0], tuple)
            moved = [[(begin + 4, end + 4) for begin, end in row] for row in ([rows] if single else rows)]
            encoded["offset_mapping"] = moved[0] if single else moved
        return encoded

    monkeypatch.setattr(PreTrainedTokenizerFast, "__call__", late)
    reasons = {one.reason for one in misplaced_subjects(tokenizer)}
    assert "the tokens up to the one found do not spell the subject" in reasons
