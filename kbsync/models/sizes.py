"""How large a model is: its dimensions, its weights, and what it keeps for each token."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, DynamicCache

from kbsync.models.checkpoint import check_config, count_numbers, find_checkpoint
from kbsync.models.forward import kept_in
from kbsync.models.load import choose_dtype
from kbsync.models.loaded import LoadedModel

__all__ = ["ModelSizes", "checkpoint_bytes", "sizes_of"]


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """Dimensions of a loaded model, in the words of DESIGN; bytes where a name says so."""

    blocks: int
    d: int
    m: int
    vocabulary: int
    positions: int | None
    """tokens of a sequence at most; None where the config sets no bound"""
    tied_head: bool
    """whether the output embedding is the input embedding"""
    weights_bytes: int
    item_bytes: int
    """of one number in the model's dtype"""
    cache_bytes: int
    """keys and values of one token in all blocks"""


@torch.no_grad()
def sizes_of(loaded: LoadedModel) -> ModelSizes:
    """Measure a loaded model; the cache by one token's forward, as families differ in what they keep."""
    model: Any = loaded.model
    d, m = loaded.family.weight(model, 0).shape
    head, embedding = model.get_output_embeddings().weight, model.get_input_embeddings().weight
    cache: Any = DynamicCache(config=model.config)
    token = torch.zeros(1, 1, dtype=torch.long, device=loaded.device)
    model.base_model(input_ids=token, use_cache=True, **kept_in(model.base_model, cache))
    kept = [part for layer in cache.layers for part in (layer.keys, layer.values) if part is not None]
    return ModelSizes(
        blocks=len(loaded.family.block_list(model)),
        d=d,
        m=m,
        vocabulary=head.shape[0],
        positions=loaded.positions,
        tied_head=head.data_ptr() == embedding.data_ptr(),
        weights_bytes=sum(weight.numel() * weight.element_size() for weight in model.parameters()),
        item_bytes=model.dtype.itemsize,
        cache_bytes=sum(part.numel() * part.element_size() for part in kept),
    )


def checkpoint_bytes(source: str, device: torch.device, dtype: str | None) -> int | None:
    """Return the bytes of a model's weights as `load_model` would load it, from its config alone.

    None where the config cannot be read: `load_model` tells why.
    """
    try:
        checkpoint = find_checkpoint(source)
        config = AutoConfig.from_pretrained(checkpoint.place, **checkpoint.arguments())
        check_config(checkpoint, config)
        numbers = count_numbers(config)
    except Exception:  # whatever of several libraries reads it; it is told where the model is loaded
        return None
    item: int = choose_dtype(dtype, device, getattr(config, "dtype", None)).itemsize
    return item * numbers
