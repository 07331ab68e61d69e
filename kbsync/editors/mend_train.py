"""Train MEND's network on the model that it is to edit (Mitchell et al. 2022, arXiv 2110.11309, Algorithm 1).

Each step edits some facts to another object of their relation, and weighs two losses of the edited model: -log P of
the new objects on another wording of the requests, and KL(before || after) on the objects of unrelated facts, of the
same relations and of any.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from kbsync.editors.editor import changed_outputs, check, matrix_change, object_log_probs, object_losses, object_texts
from kbsync.editors.mend import MendNetwork, gradient_factors, new_network
from kbsync.errors import EditError, SettingsError
from kbsync.facts import EditRequest
from kbsync.models import LoadedModel

PUBLISHED_LAYERS = 3
"""MLPs that the paper edits: the last ones"""


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
        """Refuse what nothing can be trained with."""
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
    """What one step trains on."""

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
        requests = [replace(fact, target=another(objects[fact.relation], fact.target, rng)) for fact in chosen]
        reworded = [replace(one, prompt=rng.choice((one.prompt, *one.paraphrases))) for one in requests]
        yield Lesson(requests, reworded, unrelated(chosen, ordered, by_relation, rng))


def another(objects: Sequence[str], known: str, rng: random.Random) -> str:
    """Draw another object than the known one."""
    return rng.choice([name for name in objects if name != known])


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
