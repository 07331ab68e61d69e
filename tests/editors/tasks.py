"""Tasks for tests: capitals exchanged, on a model that knows them or a random one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from kbsync.editors.editor import Task
from kbsync.editors.mend import MendNetwork, new_network
from kbsync.facts import EditRequest
from kbsync.memit import MemitSettings, collect_covariances, group_requests
from kbsync.models import LoadedModel
from tests.tiny_models import FACTS, TEXTS

CONTEXTS = ("{}", "The river runs on. {}", "In 1987. {}")
SETTINGS = MemitSettings(
    layers=(1, 2), lambda_=1.0, steps=15, clamp_norm_factor=3.0, weight_decay=0.01, sequence_length=32
)


def swapped(count: int) -> list[EditRequest]:
    """The first facts, each with the next one's object."""
    objects = [fact.target for fact in FACTS]
    return [replace(FACTS[place], target=objects[place + 1]) for place in range(count)]


def make_task(
    loaded: LoadedModel, requests: Sequence[EditRequest], settings: MemitSettings = SETTINGS, rank: int = 8
) -> Task:
    """A task with everything that some editor asks for; the network is a new one, for blocks 1 and 2."""

    def covariances(layers: Sequence[int]) -> Mapping[int, torch.Tensor]:
        return collect_covariances(loaded, TEXTS, replace(settings, layers=tuple(layers)))[0]

    def network() -> MendNetwork:
        return new_network(loaded, (1, 2), rank, seed=0)

    return Task(loaded, group_requests(loaded, requests), CONTEXTS, settings, covariances=covariances, network=network)
