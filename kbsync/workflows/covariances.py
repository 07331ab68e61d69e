"""The covariances of a model's edited layers: from the cache, or collected over the corpus now."""

import hashlib
from pathlib import Path

import torch

from kbsync.errors import SettingsError
from kbsync.facts import content_id
from kbsync.ledger import Ledger, ModelRow, read_tensors, write_tensors
from kbsync.memit import collect_covariances
from kbsync.workflows.choice import ModelChoice
from kbsync.workflows.progress import Progress

__all__ = ["corpus_lines", "covariances_for"]


def corpus_lines(corpus: Path) -> list[str]:
    """Return the lines of a corpus; raise SettingsError where it cannot be read."""
    try:
        return corpus.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"corpus {corpus} cannot be read as UTF-8 text: {error}") from error


def covariances_for(
    ledger: Ledger, model: ModelRow, choice: ModelChoice, progress: Progress
) -> dict[int, torch.Tensor]:
    """Return C [m, m] of each edited layer, cached beside the ledger by all that it depends on.

    Raises SettingsError where there is no corpus to take it over.
    """
    if choice.corpus is None:
        raise SettingsError(f"{choice.name} has no corpus: name a text for its covariance, such as --corpus text.txt")
    settings = choice.settings
    lines = corpus_lines(choice.corpus)
    content = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    depends = [model.key, content, list(settings.layers), settings.covariance_tokens, settings.sequence_length]
    name = content_id("covariance1", depends)
    path = ledger.tensors / f"{name.replace(':', '-')}.safetensors"
    if path.exists():
        found = read_tensors(path)
        return {layer: found[str(layer)] for layer in settings.layers}
    covariances, tokens = collect_covariances(choice.loaded, lines, settings, progress)
    kept = {layer: value.float() for layer, value in covariances.items()}
    about = {"model": model.key, "corpus": content, "tokens": str(tokens)}
    write_tensors(ledger.tensors, {str(layer): value for layer, value in kept.items()}, about, name)
    return kept
