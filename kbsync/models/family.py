"""The model families that kbsync edits: a row of data each.

A family says where its blocks are, which module of a block is the MLP's down projection (W_out of Eqn. 6), and
how that module stores its weight. To add a family, add a row and its name to the tests' list.
"""

from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal

import torch
from torch import nn

from kbsync.errors import ModelError

__all__ = ["FAMILIES", "Family", "family_of"]


@dataclass(frozen=True, slots=True)
class Family:
    """Where a family keeps what MEMIT edits."""

    name: str
    blocks: str
    """path from the causal language model to the list of its blocks"""
    down: str
    """path from a block to the MLP's down projection"""
    orientation: Literal["linear", "conv1d"]
    """how the down projection stores W_out (d x m): as it is (nn.Linear), or transposed (GPT-2's Conv1D)"""

    def block_list(self, model: nn.Module) -> nn.ModuleList:
        """Return the model's blocks, block l at index l."""
        blocks: nn.ModuleList = attrgetter(self.blocks)(model)
        return blocks

    def down_projection(self, model: nn.Module, layer: int) -> nn.Module:
        """Return the down projection of block `layer`; its input is the key, its weight is edited."""
        module: nn.Module = attrgetter(self.down)(self.block_list(model)[layer])
        return module

    def weight(self, model: nn.Module, layer: int) -> torch.Tensor:
        """Return W_out of block `layer` as a d x m view of the parameter's data: writing to it edits the model."""
        stored: torch.Tensor = self.down_projection(model, layer).weight.data  # type: ignore[assignment]
        return stored if self.orientation == "linear" else stored.T


FAMILIES = {
    "gptj": Family("GPT-J", "transformer.h", "mlp.fc_out", "linear"),
    "gpt2": Family("GPT-2", "transformer.h", "mlp.c_proj", "conv1d"),
    "gpt_neox": Family("GPT-NeoX", "gpt_neox.layers", "mlp.dense_4h_to_h", "linear"),
    "llama": Family("Llama", "model.layers", "mlp.down_proj", "linear"),
}
"""transformers' ``model_type`` -> family"""


def family_of(config: Any) -> Family:
    """Return the family of a model's config; raise ModelError that lists the known ones."""
    family = FAMILIES.get(config.model_type)
    if family is None:
        known = ", ".join(f"{row.name} ({model_type})" for model_type, row in sorted(FAMILIES.items()))
        raise ModelError(f"model type {config.model_type!r} is of no family that kbsync edits; it knows {known}")
    return family
