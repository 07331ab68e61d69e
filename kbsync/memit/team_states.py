"""One process's share of the groups, on its way through the layers with the deltas so far."""

from collections.abc import Sequence

import torch

from kbsync.memit.extensions.groups import RequestGroup
from kbsync.memit.keys import SubjectStates
from kbsync.memit.settings import MemitSettings
from kbsync.models import LoadedModel, Team

__all__ = ["TeamStates"]


class TeamStates:
    """The states of the share's subjects; a process whose share is empty has none, and only sends and receives."""

    def __init__(
        self,
        loaded: LoadedModel,
        groups: Sequence[RequestGroup],
        contexts: Sequence[str],
        settings: MemitSettings,
        team: Team,
    ) -> None:
        self.loaded, self.groups, self.contexts = loaded, groups, contexts
        self.layers, self.team = settings.layers, team
        self.states: SubjectStates | None = None
        self.first_keys: torch.Tensor | None = None
        """keys of the first edited layer, which nothing changes"""

    def begin(self) -> None:
        """Run the blocks below the first edited layer."""
        if not self.groups:
            return
        self.states = SubjectStates(self.loaded, self.groups, self.contexts)
        self.advance(0, self.layers[0] - 1)
        self.states.remember()

    def advance(self, begin: int, end: int) -> None:
        """Run blocks `begin` to `end`, if there are any."""
        if self.states is not None and end >= begin:
            self.states.advance(begin, end)

    def go_back(self) -> None:
        """Be at the first edited layer."""
        if self.states is not None:
            self.states.go_back()
