"""How a pull's time beside a bare loop's is shown."""

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType

from kbsync.report.tables import plain, table

if TYPE_CHECKING:
    from kbsync.benchmarks.pull import PullBench

__all__ = ["pull_view"]


def pull_view(bench: "PullBench") -> RenderableType:
    """Return the seconds of both ways and their ratio."""
    rows = [("kbsync pull", f"{bench.kbsync:.1f}"), ("bare SPARQLWrapper loop", f"{bench.bare:.1f}")]
    title = f"{bench.facts:,} facts in {bench.pages:,} pages, {bench.megabytes:.0f} MB"
    return Group(table(("", "seconds"), rows, title=title), plain(f"ratio {bench.ratio:.2f}"))
