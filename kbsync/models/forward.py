"""Forward passes over batches of token rows: padding, hidden states, log-probabilities where they are read."""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import Cache, DynamicCache

from kbsync.errors import ModelError
from kbsync.models.loaded import LoadedModel

PAD = 0  # any token will do: no position attends to it, and its own output is never read


@dataclass(frozen=True, slots=True)
class Rows:
    """Token rows padded to one length T."""

    ids: torch.Tensor
    """[B, T]"""
    mask: torch.Tensor
    """[B, T], 1 at tokens and 0 at padding"""

    @property
    def lengths(self) -> torch.Tensor:
        """[B] tokens of each row."""
        return self.mask.sum(1)


def make_rows(rows: Sequence[Sequence[int]], device: torch.device, *, left: bool = False) -> Rows:
    """Pad rows of tokens on the right (or left) to the longest, and to one token at least."""
    length = max(1, *(len(row) for row in rows))
    ids = torch.full((len(rows), length), PAD)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    for place, row in enumerate(rows):
        span = slice(length - len(row), length) if left else slice(0, len(row))
        ids[place, span] = torch.tensor(row, dtype=torch.long)
        mask[place, span] = 1
    return Rows(ids.to(device), mask.to(device))


def last_hidden(loaded: LoadedModel, rows: Rows) -> torch.Tensor:
    """Return the final hidden states [B, T, d] (after the last norm) of right-padded rows, on their device.

    Raises ModelError where a row is longer than the model's positions.
    """
    loaded.check_room(rows.ids.shape[1])
    hidden: torch.Tensor = loaded.model.base_model(
        input_ids=rows.ids, attention_mask=rows.mask, use_cache=False
    ).last_hidden_state
    return hidden.to(rows.ids.device)


def kept_in(model: nn.Module, cache: Cache) -> dict[str, Cache]:
    """Return the argument that hands `cache` to a model's forward; transformers 5.24 has renamed it."""
    return {"cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values": cache}


def prefill(loaded: LoadedModel, prefix: Rows, cache: Cache) -> None:
    """Let `cache` take the keys and values of left-padded rows, in all blocks that run."""
    model = loaded.model.base_model
    model(
        input_ids=prefix.ids,
        attention_mask=prefix.mask,
        position_ids=(prefix.mask.cumsum(1) - 1).clamp(min=0),
        use_cache=True,
        **kept_in(model, cache),
    )


def fill_cache(loaded: LoadedModel, prefix: Rows) -> DynamicCache:
    """Return the keys and values of all blocks for a left-padded `prefix`."""
    cache = DynamicCache(config=loaded.model.config)
    prefill(loaded, prefix, cache)
    return cache


def continue_hidden(loaded: LoadedModel, prefix: Rows, suffix: Rows, cache: Cache) -> torch.Tensor:
    """Return the final hidden states [B, T, d] of `suffix` after a left-padded `prefix` that `cache` holds.

    They are on the suffix's device. `cache` grows by the suffix; hand in a fresh one over the same tensors for each
    call.
    """
    steps = torch.arange(suffix.ids.shape[1], device=suffix.ids.device)
    model = loaded.model.base_model
    hidden: torch.Tensor = model(
        input_ids=suffix.ids,
        attention_mask=torch.cat([prefix.mask, suffix.mask], dim=1),
        position_ids=prefix.lengths[:, None] + steps,
        use_cache=True,
        **kept_in(model, cache),
    ).last_hidden_state
    return hidden.to(suffix.ids.device)


def head_logits(loaded: LoadedModel, hidden: torch.Tensor) -> torch.Tensor:
    """Return next-token logits [n, V] in float32 of final hidden states [n, d], on the head's device."""
    logits: torch.Tensor = loaded.model.get_output_embeddings()(hidden).float()
    # Gemma 2 and 3 bound their logits behind the head.
    cap: float | None = getattr(loaded.model.config, "final_logit_softcapping", None)
    if cap is not None:
        logits = torch.tanh(logits / cap) * cap
    return logits


def head_log_probs(loaded: LoadedModel, hidden: torch.Tensor) -> torch.Tensor:
    """Return next-token log-probabilities [n, V] in float32 of final hidden states [n, d], on the head's device."""
    return torch.log_softmax(head_logits(loaded, hidden), dim=-1)


def check_numbers(loaded: LoadedModel, log_probs: torch.Tensor) -> None:
    """Raise ModelError where a model gives no numbers, as one whose hidden states outgrow its dtype does."""
    if log_probs.isnan().any():
        dtype = str(loaded.model.dtype).removeprefix("torch.")
        hint = "use --dtype bfloat16 or float32" if dtype == "float16" else "its weights are of no use"
        raise ModelError(f"{loaded.source} gives no numbers in {dtype} (NaN): {hint}")


def batches_by_length(lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Yield indices, long rows first, in batches of at most `token_budget` padded tokens (one row at least)."""
    order = sorted(range(len(lengths)), key=lambda place: (-lengths[place], place))
    batch: list[int] = []
    for place in order:
        if batch and lengths[batch[0]] * (len(batch) + 1) > token_budget:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
