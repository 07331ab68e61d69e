"""MEMIT the plain way: the yardstick of `bench speed`, and what the tests of `memit` compare with.

One request at a time, its contexts as one padded batch, as in the published implementation. Every forward pass is
the whole model's: all blocks, all tokens, logits everywhere; nothing is kept from one pass to the next. Torch's own
Adam, an LU solve, a pass over the text for each layer. Nothing here calls the parts of `kbsync.memit` or
`kbsync.models` that it is compared with. Equations as in the MEMIT paper; letters as in `kbsync.memit`.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from kbsync.facts import EditRequest
from kbsync.memit import MemitSettings, RequestGroup
from kbsync.models import LoadedModel
from kbsync.models.forward import first_tensor as first

EARLY_STOP_LOSS = 0.05
ROWS_AT_ONCE = 16

Told = Callable[[int, int], None]
"""gets how much is done, and of how much"""


def silent(done: int, total: int) -> None:
    """Tell nothing."""


@dataclass(frozen=True, slots=True)
class Text:
    """Tokens of a context, prompt, subject and target."""

    ids: list[int]
    place: int
    """position of the subject's last token"""
    start: int
    """position of the target's first token; len(ids) where there is none"""


def read(loaded: LoadedModel, context: str, request: EditRequest, target: str = "") -> Text:
    """Tokenize the whole text at once and find the subject's end and the target's start by characters."""
    before, after = context.replace("{}", request.prompt).split("{}")
    prompt = f"{before}{request.subject}{after}"
    encoded = loaded.tokenizer(f"{prompt} {target}" if target else prompt)
    ids = list(encoded["input_ids"])
    place = encoded.char_to_token(len(before) + len(request.subject) - 1)
    start = encoded.char_to_token(len(prompt)) if target else len(ids)
    assert place is not None
    assert start is not None
    return Text(ids, place, start)


def padded(loaded: LoadedModel, rows: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
    """Return the model's inputs for rows of tokens, padded on the right."""
    length = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (length - len(row))] for row in rows], device=loaded.device)
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows], device=loaded.device)
    return {"input_ids": ids, "attention_mask": mask}


def seen_in_pass(loaded: LoadedModel, inputs: Mapping[str, torch.Tensor], *modules: nn.Module) -> list[Any]:
    """Run the model once; return the input and the output of each module."""
    seen: dict[nn.Module, Any] = {}
    with ExitStack() as stack:
        for module in modules:
            stack.callback(
                module.register_forward_hook(
                    lambda own, given, output: seen.update({own: (given[0], first(output))})
                ).remove
            )
        loaded.model(**inputs, use_cache=False)
    return [seen[module] for module in modules]


def log_probs(loaded: LoadedModel, texts: Sequence[Text], delta: torch.Tensor, layer: int) -> torch.Tensor:
    """Return log-probabilities [B, T, V], with `delta` [d] added at each subject's last token, at block `layer`."""
    inputs = padded(loaded, [text.ids for text in texts])
    mask = torch.zeros(*inputs["input_ids"].shape, 1, device=loaded.device)
    for row, text in enumerate(texts):
        mask[row, text.place] = 1.0

    def add(_: nn.Module, given: Any, output: Any) -> Any:
        moved = (first(output).float() + mask * delta).to(first(output).dtype)
        return (moved, *output[1:]) if isinstance(output, tuple) else moved

    handle = loaded.family.block_list(loaded.model)[layer].register_forward_hook(add)
    try:
        logits: torch.Tensor = loaded.model(**inputs, use_cache=False).logits
    finally:
        handle.remove()
    return logits.float().log_softmax(-1)


def plain_target(
    loaded: LoadedModel, group: RequestGroup, contexts: Sequence[str], settings: MemitSettings
) -> tuple[torch.Tensor, list[float]]:
    """Return z [d] of a group (Eqn. 16), and the loss at each evaluation."""
    search, members = PlainSearch(loaded, group, contexts, settings), len(group.requests)
    optimizer = torch.optim.Adam([search.delta], lr=settings.lr)
    history: list[float] = []
    while True:
        loss = search.loss(len(history))
        history.append(loss.item())
        last = history[-settings.minibatches :]
        done = len(last) == settings.minibatches and sum(last) / len(last) < EARLY_STOP_LOSS
        if done or len(history) == settings.group_steps(members):
            return search.h + search.delta.detach(), history
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            bound = settings.group_clamp(members) * search.h.norm()
            if search.delta.norm() > bound:
                search.delta *= bound / search.delta.norm()


