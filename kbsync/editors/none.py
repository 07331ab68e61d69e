"""No edit at all: what every table compares with."""

from dataclasses import dataclass
from typing import ClassVar

from kbsync.editors.editor import NO_SETTINGS, Deltas, NoSettings, Task

__all__ = ["NoEditor"]


@dataclass(frozen=True, slots=True)
class NoEditor:
    """The base model."""

    name: ClassVar[str] = "none"
    settings: NoSettings = NO_SETTINGS

    def edit(self, task: Task) -> Deltas:
        """Return no deltas."""
        return {}
