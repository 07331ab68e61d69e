"""Packing of text into token rows."""

import pytest

from kbsync.memit.fast.moments import pack_text
from kbsync.models import LoadedModel
from tests.tiny_models import TEXTS


def test_rows_are_full_but_for_the_last_which_comes_alone(known: LoadedModel) -> None:
    text = pack_text(known, TEXTS, 16, 150)
    assert (text.tokens, text.row_count) == (150, 10)
    shapes = []
    row = 0
    while row < text.row_count:
        shapes.append(tuple(text.batch(row, 70).shape))
        row += shapes[-1][0]
    assert shapes == [(4, 16), (4, 16), (1, 16), (1, 6)]
    assert text.batch(0, 1).shape == (1, 16)  # one at least


def test_the_end_token_stands_between_documents_and_once(known: LoadedModel) -> None:
    end = known.tokenizer.eos_token_id
    first, second = (known.tokenizer(text)["input_ids"] for text in TEXTS[:2])
    assert pack_text(known, TEXTS[:2], 16, 999).ids.tolist() == [*first, end, *second]
    ended = [f"{TEXTS[0]}{known.tokenizer.eos_token}", TEXTS[1]]
    assert pack_text(known, ended, 16, 999).ids.tolist() == [*first, end, *second]


def test_the_hash_is_that_of_the_documents_read(known: LoadedModel) -> None:
    text = pack_text(known, TEXTS, 16, 150)
    assert pack_text(known, TEXTS, 99, 150).sha256 == text.sha256
    assert pack_text(known, [*TEXTS[:60], "never read"], 16, 150).sha256 == text.sha256
    assert pack_text(known, [" ".join(TEXTS[:2]), *TEXTS[2:]], 16, 150).sha256 != text.sha256


@pytest.mark.parametrize("documents", [[], ["", " \n "]])
def test_no_text_is_no_rows(known: LoadedModel, documents: list[str]) -> None:
    text = pack_text(known, documents, 16, 150)
    assert (text.tokens, text.row_count) == (0, 0)
