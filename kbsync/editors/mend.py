"""MEND (Mitchell et al. 2022, arXiv 2110.11309): a trained network makes an edit of a gradient's factors.

The gradient of a down projection is a sum of rank-one factors, one for each token (its section 3.1): with u [m] the
projection's input and g [d] the loss's gradient at its output, dL/dW = sum of g u^T. A token's factors, normalised and
joined to z = [u; g], pass two residual layers of low rank, h = x + f(U V x), that down projections of one shape share,
each with a scale and an offset of its own (Eqn. 3). What comes out, [u~; g~], gives the edit of layer l, -alpha_l x the
sum over tokens of g~ u~^T, with a learned step size alpha_l. U starts at zero, so that the network starts as gradient
descent on normalised factors. As in the published code, the first layer's f is a ReLU and the second's the identity.
The paper edits both matrices of the last three MLPs; here it is their down projections.

It is trained on the model that it is to edit (Algorithm 1). Each step edits some facts to another object of their
relation, and weighs two losses of the edited model: -log P of the new objects on another wording of the requests, and
KL(before || after) on the objects of unrelated facts, of the same relations and of any.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from kbsync.editors.editor import (
    Change,
    Deltas,
    NoSettings,
    Task,
    changed_outputs,
    check,
    matrix_change,
    object_log_probs,
    object_losses,
    object_texts,
)
from kbsync.errors import EditError, ModelError, SettingsError
from kbsync.facts import EditRequest
from kbsync.models import LoadedModel, TokenizedPrompt
from kbsync.models.checkpoint import weights_hashes
from kbsync.models.forward import batches_by_length


@dataclass(frozen=True, slots=True)
class Factors:
    """One layer's factors at the n tokens where the gradient is not zero, in float32."""

    inputs: torch.Tensor
    """u, [n, m]"""
    gradients: torch.Tensor
    """g, [n, d]"""

    @property
    def z(self) -> torch.Tensor:
        """[u; g] of each token, [n, m + d]."""
        return torch.cat([self.inputs, self.gradients], dim=1)


def gradient_factors(
    loaded: LoadedModel, texts: Sequence[TokenizedPrompt], layers: Sequence[int]
) -> dict[int, Factors]:
    """Return each layer's factors of the gradient of sum_i -log P[target_i] (the mean over a target's tokens)."""
    seen: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def seeing(layer: int) -> Change:
        width = loaded.weight(layer).shape[0]

        def see(given: torch.Tensor) -> torch.Tensor:
            # Zeros that take the gradient at the output, so that no weight has to.
            leaf = torch.zeros(*given.shape[:-1], width, device=given.device, requires_grad=True)
            seen[layer] = (given.detach(), leaf)
            return leaf

        return see

    with torch.enable_grad(), changed_outputs(loaded, {layer: seeing(layer) for layer in layers}):
        loss = object_losses(loaded, texts).sum()
    found = torch.autograd.grad(loss, [seen[layer][1] for layer in layers])
    return {layer: factors(seen[layer][0], gradient) for layer, gradient in zip(layers, found, strict=True)}


def factors(given: torch.Tensor, gradient: torch.Tensor) -> Factors:
    """Return the factors of all tokens [..., m] and [..., d] but those without a gradient, such as padding."""
    inputs, gradients = given.flatten(0, -2), gradient.flatten(0, -2)
    used = gradients.any(1)
    return Factors(inputs[used], gradients[used])


EPSILON = 1e-7
FIRST_STEP = 1e-4  # alpha before training


class LowRankLayer(nn.Module):
    """x -> x + f(scale (U V x + b) + offset) for tokens of one of several down projections."""

    def __init__(self, width: int, rank: int, places: int, *, relu: bool, generator: torch.Generator) -> None:
        super().__init__()
        rank = min(rank, width)
        self.relu = relu
        self.U = nn.Parameter(torch.zeros(width, rank))
        self.V = nn.Parameter(torch.randn(rank, width, generator=generator) / width**0.5)
        self.bias = nn.Parameter(torch.zeros(width))
        self.scale = nn.Parameter(torch.ones(places, width))
        self.offset = nn.Parameter(torch.zeros(places, width))

    def forward(self, x: torch.Tensor, place: int) -> torch.Tensor:
        """Transform x [n, width] of the down projection at `place`."""
        moved = self.scale[place] * (x @ self.V.T @ self.U.T + self.bias) + self.offset[place]
        # clamp, not relu: at zero, where training begins, it lets the gradient through
        return x + (moved.clamp(min=0) if self.relu else moved)


