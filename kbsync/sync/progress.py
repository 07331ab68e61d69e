"""The plain function by which long work tells how far it is."""

from collections.abc import Callable

__all__ = ["Progress", "silent"]

Progress = Callable[[str, int, int], None]
"""``progress(phase, done, total)``"""


def silent(phase: str, done: int, total: int) -> None:
    """Tell nothing."""
