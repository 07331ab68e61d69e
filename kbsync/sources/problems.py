"""All that is wrong with a file of facts, in one error."""

from dataclasses import dataclass, field
from pathlib import Path

from kbsync.errors import SourceError

__all__ = ["SHOWN", "Problems"]

SHOWN = 20
"""problems told in full"""


@dataclass(slots=True)
class Problems:
    """Problems of one file, each with its line and, where known, its column; both count from 1."""

    path: Path
    found: list[tuple[int, int, str]] = field(default_factory=list)

    def add(self, line: int, message: str, column: int = 0) -> None:
        """Note a problem; column 0 is none."""
        self.found.append((line, column, message))

    def raise_any(self) -> None:
        """Raise SourceError with the first `SHOWN` in the order of the file, and the number of others, if any."""
        if not self.found:
            return
        told = [
            f"{self.path}:{line}:{column}: {message}" if column else f"{self.path}:{line}: {message}"
            for line, column, message in sorted(self.found)
        ]
        if len(told) > SHOWN:
            told[SHOWN:] = [f"and {len(told) - SHOWN} more"]
        raise SourceError("\n".join(told))