class FactorNetwork(nn.Module):
    """Transforms factors of down projections [d, m]; `mean` and `spread` normalise what goes in."""

    count: torch.Tensor
    mean: torch.Tensor
    spread: torch.Tensor

    def __init__(self, d: int, m: int, places: int, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.m = m
        self.layers = nn.ModuleList(
            LowRankLayer(m + d, rank, places, relu=relu, generator=generator) for relu in (True, False)
        )
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(m + d))
        self.register_buffer("spread", torch.ones(m + d))

    @torch.no_grad()
    def see(self, factors: Factors) -> None:
        """Take more tokens into mean and standard deviation (Chan et al. 1979, their pairwise update)."""
        z = factors.z
        count, mean = len(z), z.mean(0)
        squares = (z - mean).pow(2).sum(0)
        apart, total = mean - self.mean, self.count + count
        if self.count:
            squares += self.spread**2 * (self.count - 1) + apart**2 * self.count * count / total
        self.mean += apart * count / total
        self.spread.copy_((squares / (total - 1).clamp(min=1)).sqrt())
        self.count.copy_(total)

    def forward(self, factors: Factors, place: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return u~ [n, m] and g~ [n, d] of the down projection at `place`."""
        x = (factors.z - self.mean) / (self.spread + EPSILON)
        for layer in self.layers:
            x = layer(x, place)
        return x[:, : self.m], x[:, self.m :]


class MendNetwork(nn.Module):
    """The factor networks of one model, by shape of the down projections, and the step sizes."""

    def __init__(self, shapes: Mapping[int, tuple[int, int]], rank: int, weights: str, seed: int = 0) -> None:
        """Begin with the identity; `shapes` maps edited layers to (d, m), `weights` is the model's SHA-256."""
        super().__init__()
        self.shapes, self.rank, self.weights = dict(shapes), rank, weights
        generator = torch.Generator().manual_seed(seed)
        self.networks = nn.ModuleDict(
            {name: FactorNetwork(*shape, len(layers), rank, generator) for name, shape, layers in self.by_shape()}
        )
        self.steps = nn.Parameter(torch.full((len(shapes),), FIRST_STEP))

    @property
    def layers(self) -> list[int]:
        return sorted(self.shapes)

    def by_shape(self) -> Iterator[tuple[str, tuple[int, int], list[int]]]:
        """Yield each shape's name, (d, m), and layers."""
        for shape in sorted(set(self.shapes.values())):
            yield f"{shape[0]}x{shape[1]}", shape, [layer for layer in self.layers if self.shapes[layer] == shape]

    def see(self, factors: Mapping[int, Factors]) -> None:
        """Take factors into what normalises them."""
        for name, _, layers in self.by_shape():
            for layer in layers:
                self.networks[name].see(factors[layer])  # type: ignore[operator]

    def forward(self, factors: Mapping[int, Factors]) -> dict[int, torch.Tensor]:
        """Return the edit [d, m] of each layer: one pass over all tokens of all requests, summed."""
        found = {}
        for name, _, layers in self.by_shape():
            for place, layer in enumerate(layers):
                u, g = self.networks[name](factors[layer], place)
                found[layer] = -self.steps[self.layers.index(layer)] * (g.T @ u)
        return found

    def metadata(self) -> dict[str, str]:
        shapes = " ".join(f"{layer}:{d}x{m}" for layer, (d, m) in sorted(self.shapes.items()))
        return {"kind": "mend", "shapes": shapes, "rank": str(self.rank), "weights": self.weights}


def weights_of(loaded: LoadedModel) -> str:
    """Return the SHA-256 of the embeddings and all blocks: what a network is trained for."""
    last = len(loaded.family.block_list(loaded.model)) - 1
    return weights_hashes(loaded, [last])[last]


def new_network(loaded: LoadedModel, layers: Sequence[int], rank: int, seed: int) -> MendNetwork:
    """Return an untrained network for these layers of a model, on its device."""
    shapes = {layer: (loaded.weight(layer).shape[0], loaded.weight(layer).shape[1]) for layer in layers}
    return MendNetwork(shapes, rank, weights_of(loaded), seed).to(loaded.device)


def read_network(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str], loaded: LoadedModel) -> MendNetwork:
    """Return the network of a file's tensors and metadata, on the model's device.

    Raises ModelError where it is no network, or was trained for other weights than those of `loaded`.
    """
    if metadata.get("kind") != "mend":
        raise ModelError("the file is not a MEND network: run `kbsync mend train` to make one")
    if metadata["weights"] != weights_of(loaded):
        raise ModelError(
            f"the MEND network was trained for other weights than those of {loaded.source}:"
            " run `kbsync mend train` for this one"
        )
    shapes = {}
    for part in metadata["shapes"].split():
        layer, _, shape = part.partition(":")
        d, _, m = shape.partition("x")
        shapes[int(layer)] = (int(d), int(m))
    network = MendNetwork(shapes, int(metadata["rank"]), metadata["weights"])
    network.load_state_dict(dict(tensors))
    return network.to(loaded.device).requires_grad_(False)


