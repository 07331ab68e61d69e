"""The model families that kbsync edits: a row of data each.

A family says where its blocks are, which module of a block is the MLP's down projection (W_out of Eqn. 6), and
how that module stores its weight; and which one is the attention's output projection, which is traced, and edited
where `at_attention` is asked for. To add a family, add a row, and a tiny config to tests/tiny_configs.py.
"""

from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, Literal

import torch
from torch import nn

from kbsync.errors import ModelError


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
    post_norm: str | None = None
    """path from a block to the RMS norm between the down projection and the addition to the hidden state, if any"""
    attention: str | None = None
    """path from a block to its attention's output projection, stored as the down projection is; None: not known"""
    attention_norm: str | None = None
    """path from a block to the RMS norm behind that projection, if any"""
    edits: Literal["mlp", "attention"] = "mlp"
    """what stands at `down`: the MLP's down projection, or the attention's output projection in its place"""

    def block_list(self, model: nn.Module) -> nn.ModuleList:
        """Return the model's blocks, block l at index l."""
        blocks: nn.ModuleList = attrgetter(self.blocks)(model)
        return blocks

    def down_projection(self, model: nn.Module, layer: int) -> nn.Module:
        """Return the down projection of block `layer`; its input is the key, its weight is edited."""
        return self.block_list(model)[layer].get_submodule(self.down)

    def at_attention(self) -> "Family":
        """Return the family with the attention's output projection in the place of the down projection.

        Keys are its inputs then, covariance and delta its own (MEMIT, Figure 12). Raises ModelError where the family
        does not say where it is.
        """
        if self.attention is None:
            raise ModelError(f"where the attention's output projection of {self.name} is, kbsync does not know")
        return replace(self, down=self.attention, post_norm=self.attention_norm, edits="attention")

    def norm_behind(self, model: nn.Module, layer: int) -> nn.Module | None:
        """Return the norm behind the down projection of block `layer`; None where the family has none."""
        return self.block_list(model)[layer].get_submodule(self.post_norm) if self.post_norm else None

    def weight(self, model: nn.Module, layer: int) -> torch.Tensor:
        """Return W_out of block `layer` as a d x m view of the parameter's data: writing to it edits the model."""
        stored: torch.Tensor = self.down_projection(model, layer).weight.data  # type: ignore[assignment]
        return stored if self.orientation == "linear" else stored.T


LLAMA = Family("Llama", "model.layers", "mlp.down_proj", "linear", attention="self_attn.o_proj")
NORMED = replace(LLAMA, post_norm="post_feedforward_layernorm", attention_norm="post_attention_layernorm")
"""blocks that normalise what they add"""

FAMILIES = {
    "gpt2": Family("GPT-2", "transformer.h", "mlp.c_proj", "conv1d", attention="attn.c_proj"),
    "gptj": Family("GPT-J", "transformer.h", "mlp.fc_out", "linear", attention="attn.out_proj"),
    "gpt_neox": Family(
        "GPT-NeoX and Pythia", "gpt_neox.layers", "mlp.dense_4h_to_h", "linear", attention="attention.dense"
    ),
    "llama": LLAMA,
    "mistral": replace(LLAMA, name="Mistral"),
    "qwen2": replace(LLAMA, name="Qwen2"),
    "qwen3": replace(LLAMA, name="Qwen3"),
    "gemma2": replace(NORMED, name="Gemma 2"),
    "gemma3_text": replace(NORMED, name="Gemma 3 (text)"),
    "phi3": replace(LLAMA, name="Phi-3"),
    "olmo2": replace(NORMED, name="OLMo 2"),
    "stablelm": replace(LLAMA, name="StableLM"),
    "falcon": Family("Falcon", "transformer.h", "mlp.dense_4h_to_h", "linear", attention="self_attention.dense"),
    "bloom": Family("BLOOM", "transformer.h", "mlp.dense_4h_to_h", "linear", attention="self_attention.dense"),
    "opt": Family("OPT", "model.decoder.layers", "fc2", "linear", attention="self_attn.out_proj"),
}
"""transformers' ``model_type`` -> family"""


EXPERT_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "num_routed_experts")
"""what configs call the number of experts"""


def family_of(config: Any) -> Family:
    """Return the family of a model's config; raise ModelError that lists the known ones, or tells why it cannot be."""
    check_kind(config)
    family = FAMILIES.get(config.model_type)
    if family is None:
        known = ", ".join(f"{row.name} ({model_type})" for model_type, row in sorted(FAMILIES.items()))
        raise ModelError(
            f"model type {config.model_type!r} is not of a family that kbsync knows ({known});"
            " --experimental reads another by its structure"
        )
    return family


def check_kind(config: Any) -> None:
    """Raise ModelError for a kind of model that has no single down projection to edit."""
    named = f"model type {config.model_type!r}"
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(f"{named} has an encoder and a decoder; kbsync edits decoder-only models")
    if hasattr(config, "text_config"):
        raise ModelError(
            f"{named} holds its language model inside a larger one (text_config); kbsync edits text models:"
            " save the language model as a checkpoint of its own"
        )
    for name in EXPERT_COUNTS:
        count = getattr(config, name, None)
        if count is not None and count != 1:
            raise ModelError(
                f"{named} is a mixture of experts ({name} = {count}): a fact has no one down projection to be written"
                " to"
            )
