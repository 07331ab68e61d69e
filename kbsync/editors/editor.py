"""What every editor takes and gives: requests in, deltas of down projections out.

How likely a model finds the objects of requests, with gradient, while down projections give more than they do.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from kbsync.errors import EditError, SettingsError
from kbsync.facts import EditRequest
from kbsync.memit import MemitSettings, RequestGroup, WeightDelta
from kbsync.models import ALONE, LoadedModel, Team, TokenizedPrompt, head_log_probs, last_hidden, locate, make_rows

Deltas = Mapping[int, WeightDelta | torch.Tensor]
"""layer -> change of its W_out, [d, m]: what `kbsync.memit.edited` takes"""


def no_covariances(layers: Sequence[int]) -> Mapping[int, torch.Tensor]:
    """Stand where a task was given no covariances."""
    raise EditError(f"this editor needs the covariance of layers {list(layers)}: name a text for it (--corpus)")


def no_network() -> nn.Module:
    """Stand where a task was given no network."""
    raise EditError("MEND needs a network trained for this model: run `kbsync mend train --model ...` first")


@dataclass(frozen=True, slots=True)
class Task:
    """Requests to write into a model, and what editors need for it; what costs time is made when it is asked for."""

    loaded: LoadedModel
    groups: Sequence[RequestGroup]
    contexts: Sequence[str]
    settings: MemitSettings
    """the model's own: R, contexts, the search for target vectors"""
    covariances: Callable[[Sequence[int]], Mapping[int, torch.Tensor]] = no_covariances
    """layers -> C [m, m] of each, of the base model"""
    network: Callable[[], nn.Module] = no_network
    """MEND's trained network"""
    z: torch.Tensor | None = None
    """[u, d] target vectors of the groups at layer L, where they are known already"""
    earlier: Mapping[int, torch.Tensor] = field(default_factory=dict)
    """layer -> K_p K_p^T [m, m] over the keys of earlier edits that are in the weights"""
    held: Sequence[EditRequest] = ()
    """prompts that MEMIT's deltas are to leave alone"""
    progress: Callable[[str, int, int], None] = lambda phase, done, total: None
    """gets phase, done, total"""
    phase: Callable[[str], AbstractContextManager[None]] = lambda name: nullcontext()
    """is entered around "covariance", "keys" and "solve", so that they can be timed"""
    remark: Callable[[str], None] = lambda text: None
    """is told how the work is done"""
    team: Team = ALONE
    """the processes that share the work; the leader alone has covariances"""

    @property
    def requests(self) -> list[EditRequest]:
        return [request for group in self.groups for request in group.requests]

    def alone(self) -> list[RequestGroup]:
        """Return a group for each request: groups of one subject are kbsync's way, not other editors'."""
        return [RequestGroup((request,)) for request in self.requests]


@dataclass(frozen=True, slots=True)
class NoSettings:
    """For an editor that has no settings beside the model's own."""


@dataclass(frozen=True, slots=True)
class Editor:
    """A way to write requests into weights. The loaded model is left bit for bit as it was."""

    name: str
    write: Callable[[Task, Any], Deltas]
    """the change of each layer that a task's requests need, with these settings; EditError where it cannot be found"""
    settings: Any = NoSettings()
    """the editor's own, a frozen dataclass"""
    targets: bool = False
    """whether it takes target vectors, which are kept, on several wordings, and leaves held prompts alone: as MEMIT"""
    covariance: bool = False
    """whether it takes the covariance of the layers that it edits"""

    def edit(self, task: Task) -> Deltas:
        """Return the change of each layer that the task's requests need; EditError where it cannot be found."""
        return self.write(task, self.settings)


def block_at(loaded: LoadedModel, layer: int | None, share: float) -> int:
    """Return `layer`, or where it is None the block at this `share` of the model's depth.

    Raises SettingsError for a block that the model does not have.
    """
    depth = len(loaded.family.block_list(loaded.model))
    if layer is None:
        return min(depth - 1, round(share * depth))
    if layer >= depth:
        raise SettingsError(f"layer: {layer} is too high; the model has {depth} blocks, so {depth - 1} is the highest")
    return layer


def check(settings: object, wanted: str, good: Callable[[Any], bool], *names: str) -> None:
    """Raise SettingsError unless each named field is `good` (told as `wanted`), finite, or None."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and (not good(value) or not math.isfinite(value)):
            raise SettingsError(f"{name}: {value} is not {wanted}")


def object_texts(loaded: LoadedModel, requests: Sequence[EditRequest]) -> list[TokenizedPrompt]:
    return locate(loaded.tokenizer, [(request.prompt, request.subject, request.target) for request in requests])


def object_log_probs(loaded: LoadedModel, texts: Sequence[TokenizedPrompt]) -> torch.Tensor:
    """Return next-token log-probabilities [n, V] where the n target tokens of all texts are predicted, in order."""
    rows = make_rows([text.ids[:-1] for text in texts], loaded.device)
    hidden = last_hidden(loaded, rows)
    places = [(row, spot - 1) for row, text in enumerate(texts) for spot in range(text.target_start, len(text.ids))]
    row, spot = torch.tensor(places, device=hidden.device).T
    return head_log_probs(loaded, hidden[row, spot])


def object_losses(loaded: LoadedModel, texts: Sequence[TokenizedPrompt]) -> torch.Tensor:
    """Return -log P of each text's target, the mean over its tokens, [len(texts)]."""
    log_probs = object_log_probs(loaded, texts)
    tokens = torch.tensor([token for text in texts for token in text.target], device=log_probs.device)
    nll = -log_probs.gather(1, tokens[:, None])[:, 0]
    counts = torch.tensor([len(text.target) for text in texts], device=nll.device)
    row = torch.repeat_interleave(torch.arange(len(texts), device=nll.device), counts)
    return torch.zeros(len(texts), device=nll.device).index_add(0, row, nll) / counts


Change = Callable[[torch.Tensor], torch.Tensor]
"""the input [..., m] of a down projection, in float32 -> what is added to its output, [..., d]"""


@contextmanager
def changed_outputs(loaded: LoadedModel, changes: Mapping[int, Change]) -> Iterator[None]:
    """Add each layer's change to the output of its down projection; hooks are gone on leaving, whatever happened."""

    def hook(change: Change) -> Callable[..., torch.Tensor]:
        def add(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: torch.Tensor) -> torch.Tensor:
            given = args[0] if args else kwargs["hidden_states"]
            return (output.float() + change(given.float())).to(output.dtype)

        return add

    with ExitStack() as stack:
        for layer, change in changes.items():
            module = loaded.family.down_projection(loaded.model, layer)
            stack.callback(module.register_forward_hook(hook(change), with_kwargs=True).remove)
        yield


def matrix_change(matrix: torch.Tensor) -> Change:
    """Return the change that a delta [d, m] of the weights makes."""
    return lambda given: given @ matrix.T