TOKEN_BUDGET = 8192  # padded tokens of one pass


@torch.no_grad()
def write_mend(task: Task, _: NoSettings) -> Deltas:
    """Return the change [d, m], in float32, of each layer of the network: its edit of all requests together."""
    network = task.network()
    assert isinstance(network, MendNetwork)
    texts = object_texts(task.loaded, task.requests)
    if not texts:
        raise EditError("no requests to edit")
    total: dict[int, torch.Tensor] = {}
    done = 0
    for places in batches_by_length([len(text.ids) for text in texts], TOKEN_BUDGET):
        factors = gradient_factors(task.loaded, [texts[place] for place in places], network.layers)
        for layer, change in network(factors).items():
            total[layer] = total[layer] + change if layer in total else change
        done += len(places)
        task.progress("mend", done, len(texts))
    return total


PUBLISHED_LAYERS = 3  # MLPs that the paper edits: the last ones


@dataclass(frozen=True, slots=True)
class MendSettings:
    """How MEND's network is built and trained; loss weights, step sizes' learning rate and clip are the published."""

    layers: tuple[int, ...] | None = None
    """edited blocks, ascending; none means the last three"""
    rank: int = 1920
    """of the network's layers; its width where that is less"""
    steps: int = 2000
    """training steps"""
    edits: int = 8
    """facts that are edited together in a step"""
    lr: float = 1e-4
    """Adam's learning rate"""
    step_lr: float = 1e-4
    """Adam's learning rate for the step sizes alpha"""
    edit_weight: float = 0.1
    """c_edit: weight of the edit loss; that of the locality loss is 1"""
    clip: float = 100.0
    """largest norm of the whole gradient"""
    seed: int = 0

    def __post_init__(self) -> None:
        check(self, "1 or more", lambda value: value >= 1, "rank", "steps", "edits")
        check(self, "above 0", lambda value: value > 0, "lr", "step_lr", "edit_weight", "clip")
        if self.layers is not None and sorted(set(self.layers)) != list(self.layers):
            raise SettingsError(f"layers: {list(self.layers)} are not ascending block numbers")


@dataclass(frozen=True, slots=True)
class MendTraining:
    """A trained network, and both losses at each step."""

    network: MendNetwork
    edit_losses: tuple[float, ...]
    locality_losses: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Lesson:
    requests: list[EditRequest]
    """to edit"""
    reworded: list[EditRequest]
    """the same in another wording, where they have one"""
    unrelated: list[EditRequest]
    """known facts of other subjects"""


