"""A loaded model, and a layer's W_out wherever it lies: in its module, or beside it where accelerate offloads weights.

An offloaded parameter is on the meta device but while its module runs; its value comes from the hook's weights map,
which may read a file of the user's. So no value is ever written to: while a layer is held, another tensor stands in
its place, and on leaving the one that was found goes back."""

import hashlib
from collections import ChainMap
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from kbsync.errors import ModelError
from kbsync.models.family import Family


def align_hook(module: nn.Module) -> Any | None:
    """Return accelerate's hook that brings a module's weights to where it runs, if there is one."""
    hook: Any = getattr(module, "_hf_hook", None)
    return next((one for one in getattr(hook, "hooks", [hook]) if hasattr(one, "execution_device")), None)


def execution_device(module: nn.Module) -> torch.device:
    """Return the device that a module with weights of its own computes on."""
    hook = align_hook(module)
    if hook is not None and hook.execution_device is not None:
        return torch.device(hook.execution_device)
    return next(module.parameters(recurse=False)).device


class Slot:
    """Where one parameter of a module has its value, and the value found there."""

    def __init__(self, module: nn.Module, name: str) -> None:
        self.module, self.name = module, name
        parameter: torch.Tensor = getattr(module, name)
        self.hook = align_hook(module) if parameter.is_meta else None
        if parameter.is_meta and self.hook is None:
            raise ModelError("a weight is on the meta device, and no hook of accelerate's has its value: load it anew")
        self.map: Any = None if self.hook is None else self.hook.weights_map
        self.found: torch.Tensor = parameter.data if self.map is None else self.map[name]

    def put(self, value: torch.Tensor) -> None:
        """Let `value` stand where the one found was; its dtype may be another."""
        parameter: torch.Tensor = getattr(self.module, self.name)
        if self.hook is None:
            parameter.data = value
        else:
            self.hook.weights_map = self.map if value is self.found else ChainMap({self.name: value}, self.map)
            parameter.data = parameter.data.to(value.dtype)  # accelerate casts a value to it

    def restore(self) -> None:
        """Put back what was found."""
        self.put(self.found)


def as_stored(family: Family, weight: torch.Tensor) -> torch.Tensor:
    """Turn W_out (d x m) into what the family's module stores, or back: the same step."""
    return weight if family.orientation == "linear" else weight.T


class HeldWeight:
    """W_out of one layer while it is held."""

    def __init__(self, family: Family, slot: Slot, dtype: torch.dtype) -> None:
        self.family, self.slot = family, slot
        self.dtype = dtype
        """what the layer computes in"""

    @property
    def base(self) -> torch.Tensor:
        """W_out [d, m] as it was found, not to be written to."""
        return as_stored(self.family, self.slot.found)

    def put(self, weight: torch.Tensor) -> None:
        """Let the layer compute with `weight` [d, m], cast to the layer's dtype and brought to where it lies."""
        placed = weight.to(device=self.slot.found.device, dtype=self.dtype)
        self.slot.put(as_stored(self.family, placed).contiguous())


@contextmanager
def hold_weights(
    family: Family, model: nn.Module, layers: Iterable[int], *, masters: bool = False
) -> Iterator[dict[int, HeldWeight]]:
    """Hold W_out of `layers` so that it can be replaced; on leaving all is as it was found, whatever happened.

    With `masters`, layers stored in 16 bits compute in float32 while they are held: small changes count, which a
    cast would round away. Their inputs are cast up and their outputs back down.
    """
    with ExitStack() as stack:
        held = {}
        for layer in layers:
            module = family.down_projection(model, layer)
            slot = Slot(module, "weight")
            stack.callback(slot.restore)
            dtype = torch.promote_types(torch.float32, slot.found.dtype) if masters else slot.found.dtype
            if dtype != slot.found.dtype:
                stack.enter_context(computing_in(module, dtype))
                slot.put(slot.found.to(dtype))
            held[layer] = HeldWeight(family, slot, dtype)
        yield held


@contextmanager
def computing_in(module: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Let a module whose weight is of `dtype` take and give tensors of the dtype that it had."""
    given = module.weight.dtype

    def cast_up(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(one.to(dtype) if isinstance(one, torch.Tensor) else one for one in args)

    def cast_down(_: nn.Module, __: Any, output: torch.Tensor) -> torch.Tensor:
        return output.to(given)  # type: ignore[arg-type]

    with ExitStack() as stack:
        if getattr(module, "bias", None) is not None:
            bias = Slot(module, "bias")
            stack.callback(bias.restore)
            bias.put(bias.found.to(dtype))
        stack.callback(module.register_forward_pre_hook(cast_up).remove)
        stack.callback(module.register_forward_hook(cast_down).remove)
        yield


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
        every = (execution_device(self.family.down_projection(self.model, layer)) for layer in layers)
        return tuple(dict.fromkeys(every))

    @property
    def positions(self) -> int | None:
        """Tokens of a text at most; None where the model's config sets no bound."""
        found: int | None = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return found

    def check_room(self, tokens: int, what: str = "a text") -> None:
        """Raise ModelError where a row of `tokens` is longer than the model's positions."""
        if self.positions is not None and tokens > self.positions:
            raise ModelError(
                f"{what} has {tokens:,} tokens, and {self.source} takes at most {self.positions:,}: shorten it"
            )

    def weight(self, layer: int) -> torch.Tensor:
        """Return W_out [d, m] of block `layer` as it is now, not to be written to; offloaded ones come on the CPU.

        Raises ModelError where the model has no value for it.
        """
        return as_stored(self.family, Slot(self.family.down_projection(self.model, layer), "weight").found)

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
