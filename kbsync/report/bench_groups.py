"""How `bench groups` is shown."""

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType

from kbsync.report.tables import plain, table

if TYPE_CHECKING:
    from kbsync.benchmarks.groups import GroupsBench

__all__ = ["groups_view"]

_FIGURES = ("ES", "PS", "NS", "S", "recall", "paraphrase_recall", "perplexity", "loss")


def groups_view(bench: "GroupsBench") -> RenderableType:
    """Return a row for each number of objects and way, and what the subjects were."""
    rows = []
    for size in bench.sizes:
        for way, figures in size.ways.items():
            if size.objects > 1 or way == "single":  # with one object all ways are the same
                cells = [f"{figures[name]:.2f}" if name in figures else None for name in _FIGURES]
                rows.append((size.objects, way, size.edits, *cells))
    columns = ("objects", "way", "edits", *(name.replace("_", " ") for name in _FIGURES))
    title = f"several objects for one subject: {bench.model}, perplexity before {bench.base['perplexity']:.2f}"
    remarks = [f"drawn from {bench.known} fixture facts that the model knows"]
    for size in bench.sizes:
        line = f"{size.objects} {'object' if size.objects == 1 else 'objects'} each: {size.subjects} subjects"
        if size.new_relations:
            line += f", {size.new_relations} of the edits for relations that their subject had no fact of"
        remarks.append(line)
    return Group(table(columns, rows, title=title), *map(plain, remarks))
