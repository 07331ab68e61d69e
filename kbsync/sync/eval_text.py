"""Text that no edit is about, and the figures over it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from kbsync.errors import SettingsError
from kbsync.metrics import TEXT_METRICS, Figure, text_figure
from kbsync.sync.corpus import corpus_name, covariance_documents, documents, held_out_documents
from kbsync.sync.measure import PERPLEXITY_LINES
from kbsync.sync.model import ModelChoice


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The first lines of a corpus."""

    corpus: str
    """its name"""
    lines: tuple[str, ...]


def held_out(choice: ModelChoice, corpus: Path | None) -> HeldOut:
    """Return the first lines of `corpus`, or those of the model's own that its covariance was not taken over.

    SettingsError where there is none, or no text.
    """
    read = corpus or choice.corpus
    if read is None:
        raise SettingsError(f"{choice.name} has no corpus: name held-out text with --corpus")
    texts = documents(corpus) if corpus else held_out_documents(read)
    lines = tuple(line for line in islice(texts, PERPLEXITY_LINES) if line.strip())
    if not lines:
        raise SettingsError(f"corpus {read} has no text to measure")
    return HeldOut(corpus_name(read), lines)


def text_figures(
    choice: ModelChoice, text: HeldOut, names: Sequence[str], seed: int, progress: Callable[[str, int, int], None]
) -> dict[str, Figure]:
    """Return these metrics of the model as it is. SettingsError where no line has two tokens."""
    found = {}
    for name in names:
        progress(f"measuring {name}", 0, 1)
        read = TEXT_METRICS[name].read(choice.loaded, text.lines, choice.settings.sequence_length)
        if not len(read):
            raise SettingsError(f"corpus {text.corpus} has no line of two tokens to measure {name} on")
        found[name] = text_figure(TEXT_METRICS[name], read, seed)
        progress(f"measuring {name}", 1, 1)
    return found


TUNED_LINES = 400
"""what 50 steps of eight lines read"""


def other_text(choice: ModelChoice, corpus: Path | None, measured: HeldOut | None) -> list[str]:
    """Return lines to be tuned on, none of which is measured: of the model's own corpus, else the rest of `corpus`."""
    if choice.corpus is not None:
        texts = covariance_documents(choice.corpus)
    elif corpus is not None:
        texts = documents(corpus)
    else:
        return []
    seen = set(measured.lines if measured else ())
    return list(islice((text for text in texts if text.strip() and text not in seen), TUNED_LINES))
