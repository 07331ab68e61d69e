"""Keys of held facts while layers change, and which facts lie nearest to the edits."""

from collections.abc import Sequence

import torch

from kbsync.memit.groups import RequestGroup
from kbsync.memit.subject_states import SubjectStates
from kbsync.memit.team_states import TeamStates
from kbsync.models import LoadedModel

__all__ = ["Holding", "nearness"]


class Holding(TeamStates):
    """The held facts; only their keys are found, so no block is run but those up to a key."""

    def keys(self, layer: int, *, first: bool) -> torch.Tensor | None:
        """Return K_h [m, n] of `layer` on the leader; nothing on others, and where no fact is held."""
        keys = None
        if self.states is not None:
            if first and self.first_keys is not None:
                keys = self.first_keys
            else:
                keys, _ = self.states.keys_and_hidden(layer, layer)
            self.first_keys = keys if first else self.first_keys
        found: torch.Tensor | None = self.team.columns(keys)
        return found


@torch.no_grad()
def nearness(
    loaded: LoadedModel, groups: Sequence[RequestGroup], others: Sequence[RequestGroup], layer: int
) -> torch.Tensor:
    """Return for each of `others` the cosine [n] of its key with the nearest of the `groups`'.

    Keys are those of `layer` in the model as it is, of the bare prompts.
    """
    states = SubjectStates(loaded, [*groups, *others], ("{}",))
    if layer > 0:
        states.advance(0, layer - 1)
    keys, _ = states.keys_and_hidden(layer, layer)
    keys = keys / keys.norm(dim=0, keepdim=True)
    edits, rest = keys[:, : len(groups)], keys[:, len(groups) :]
    nearest: torch.Tensor = (rest.T @ edits).amax(dim=1).cpu()
    return nearest
