"""The covariance C of Eqn. 15: second moments of keys over ordinary text, all edited layers in one pass."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack

import torch

from kbsync.errors import EditError
from kbsync.memit.settings import MemitSettings
from kbsync.models import LoadedModel, capture, last_hidden, make_rows, stop_after
from kbsync.models.forward import batches_by_length

__all__ = ["collect_covariances"]

TOKEN_BUDGET = 8192
LINES_AT_ONCE = 512


def documents(loaded: LoadedModel, lines: Iterable[str], length: int, wanted: int) -> Iterator[list[list[int]]]:
    """Yield lists of token rows, a line a row, longer ones cut at `length`; `wanted` tokens in all at most."""
    found: list[list[int]] = []
    total = 0
    for line in lines:
        if not line.strip():
            continue
        ids: list[int] = loaded.tokenizer(line.strip())["input_ids"]
        for start in range(0, len(ids), length):
            row = ids[start : start + length][: wanted - total]
            found.append(row)
            total += len(row)
            if total == wanted:
                yield found
                return
        if len(found) >= LINES_AT_ONCE:
            yield found
            found = []
    if found:
        yield found


@torch.no_grad()
def collect_covariances(
    loaded: LoadedModel,
    lines: Iterable[str],
    settings: MemitSettings,
    progress: Callable[[str, int, int], None] = lambda phase, done, total: None,
) -> tuple[dict[int, torch.Tensor], int]:
    """Return C [m, m] in float64 for each edited layer, and the tokens that it was taken over.

    One pass for all layers that stops after the last. Products are summed in float32 within a batch and folded into
    float64. `progress` gets the tokens so far.
    Raises EditError where the text has fewer tokens than C has dimensions, since C would be singular.
    """
    layers: Sequence[int] = settings.layers
    sums: dict[int, torch.Tensor] = {}
    total = 0
    last = loaded.family.block_list(loaded.model)[layers[-1]]
    for rows in documents(loaded, lines, settings.sequence_length, settings.covariance_tokens):
        for batch in batches_by_length([len(row) for row in rows], TOKEN_BUDGET):
            padded = make_rows([rows[place] for place in batch], loaded.device)
            with ExitStack() as stack:
                captured = {
                    layer: stack.enter_context(capture(loaded.family.down_projection(loaded.model, layer), inputs=True))
                    for layer in layers
                }
                with stop_after(last):
                    last_hidden(loaded, padded)
            for layer in layers:
                keys = captured[layer].value[padded.mask.bool()].float()
                moment = (keys.T @ keys).double()
                sums[layer] = sums[layer] + moment if layer in sums else moment
            total += int(padded.mask.sum())
            progress("covariance", total, settings.covariance_tokens)
    if not sums or total < len(next(iter(sums.values()))):
        wanted = len(next(iter(sums.values()))) if sums else 1
        raise EditError(
            f"the corpus has {total} tokens; the covariance of this model needs {wanted} at least, and ten times as"
            " many to be good"
        )
    return {layer: value / total for layer, value in sums.items()}, total