def train_mend(
    loaded: LoadedModel,
    facts: Sequence[EditRequest],
    settings: MendSettings,
    progress: Callable[[str, int, int], None] = lambda phase, done, total: None,
) -> MendTraining:
    """Train a network on `facts`, which the model knows; the model is left as it was.

    Raises EditError where fewer facts than `settings.edits` have another object of their relation, or a loss is not
    finite.
    """
    depth = len(loaded.family.block_list(loaded.model))
    layers = settings.layers or tuple(range(max(0, depth - PUBLISHED_LAYERS), depth))
    if not 0 <= layers[0] <= layers[-1] < depth:
        raise SettingsError(f"layers: {list(layers)} are not all among the model's {depth} blocks, 0 to {depth - 1}")
    network = new_network(loaded, layers, settings.rank, settings.seed)
    own = [parameter for name, parameter in network.named_parameters() if name != "steps"]
    optimizer = torch.optim.Adam(
        [{"params": own, "lr": settings.lr}, {"params": [network.steps], "lr": settings.step_lr}]
    )
    edit_losses, locality_losses = [], []
    for step, lesson in zip(range(settings.steps), lessons(facts, settings), strict=False):
        edit, locality = losses(loaded, network, lesson)
        whole = settings.edit_weight * edit + locality
        if not torch.isfinite(whole):
            raise EditError("MEND's loss is not finite: use a smaller lr, or --dtype float32")
        optimizer.zero_grad()
        whole.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
        optimizer.step()
        edit_losses.append(edit.item())
        locality_losses.append(locality.item())
        progress(f"training MEND: edit loss {edit_losses[-1]:.2f}", step + 1, settings.steps)
    return MendTraining(network.requires_grad_(False), tuple(edit_losses), tuple(locality_losses))


def losses(loaded: LoadedModel, network: MendNetwork, lesson: Lesson) -> tuple[torch.Tensor, torch.Tensor]:
    """Return edit and locality loss of the model after the lesson's edit, with gradient for the network."""
    factors = gradient_factors(loaded, object_texts(loaded, lesson.requests), network.layers)
    network.see(factors)
    unrelated = object_texts(loaded, lesson.unrelated)
    with torch.no_grad():
        before = object_log_probs(loaded, unrelated)
    changes = {layer: matrix_change(matrix) for layer, matrix in network(factors).items()}
    with changed_outputs(loaded, changes):
        edit = object_losses(loaded, object_texts(loaded, lesson.reworded)).mean()
        after = object_log_probs(loaded, unrelated)
    return edit, (before.exp() * (before - after)).sum(1).mean()


def lessons(facts: Sequence[EditRequest], settings: MendSettings) -> Iterator[Lesson]:
    """Yield lessons without end, drawn with the settings' seed."""
    rng = random.Random(settings.seed)
    ordered = sorted(facts, key=lambda fact: fact.id)
    by_relation: dict[str, list[EditRequest]] = defaultdict(list)
    for fact in ordered:
        by_relation[fact.relation].append(fact)
    objects = {relation: sorted({fact.target for fact in own}) for relation, own in by_relation.items()}
    usable = [fact for fact in ordered if len(objects[fact.relation]) > 1]
    if len(usable) < settings.edits or len({fact.subject for fact in ordered}) <= settings.edits:
        raise EditError(
            f"MEND edits {settings.edits} facts in a step, and of the {len(ordered)} that it is to train on"
            f" {len(usable)} have another object of their relation: pull facts of more subjects"
        )
    while True:
        chosen = rng.sample(usable, settings.edits)
        others = [[name for name in objects[fact.relation] if name != fact.target] for fact in chosen]
        requests = [replace(fact, target=rng.choice(names)) for fact, names in zip(chosen, others, strict=True)]
        reworded = [replace(one, prompt=rng.choice((one.prompt, *one.paraphrases))) for one in requests]
        yield Lesson(requests, reworded, unrelated(chosen, ordered, by_relation, rng))


def unrelated(
    edited: Sequence[EditRequest],
    facts: Sequence[EditRequest],
    by_relation: Mapping[str, Sequence[EditRequest]],
    rng: random.Random,
) -> list[EditRequest]:
    """Draw for each edited fact one of its relation and one of any, none of them about an edited subject."""
    subjects = {one.subject for one in edited}
    pools = [pool for one in edited for pool in (by_relation[one.relation], facts)]
    others = [[fact for fact in pool if fact.subject not in subjects] for pool in pools]
    return [rng.choice(pool) for pool in others if pool]
