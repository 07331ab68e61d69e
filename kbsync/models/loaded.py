"""A loaded model: what all that works on it is handed."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from kbsync.errors import ModelError
from kbsync.models.family import Family
from kbsync.models.weights import execution_device, read_weight

__all__ = ["LoadedModel"]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in eval mode whose weights take no gradient, its tokenizer, and its family."""

    source: str
    """directory, hub id or GGUF file that it was loaded from"""
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    family: Family

    @property
    def device(self) -> torch.device:
        """Where the model takes its tokens."""
        return execution_device(self.model.get_input_embeddings())

    @property
    def devices(self) -> tuple[torch.device, ...]:
        """Where the model's blocks compute, each device once."""
        layers = range(len(self.family.block_list(self.model)))
        return tuple(
            dict.fromkeys(execution_device(self.family.down_projection(self.model, layer)) for layer in layers)
        )

    @property
    def positions(self) -> int | None:
        """Tokens of a text at most; None where the model's config sets no bound."""
        found: int | None = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return found

    def check_room(self, tokens: int, what: str = "a text") -> None:
        """Raise ModelError where a row of `tokens` is longer than the model's positions."""
        if self.positions is not None and tokens > self.positions:
            raise ModelError(
                f"{what} has {tokens:,} tokens, and {self.source} has room for {self.positions:,}: shorten it"
            )

    def weight(self, layer: int) -> torch.Tensor:
        """Return W_out [d, m] of block `layer` wherever it lies; not to be written to."""
        return read_weight(self.family, self.model, layer)

    def at_attention(self) -> "LoadedModel":
        """Return the same model, edited at its attentions' output projections in place of the down projections.

        Keys, covariances, deltas, and the weights of all who are handed it are those of that projection; targets are
        as before. Raises ModelError for a family that was read by its structure.
        """
        return replace(self, family=self.family.at_attention())

    @property
    def architecture(self) -> str:
        """The model's class, such as ``GPTJForCausalLM``."""
        return type(self.model).__name__

    def weights_sha256(self, layers: Iterable[int]) -> str:
        """Return the SHA-256 of the down projections of `layers`, as float32."""
        digest = hashlib.sha256()
        for layer in layers:
            weight = self.weight(layer).float().cpu().contiguous()
            digest.update(weight.numpy().tobytes())
        return digest.hexdigest()
