"""How likely a model finds the objects of requests, with gradient, while down projections give more than they do."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from kbsync.facts import EditRequest
from kbsync.models import LoadedModel, TokenizedPrompt, head_log_probs, last_hidden, locate, make_rows


def object_texts(loaded: LoadedModel, requests: Sequence[EditRequest]) -> list[TokenizedPrompt]:
    """Return the tokens of each request's prompt and target."""
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
