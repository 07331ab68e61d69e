"""The paper's own figures, where they are known: rows that stand beside ours."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from kbsync.benchmarks.paper.experiment import Row

__all__ = ["Published", "published"]


@dataclass(frozen=True, slots=True)
class Published:
    """One table of the paper."""

    table: str
    source: str
    rows: tuple[Row, ...]


@cache
def published() -> dict[str, Published]:
    """Return the paper's tables by the experiment that they belong to."""
    content: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("published.yaml").read_text(encoding="utf-8"))
    source = content.pop("source")
    return {name: Published(part["table"], source, tuple(part["rows"])) for name, part in content.items()}
