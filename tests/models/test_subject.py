"""The subject's last token and the object's first, by what the tokens decode to."""

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from kbsync.errors import EditError
from kbsync.models import locate
from tests.tiny_models import TEXTS, bos_tokenizer, byte_level_tokenizer

SUBJECTS = [
    "France",
    "Ekrem İmamoğlu",
    "Besiktaş",
    "Đặng Tiểu Bình",
    "N'Djamena",
    "Cote d'",
    "O'Neill's",
    "Area 51",
    "1987",
    "Agent 007",
    "🎉",
    "Party 🎉",
    "👩‍🚀",
    "東京",
    "Ирландия",
    "U.S.",
    "AT&T",
    "Who?",
    "x",
    "{}",
]
TEMPLATES = [
    "{} is governed from",
    "The capital of {} is",
    "It is said of {}",
    "{}",
    "The {}land people speak",
    "The {}'s owner is",
    "«{}»",
    "({}), and",
    "In İstanbul 🎉 the {}.",
    "Two\nlines: {}\nand",
]


def metaspace_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer as Llama 2's is: spaces are letters, unknown letters fall back to bytes."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


TOKENIZERS = {
    "bytes": byte_level_tokenizer(257),
    "byte-level": byte_level_tokenizer(),
    "bos": bos_tokenizer(),
    "metaspace": metaspace_tokenizer(),
}


def decoded(tokenizer: PreTrainedTokenizerFast, ids: tuple[int, ...]) -> str:
    kept = [token for token in ids if token not in (tokenizer.bos_token_id,)]
    return str(tokenizer.decode(kept, clean_up_tokenization_spaces=False))


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("template", TEMPLATES)
def test_the_last_subject_token_covers_the_last_character(name: str, template: str) -> None:
    tokenizer = TOKENIZERS[name]
    for subject in SUBJECTS:
        (found,) = locate(tokenizer, [(template, subject, "Paris")])
        until = template[: template.index("{}")] + subject
        assert decoded(tokenizer, found.ids[: found.subject_last + 1]).startswith(until), subject
        assert not decoded(tokenizer, found.ids[: found.subject_last]).startswith(until), subject


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("target", ["Paris", "Recep Tayyip Erdoğan", "1987", "🎉", "'s-Hertogenbosch"])
def test_the_target_is_what_follows_the_prompt(name: str, target: str) -> None:
    tokenizer = TOKENIZERS[name]
    for template in TEMPLATES:
        for subject in SUBJECTS:
            (found,) = locate(tokenizer, [(template, subject, target)])
            prompt = template.replace("{}", subject, 1)
            assert found.ids == tuple(tokenizer(f"{prompt} {target}")["input_ids"])
            assert found.target == found.ids[found.target_start :]
            assert decoded(tokenizer, found.target) == f" {target}"
            assert decoded(tokenizer, found.ids[: found.target_start]) == prompt
            assert found.subject_last < found.target_start


def test_tokens_are_those_of_the_whole_text_and_not_of_pieces() -> None:
    tokenizer = byte_level_tokenizer(600)
    (found,) = locate(tokenizer, [("{}way has its capital", "Nor", "")])
    assert decoded(tokenizer, found.ids[:1]) == "Norway"
    assert found.subject_last == 0
    assert found.ids[0] not in tokenizer("Nor")["input_ids"]


def test_a_letter_of_several_bytes_ends_with_its_last_byte() -> None:
    tokenizer = TOKENIZERS["bytes"]
    (found,) = locate(tokenizer, [("{}", "é", "")])
    assert len(found.ids) == 2
    assert found.subject_last == 1


def test_a_token_before_the_text_is_counted() -> None:
    (plain,) = locate(TOKENIZERS["byte-level"], [("{} is in", "France", "Europe")])
    (after_bos,) = locate(TOKENIZERS["bos"], [("{} is in", "France", "Europe")])
    assert after_bos.ids[0] == TOKENIZERS["bos"].bos_token_id
    assert after_bos.ids[1:] == plain.ids
    assert (after_bos.subject_last, after_bos.target_start) == (plain.subject_last + 1, plain.target_start + 1)


def test_a_prompt_alone_has_no_target() -> None:
    (found,) = locate(TOKENIZERS["bos"], [("The capital of {} is", "France", "")])
    assert found.ids == tuple(TOKENIZERS["bos"]("The capital of France is")["input_ids"])
    assert found.target_start == len(found.ids)
    assert found.target == ()


def test_many_are_found_as_each_alone() -> None:
    triples = [(template, subject, "Paris") for template in TEMPLATES for subject in SUBJECTS]
    tokenizer = TOKENIZERS["byte-level"]
    assert locate(tokenizer, triples) == [found for triple in triples for found in locate(tokenizer, [triple])]
    assert locate(tokenizer, []) == []


@pytest.mark.parametrize(
    ("subject", "target", "lost"), [("\u200b", "Paris", "subject"), ("France", "\u200b", "target")]
)
def test_a_text_that_the_tokenizer_drops_is_told(subject: str, target: str, lost: str) -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace(" \u200b", "")
    with pytest.raises(EditError, match=f"no token for the (end of the )?{lost}"):
        locate(tokenizer, [("The capital of {}", subject, target)])