class PlainSearch:
    def __init__(
        self, loaded: LoadedModel, group: RequestGroup, contexts: Sequence[str], settings: MemitSettings
    ) -> None:
        self.loaded, self.settings, self.layer = loaded, settings, settings.layers[-1]
        members = group.requests
        self.texts = [read(loaded, context, request, request.target) for request in members for context in contexts]
        bare_ids: list[int] = loaded.tokenizer(members[0].subject)["input_ids"]
        self.bare = Text(bare_ids, len(bare_ids) - 1, len(bare_ids))
        self.h = read_at_subject(loaded, "{}", members[0], self.layer)[1].float()
        self.delta = torch.zeros_like(self.h, requires_grad=True)
        self.before: torch.Tensor | None = None

    def loss(self, step: int) -> torch.Tensor:
        """Return the whole loss of the group by itself, at the present delta, on the texts whose turn it is."""
        turns = self.settings.minibatches if len(self.texts) >= self.settings.minibatches else 1
        texts = self.texts[step % turns :: turns]
        found = log_probs(self.loaded, [*texts, self.bare], self.delta, self.layer)
        nll = [
            -torch.stack([found[row, spot - 1, text.ids[spot]] for spot in range(text.start, len(text.ids))]).mean()
            for row, text in enumerate(texts)
        ]
        after = found[-1, self.bare.place]
        if self.before is None:
            self.before = after.detach()
        kl = (after.exp() * (after - self.before)).sum()
        decay = self.delta.norm() / self.h.norm() ** 2
        surprise = torch.stack(nll).sum() * turns / len(self.texts)
        whole: torch.Tensor = surprise + self.settings.kl_factor * kl + self.settings.weight_decay * decay
        return whole


