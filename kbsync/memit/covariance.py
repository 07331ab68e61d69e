"""The covariance C of Eqn. 15: second moments of keys over ordinary text, all edited layers in one pass."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack

import torch

from kbsync.errors import EditError
from kbsync.memit.fast.moments import FLOAT64_DEVICES, MomentSums, PackedText, pack_text, unpack_triangle
from kbsync.memit.settings import MemitSettings
from kbsync.models import ALONE, LoadedModel, Team, last_hidden, stop_after, watch
from kbsync.models.forward import Rows

TOKEN_BUDGET = {"cpu": 4096, "cuda": 32768, "mps": 8192}
"""tokens of one batch"""
FOLD_TOKENS = 65536
"""tokens whose products are summed in float32 at most, on an accelerator"""
TOKENS_PER_DIMENSION = 10


def key_widths(loaded: LoadedModel, layers: Sequence[int]) -> dict[int, int]:
    """Return m of each layer."""
    return {layer: loaded.family.weight(loaded.model, layer).shape[1] for layer in layers}


def covariance_text(loaded: LoadedModel, documents: Iterable[str], settings: MemitSettings) -> PackedText:
    """Return the text that the settings ask for, packed: ten tokens for each dimension of C where they name no count.

    Raises EditError where there are fewer tokens than C has dimensions, since C would be singular.
    """
    m = max(key_widths(loaded, settings.layers).values())
    length = min(settings.sequence_length, loaded.positions or settings.sequence_length)
    text = pack_text(loaded, documents, length, settings.covariance_tokens or TOKENS_PER_DIMENSION * m)
    if text.tokens < m:
        raise EditError(
            f"the corpus has {text.tokens} tokens; the covariance of this model needs {m} at least, and ten times as"
            " many to be good"
        )
    return text


def collect_covariances(
    loaded: LoadedModel,
    lines: Iterable[str],
    settings: MemitSettings,
    progress: Callable[[str, int, int], None] = lambda phase, done, total: None,
) -> tuple[dict[int, torch.Tensor], int]:
    """Return C [m, m] in float64 on the CPU for each edited layer, and the tokens that it was taken over.

    One pass for all layers that stops after the last. `progress` gets the tokens so far.
    Raises EditError where the text is too short.
    """
    text = covariance_text(loaded, lines, settings)
    sums = MomentSums(key_widths(loaded, settings.layers))
    sum_moments(loaded, text, sums, progress=progress)
    return {layer: unpack_triangle(sums.covariance(layer)) for layer in settings.layers}, sums.tokens


@torch.no_grad()
def sum_moments(
    loaded: LoadedModel,
    text: PackedText,
    sums: MomentSums,
    on_commit: Callable[[], None] = lambda: None,
    progress: Callable[[str, int, int], None] = lambda phase, done, total: None,
    *,
    due: Callable[[], bool] = lambda: True,
    team: Team = ALONE,
) -> None:
    """Add the keys of all rows of `text` that `sums` has not yet seen; a team takes batches in turn.

    `on_commit` is called, where it is `due`, whenever `sums` is whole and can be kept, so that a killed run can go on
    from there with the same result; in a team both are the leader's, who has the whole sums then and at the end. Out of
    memory, the rows since then are run again in batches of half the size; raises EditError where a single row is too
    much.
    """
    kind = loaded.device.type
    # Sixteen commits at least, so that there is one near half of the tokens.
    budget, fold = TOKEN_BUDGET.get(kind, TOKEN_BUDGET["cpu"]), min(FOLD_TOKENS, text.tokens // 16)
    if kind in FLOAT64_DEVICES:  # nothing is rounded there, so each batch is committed
        budget, fold = min(budget, fold), 0
    row, tokens = sums.rows, 0
    progress("covariance", sums.tokens, text.tokens)
    while row < text.row_count:
        batches = next_batches(text, row, budget, team.size)
        if no_memory(loaded, batches[team.rank : team.rank + 1], sums, team):
            if len(batches[0]) == 1:
                raise EditError(
                    "the device lacks the memory for one row of text: use a smaller --set sequence_length=..., or a"
                    " smaller --dtype"
                )
            sums.drop()
            budget, row, tokens = batches[0].numel() // 2, sums.rows, 0
            continue
        row, tokens = row + sum(map(len, batches)), tokens + sum(batch.numel() for batch in batches)
        if tokens >= fold or row == text.row_count:
            sums.commit(row - sums.rows, tokens, team)
            tokens = 0
            if team.broadcast(due()):
                sums.pool(team)
                on_commit()
        told = f"covariance: change since half {max(sums.change.values()):.2%}" if sums.change else "covariance"
        progress(told, sums.tokens + tokens, text.tokens)
    sums.pool(team)


def next_batches(text: PackedText, row: int, budget: int, count: int) -> list[torch.Tensor]:
    """Return the next batches of token rows from `row` on, `count` at most."""
    batches: list[torch.Tensor] = []
    while len(batches) < count and row < text.row_count:
        batches.append(text.batch(row, budget))
        row += len(batches[-1])
    return batches


def no_memory(loaded: LoadedModel, own: Sequence[torch.Tensor], sums: MomentSums, team: Team) -> bool:
    """Let `sums` see a process's own batches; tell whether some process of the team had no memory for it."""
    failed = 0
    try:
        for batch in own:
            ids = batch.to(loaded.device)
            see_keys(loaded, Rows(ids, torch.ones_like(ids)), {layer: one.see for layer, one in sums.sums.items()})
    except torch.cuda.OutOfMemoryError:
        failed = 1
    if failed:
        torch.cuda.empty_cache()
    return bool(team.sum(torch.tensor(failed)))


def see_keys(loaded: LoadedModel, rows: Rows, see: Mapping[int, Callable[[torch.Tensor], None]]) -> None:
    """Run token rows up to the last layer of `see`, which gets the keys [..., m] of each of its layers."""
    last = loaded.family.block_list(loaded.model)[max(see)]
    with ExitStack() as stack:
        for layer, look in see.items():
            stack.enter_context(watch(loaded.family.down_projection(loaded.model, layer), look))
        stack.enter_context(stop_after(last))
        last_hidden(loaded, rows)
