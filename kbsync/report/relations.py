"""How relations are shown."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType

from kbsync.report.tables import plain, table

if TYPE_CHECKING:
    from kbsync.workflows.relations import Relations

__all__ = ["found_view", "relations_view"]


def relations_view(result: "Relations") -> RenderableType:
    """Return a row for each relation, and which model is spoken of."""
    rows = [
        (
            row.relation,
            row.label,
            "yes" if row.template else "no",
            row.facts,
            row.conflicts,
            "-" if row.known is None else f"{row.known:.1f}% of {row.asked}",
        )
        for row in result.relations
    ]
    told = f"known: by {result.model}, of the facts it was asked for" if result.model else "no model was asked yet"
    return Group(table(("relation", "label", "template", "facts", "conflicts", "known"), rows), plain(told))


def found_view(result: Mapping[str, Any]) -> RenderableType:
    """Return a row for each relation that a search found."""
    found = result["relations"]
    if not found:
        return plain(f"no relation with {result['search']!r}: try another word (--online asks an endpoint)")
    rows = [(one.relation, one.label, one.text, "yes" if one.template else "no") for one in found]
    return table(("relation", "label", "found in", "template"), rows)
