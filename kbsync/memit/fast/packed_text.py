"""Text packed for the covariance: documents joined into one run of tokens, cut into rows of equal length."""

import hashlib
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from kbsync.models import LoadedModel

MOST_CHARACTERS = 1_000_000
MOST_DOCUMENTS = 1024


@dataclass(frozen=True, slots=True)
class PackedText:
    """Token rows of one length; the last may be shorter."""

    ids: torch.Tensor
    """[n] int32, all tokens in order"""
    length: int
    """tokens of a row"""
    sha256: str
    """of the documents that were read: the same text has the same hash, whatever file it comes from"""

    @property
    def tokens(self) -> int:
        """Tokens in all rows."""
        return len(self.ids)

    @property
    def row_count(self) -> int:
        """Rows, the short last one with them."""
        return -(-self.tokens // self.length)

    def batch(self, first: int, budget: int) -> torch.Tensor:
        """Return rows from `first` on as [B, T] in int64: at most `budget` tokens, but one row at least.

        A short last row comes alone, so that nothing is padded.
        """
        full = self.tokens // self.length
        if first >= full:
            return self.ids[None, full * self.length :].long()
        last = min(full, first + max(1, budget // self.length))
        return self.ids[first * self.length : last * self.length].view(-1, self.length).long()


def pack_text(loaded: LoadedModel, documents: Iterable[str], length: int, wanted: int) -> PackedText:
    """Read `documents` until there are `wanted` tokens, and pack them in rows of `length`.

    Each document is tokenized as the model's tokenizer does it; the end-of-text token, where there is one, stands
    between two documents. Space around a document and blank ones do not count. The last document is cut where the
    tokens suffice, and none after it is read, but for a few that are tokenized together.
    """
    end = loaded.tokenizer.eos_token_id
    ids, digest = array("i"), hashlib.sha256()
    texts = (text for text in map(str.strip, documents) if text)
    while len(ids) < wanted and (some := take(texts, 2 * (wanted - len(ids)))):
        for text, row in zip(some, loaded.tokenizer(some, verbose=False)["input_ids"], strict=True):
            digest.update(text.encode() + b"\0")
            if ids and end is not None and row and end not in (ids[-1], row[0]):
                ids.append(end)
            ids.extend(row)
            if len(ids) >= wanted:
                break
    kept = torch.tensor(ids[:wanted], dtype=torch.int32)
    return PackedText(kept, length, digest.hexdigest())


def take(texts: Iterator[str], characters: int) -> list[str]:
    """Return the next texts, until they have this many characters; none where there are no more."""
    some: list[str] = []
    left = min(characters, MOST_CHARACTERS)
    while left > 0 and len(some) < MOST_DOCUMENTS:
        text = next(texts, None)
        if text is None:
            break
        some.append(text)
        left -= len(text)
    return some
