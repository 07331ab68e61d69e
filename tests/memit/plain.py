"""MEMIT the plain way: one text at a time, the whole forward, no cache, no stored states, torch's own Adam and inverse.

What the tests of `memit` compare with. Nothing here calls `kbsync.memit` or the batched parts of `kbsync.models`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from kbsync.facts import EditRequest
from kbsync.memit import MemitSettings, RequestGroup
from kbsync.models import LoadedModel

EARLY_STOP_LOSS = 0.05


@contextmanager
def hooked(module: nn.Module, see: Callable[[Any, Any], Any]) -> Iterator[None]:
    handle = module.register_forward_hook(lambda _, given, output: see(given, output))
    try:
        yield
    finally:
        handle.remove()


def read_subject(loaded: LoadedModel, context: str, request: EditRequest, target: str = "") -> tuple[list[int], int]:
    """Tokens of the whole text, and the position of the subject's last one."""
    before, after = context.replace("{}", request.prompt).split("{}")
    text = f"{before}{request.subject}{after}" + (f" {target}" if target else "")
    encoded = loaded.tokenizer(text)
    place = encoded.char_to_token(len(before) + len(request.subject) - 1)
    assert place is not None
    return list(encoded["input_ids"]), place


def target_tokens(loaded: LoadedModel, context: str, request: EditRequest) -> int:
    """How many tokens at the text's end are the target's."""
    prompt = context.replace("{}", request.prompt).replace("{}", request.subject)
    encoded = loaded.tokenizer(f"{prompt} {request.target}")
    return len(encoded["input_ids"]) - int(encoded.char_to_token(len(prompt)))