@torch.no_grad()
def keys_and_hidden(
    loaded: LoadedModel, contexts: Sequence[str], request: EditRequest, layer: int, key_layer: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return keys [P, m] of `key_layer` and hidden states [P, d] of `layer` at the subject's last token."""
    texts = [read(loaded, context, request) for context in contexts]
    inputs = padded(loaded, [text.ids for text in texts])
    down, block = loaded.family.down_projection(loaded.model, key_layer), loaded.family.block_list(loaded.model)[layer]
    (keys, _), (_, hidden) = seen_in_pass(loaded, inputs, down, block)
    keys = keys.view(*inputs["input_ids"].shape, -1)  # some families give the MLP all tokens in one dimension
    row, place = range(len(texts)), [text.place for text in texts]
    return keys[row, place], hidden[row, place]


def read_at_subject(
    loaded: LoadedModel, context: str, request: EditRequest, layer: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return key [m] of the first layer and hidden state [d] of `layer` of one prompt."""
    keys, hidden = keys_and_hidden(loaded, [context], request, layer, 0)
    return keys[0], hidden[0]


def rest_moment(loaded: LoadedModel, requests: Sequence[EditRequest], layer: int) -> torch.Tensor:
    """Return the sum of k k^T [m, m] in float64 over all tokens of the prompts with their objects but each S."""
    down, rest = loaded.family.down_projection(loaded.model, layer), []
    for request in requests:
        text = read(loaded, "{}", request, request.target)
        ((keys, _),) = seen_in_pass(loaded, padded(loaded, [text.ids]), down)
        keys = keys.reshape(len(text.ids), -1).double()
        rest += [keys[: text.place], keys[text.place + 1 :]]
    keys = torch.cat(rest)
    moment: torch.Tensor = keys.T @ keys
    return moment


def mean_key(keys: torch.Tensor) -> torch.Tensor:
    """Return the mean of keys [P, m] (Eqn. 19) in float64: half the bare prompt's, half the prefixed ones'."""
    keys = keys.double()
    return (keys[0] + keys[1:].mean(0)) / 2 if len(keys) > 1 else keys[0]


@torch.no_grad()
def nearest_before_norm(loaded: LoadedModel, request: EditRequest, layer: int, residual: torch.Tensor) -> torch.Tensor:
    """Return the change [d] of the down projection's output v after which the block adds what is nearest to y + r.

    For families with a norm behind the MLP, which adds y = norm(v). That nearest is g w with |w|^2 = d and
    (g^2 + mu) w = g (y + r), mu the largest eigenvalue of a matrix of twice the size (Gander, Golub, von Matt 1989, "A
    constrained eigenvalue problem"); v is turned to w and keeps its length.
    """
    text = read(loaded, "{}", request)
    norm = loaded.family.norm_behind(loaded.model, layer)
    assert norm is not None
    (seen,) = seen_in_pass(loaded, padded(loaded, [text.ids]), norm)
    v, y = (value[0, text.place].double() for value in seen)
    g = norm(torch.ones_like(seen[0][0, text.place])).double()
    t, d = y + residual, len(y)
    matrix = torch.cat(
        [
            torch.cat([-torch.diag(g**2), torch.eye(d, dtype=torch.float64, device=g.device)], dim=1),
            torch.cat([torch.outer(g * t, g * t) / d, -torch.diag(g**2)], dim=1),
        ]
    )
    mu = torch.linalg.eigvals(matrix).real.max().clamp(min=0)
    w = g * t / (g**2 + mu)
    change: torch.Tensor = w * v.norm() / w.norm() - v
    return change


@torch.no_grad()
def plain_covariances(
    loaded: LoadedModel, rows: Sequence[Sequence[int]], layers: Sequence[int], told: Told = silent
) -> dict[int, torch.Tensor]:
    """Return C [m, m] of each layer (Eqn. 15) over rows of tokens, by a pass of the whole model for each."""
    sums: dict[int, torch.Tensor] = {}
    for number, layer in enumerate(layers):
        down = loaded.family.down_projection(loaded.model, layer)
        for begin in range(0, len(rows), ROWS_AT_ONCE):
            inputs = padded(loaded, rows[begin : begin + ROWS_AT_ONCE])
            ((keys, _),) = seen_in_pass(loaded, inputs, down)
            keys = keys.view(*inputs["input_ids"].shape, -1)[inputs["attention_mask"].bool()].float()
            sums[layer] = sums.get(layer, torch.zeros((), device=keys.device)) + keys.T @ keys
            told(number * len(rows) + min(begin + ROWS_AT_ONCE, len(rows)), len(layers) * len(rows))
    return {layer: value.double() / sum(map(len, rows)) for layer, value in sums.items()}


@torch.no_grad()
def plain_spread(
    loaded: LoadedModel,
    groups: Sequence[RequestGroup],
    contexts: Sequence[str],
    z: torch.Tensor,
    covariances: Mapping[int, torch.Tensor],
    settings: MemitSettings,
    told: Told = silent,
) -> dict[int, torch.Tensor]:
    """Spread z [u, d] over the layers (Algorithm 1); further sweeps solve for the total delta.

    Return the delta [d, m] of each layer in float64. The weights are put back at the end.
    """
    weight = {layer: loaded.family.weight(loaded.model, layer) for layer in settings.layers}
    base = {layer: value.clone() for layer, value in weight.items()}
    total = {layer: torch.zeros_like(value, dtype=torch.float64) for layer, value in base.items()}
    last = settings.layers[-1]
    members = [request for group in groups for request in group.requests]
    rest = {layer: rest_moment(loaded, members, layer) if settings.rest_weight else 0 for layer in base}
    try:
        for sweep in range(settings.sweeps):
            for number, layer in enumerate(settings.layers):
                seen = [keys_and_hidden(loaded, contexts, group.requests[0], last, layer) for group in groups]
                K = torch.stack([mean_key(keys) for keys, _ in seen], dim=1)
                h = torch.stack([hidden[0].double() for _, hidden in seen], dim=1)
                r = (z.double().to(h.device).T - h) / (len(settings.layers) - number)
                if loaded.family.post_norm is not None:
                    firsts = [group.requests[0] for group in groups]
                    columns = [
                        nearest_before_norm(loaded, one, layer, column) for one, column in zip(firsts, r.T, strict=True)
                    ]
                    r = torch.stack(columns, dim=1)
                r = r + total[layer] @ K
                C = covariances[layer].double().to(h.device)
                A = settings.lambda_ * C + settings.rest_weight * rest[layer] + K @ K.T
                total[layer] = r @ torch.linalg.solve(A, K).T
                weight[layer].copy_(base[layer].double() + total[layer])
                told(sweep * len(settings.layers) + number + 1, settings.sweeps * len(settings.layers))
    finally:
        for layer, value in base.items():
            weight[layer].copy_(value)
    return total
