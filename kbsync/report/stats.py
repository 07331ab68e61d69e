"""How covariances are shown."""

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType

from kbsync.report.tables import plain, table

if TYPE_CHECKING:
    from kbsync.workflows.shared_covariances import SharedCovariances
    from kbsync.workflows.stats import Stats

__all__ = ["exported_view", "imported_view", "stats_view"]

_COLUMNS = ("layer", "m", "tokens", "change since half", "condition", "seconds", "on record", "file")


def stats_view(stats: "Stats") -> RenderableType:
    """Return a table with a row for each layer."""
    rows = [
        (
            layer.layer,
            layer.m,
            layer.tokens,
            None if layer.change is None else f"{layer.change:.2%}",
            None if layer.condition is None else f"{layer.condition:.2g}",
            layer.seconds,
            "before" if layer.cached else "now",
            layer.file,
        )
        for layer in stats.layers
    ]
    title = f"{stats.model}: covariance over {stats.corpus}, in rows of {stats.length} tokens"
    parts: list[RenderableType] = [table(_COLUMNS, rows, title=title)]
    if stats.remark is not None:
        parts.append(plain(stats.remark))
    return Group(*parts)


def exported_view(shared: "SharedCovariances") -> RenderableType:
    """Return one line that says what was written where."""
    return plain(f"{shared.file}: {_about(shared)}")


def imported_view(shared: "SharedCovariances") -> RenderableType:
    """Return one line that says what was taken in."""
    new = f"{len(shared.new)} new" if shared.new else "all on record already"
    return plain(f"{shared.file}: {_about(shared)}; {new}")


def _about(shared: "SharedCovariances") -> str:
    layers = ", ".join(map(str, shared.layers))
    return f"covariances of {shared.model}, layers {layers}, over {shared.tokens} tokens of {shared.corpus}"