def log_probs(loaded: LoadedModel, ids: list[int], place: int, delta: torch.Tensor, layer: int) -> torch.Tensor:
    """Log-probabilities [T, V] of one text with `delta` added to the output of block `layer` at `place`."""
    mask = torch.zeros(len(ids), 1)
    mask[place] = 1.0

    def add(_: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (output[0] + mask * delta, *output[1:])
        return output + mask * delta

    with hooked(loaded.family.block_list(loaded.model)[layer], add):
        logits: torch.Tensor = loaded.model(torch.tensor([ids])).logits[0]
    return logits.log_softmax(-1)


def whole_loss(
    loaded: LoadedModel,
    group: RequestGroup,
    contexts: Sequence[str],
    settings: MemitSettings,
    delta: torch.Tensor,
    before: torch.Tensor,
    norm: torch.Tensor,
) -> torch.Tensor:
    """Eqn. 16 with KL and weight decay; `before` [V] is the bare subject's distribution without a delta."""
    layer, rows = settings.layers[-1], []
    for request in group.requests:
        for context in contexts:
            ids, place = read_subject(loaded, context, request, request.target)
            found = log_probs(loaded, ids, place, delta, layer)
            count = target_tokens(loaded, context, request)
            wanted = [found[spot - 1, ids[spot]] for spot in range(len(ids) - count, len(ids))]
            rows.append(-torch.stack(wanted).mean())
    after = bare_distribution(loaded, group, delta, layer)
    kl = (after.exp() * (after - before)).sum()
    decay: torch.Tensor = delta.norm() / norm**2
    return torch.stack(rows).mean() + settings.kl_factor * kl + settings.weight_decay * decay


def bare_distribution(loaded: LoadedModel, group: RequestGroup, delta: torch.Tensor, layer: int) -> torch.Tensor:
    ids: list[int] = loaded.tokenizer(group.requests[0].subject)["input_ids"]
    return log_probs(loaded, ids, len(ids) - 1, delta, layer)[-1]


def plain_target(
    loaded: LoadedModel, group: RequestGroup, contexts: Sequence[str], settings: MemitSettings
) -> tuple[torch.Tensor, list[float]]:
    """Return z [d] of a group, and the loss at each evaluation."""
    layer = settings.layers[-1]
    h = read_at_subject(loaded, "{}", group.requests[0], layer)[1]
    delta = torch.zeros_like(h, requires_grad=True)
    optimizer = torch.optim.Adam([delta], lr=settings.lr)
    before = bare_distribution(loaded, group, torch.zeros_like(h), layer)
    bound = settings.group_clamp(len(group.requests)) * h.norm()
    losses: list[float] = []
    while True:
        loss = whole_loss(loaded, group, contexts, settings, delta, before, h.norm())
        losses.append(loss.item())
        if losses[-1] < EARLY_STOP_LOSS or len(losses) == settings.group_steps(len(group.requests)):
            return h + delta.detach(), losses
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            if delta.norm() > bound:
                delta *= bound / delta.norm()


def read_at_subject(
    loaded: LoadedModel, context: str, request: EditRequest, layer: int, key_layer: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Key [m] of `key_layer` and hidden state [d] of `layer` at the subject's last token of one prompt."""
    ids, place = read_subject(loaded, context, request)
    seen: dict[str, torch.Tensor] = {}

    def see_key(given: Any, _: Any) -> None:
        seen["key"] = given[0].view(len(ids), -1)[place]  # with or without a dimension for the one row

    def see_hidden(_: Any, output: Any) -> None:
        seen["hidden"] = (output[0] if isinstance(output, tuple) else output)[0, place]

    down = loaded.family.down_projection(loaded.model, key_layer)
    with hooked(down, see_key), hooked(loaded.family.block_list(loaded.model)[layer], see_hidden), torch.no_grad():
        loaded.model(torch.tensor([ids]))
    return seen["key"], seen["hidden"]


def nearest_before_norm(loaded: LoadedModel, request: EditRequest, layer: int, residual: torch.Tensor) -> torch.Tensor:
    """The change [d] of the down projection's output v after which what the block adds is nearest to y + residual.

    That is g w with |w|^2 = d and (g^2 + mu) w = g t, mu the largest eigenvalue of a matrix of twice the size (Gander,
    Golub, von Matt 1989, "A constrained eigenvalue problem"); v is turned to w and keeps its length.
    """
    ids, place = read_subject(loaded, "{}", request)
    norm = loaded.family.norm_behind(loaded.model, layer)
    assert norm is not None
    seen: list[torch.Tensor] = []
    with hooked(norm, lambda given, output: seen.extend((given[0][0, place], output[0, place]))):
        loaded.model(torch.tensor([ids]))
    v, y = (value.double() for value in seen)
    g = norm(torch.ones_like(seen[0])).double()
    t, d = y + residual, len(y)
    matrix = torch.cat(
        [
            torch.cat([-torch.diag(g**2), torch.eye(d, dtype=torch.float64)], dim=1),
            torch.cat([torch.outer(g * t, g * t) / d, -torch.diag(g**2)], dim=1),
        ]
    )
    mu = torch.linalg.eigvals(matrix).real.max().clamp(min=0)
    w = g * t / (g**2 + mu)
    turned: torch.Tensor = w * v.norm() / w.norm()
    return turned - v


def mean_key(loaded: LoadedModel, contexts: Sequence[str], request: EditRequest, layer: int) -> torch.Tensor:
    """Eqn. 19: the bare prompt counts one half, the prefixed ones the other half."""
    bare, *prefixed = [read_at_subject(loaded, context, request, layer, layer)[0].double() for context in contexts]
    return (bare + torch.stack(prefixed).mean(0)) / 2 if prefixed else bare


def recalled(loaded: LoadedModel, request: EditRequest) -> bool:
    """Whether every token of the target is the likeliest at its place."""
    ids, _ = read_subject(loaded, "{}", request, request.target)
    with torch.no_grad():
        said = loaded.model(torch.tensor([ids])).logits[0].argmax(-1)
    count = target_tokens(loaded, "{}", request)
    return all(int(said[spot - 1]) == ids[spot] for spot in range(len(ids) - count, len(ids)))


def plain_spread(
    loaded: LoadedModel,
    groups: Sequence[RequestGroup],
    contexts: Sequence[str],
    z: torch.Tensor,
    covariances: Mapping[int, torch.Tensor],
    settings: MemitSettings,
) -> tuple[dict[int, torch.Tensor], list[list[bool]]]:
    """Algorithm 1, and further sweeps that solve for the total delta.

    Return the delta [d, m] of each layer, and which groups were recalled before each further sweep. The edited
    weights are left in the model's parameters until the end, then put back.
    """
    weight = {layer: loaded.family.weight(loaded.model, layer) for layer in settings.layers}
    base = {layer: value.clone() for layer, value in weight.items()}
    total = {layer: torch.zeros_like(value, dtype=torch.float64) for layer, value in base.items()}
    held: list[list[bool]] = []
    last = settings.layers[-1]
    try:
        for sweep in range(settings.sweeps):
            W = torch.eye(len(groups), dtype=torch.float64)
            if sweep > 0:
                held.append([all(recalled(loaded, request) for request in group.requests) for group in groups])
                W = torch.diag(torch.tensor([1.0 if good else settings.emphasis for good in held[-1]]).double())
            for number, layer in enumerate(settings.layers):
                firsts = [group.requests[0] for group in groups]
                K = torch.stack([mean_key(loaded, contexts, request, layer) for request in firsts], dim=1)
                h = torch.stack([read_at_subject(loaded, "{}", request, last)[1].double() for request in firsts], dim=1)
                R = (z.double().T - h) / (len(settings.layers) - number)
                if loaded.family.post_norm is not None:
                    columns = [nearest_before_norm(loaded, one, layer, r) for one, r in zip(firsts, R.T, strict=True)]
                    R = torch.stack(columns, dim=1)
                R = R + total[layer] @ K
                C = covariances[layer].double()
                total[layer] = R @ W @ K.T @ torch.linalg.inv(settings.lambda_ * C + K @ W @ K.T)
                weight[layer].copy_((base[layer].double() + total[layer]).float())
    finally:
        for layer, value in base.items():
            weight[layer].copy_(value)
    return total, held
