"""SIGKILL at random moments of pulls and applies; ``python -m tests.e2e.soak`` is the same with more of them."""

from pathlib import Path

from tests.e2e.soak import soak
from tests.homes import Editable

KILLS = 6


def test_killed_at_any_moment_the_same_command_goes_on(small: Editable, tmp_path: Path) -> None:
    soaked = soak(tmp_path, small, KILLS)
    assert soaked.kills.total() == soaked.states.total() == KILLS
    assert soaked.difference < 1e-6
