"""Work shared out over the processes of ``accelerate launch``: the leader runs a workflow, the others do their share.

The followers load the model and wait. Whatever is shared (targets, covariance, the spread over the layers) goes to all
of them as a function with its arguments; the ledger, the plan and the figures are the leader's alone.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kbsync.errors import KbsyncError
from kbsync.models import LoadedModel, Team
from kbsync.models import join_team as join_team
from kbsync.sync.home import Loading
from kbsync.sync.model import choose_model


def together(team: Team, work: Callable[..., Any], loaded: LoadedModel, *shared: Any, **own: Any) -> Any:
    """Do `work`, a module's function, with the whole team and return what it gives; `own` is for the leader alone."""
    if team.size > 1:
        team.broadcast((work, shared))
    return work(loaded, *shared, team=team, **own)


@contextmanager
def led(team: Team) -> Iterator[None]:
    """Lead the team inside; the followers go home on leaving, however it ended."""
    try:
        yield
    finally:
        if team.size > 1:
            team.broadcast(None)
            team.leave()


def work_along(team: Team, home: Path, model: str, loading: Loading) -> None:
    """Be a follower from beginning to end: load the model that the leader loads, and do a share of its work."""
    loaded = choose_model(model, home=home, loading=loading).loaded
    while (order := team.broadcast(None)) is not None:
        work, shared = order
        try:
            work(loaded, *shared, team=team)
        except KbsyncError:
            continue  # the leader met it too, and tells it
    team.leave()
