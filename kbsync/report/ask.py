"""How answers are shown."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType

from kbsync.report.tables import table

if TYPE_CHECKING:
    from kbsync.models import Answer
    from kbsync.workflows.ask import Asked

__all__ = ["asked_view"]


def asked_view(result: Mapping[str, Sequence["Asked"]]) -> RenderableType:
    """Return a table for each prompt: the base's answers, and beside them the edited model's."""
    return Group(*(_one(asked) for asked in result["answers"]))


def _one(asked: "Asked") -> RenderableType:
    if asked.edited is None:
        return table(("base", "%"), [_cells(answer) for answer in asked.base], title=asked.prompt)
    rows = [(*_cells(before), *_cells(after)) for before, after in zip_longest(asked.base, asked.edited)]
    return table(("base", "%", "edited", "%"), rows, title=asked.prompt)


def _cells(answer: "Answer | None") -> tuple[str, str]:
    return ("", "") if answer is None else (answer.text, f"{100 * answer.probability:.1f}")
