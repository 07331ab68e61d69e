"""How the reading of a dump beside Oxigraph's load is shown."""

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType

from kbsync.report.tables import plain, table

if TYPE_CHECKING:
    from kbsync.benchmarks.dump import DumpBench

__all__ = ["dump_view"]


def dump_view(bench: "DumpBench") -> RenderableType:
    """Return seconds, speed and memory of each way, and the ratios."""
    ways = {
        f"kbsync, {bench.facts:,} facts": bench.kbsync,
        "Oxigraph's load into memory": bench.oxigraph_memory,
        "Oxigraph's load onto disk": bench.oxigraph_disk,
    }
    rows = [
        (name, f"{way.seconds:.1f}", f"{way.triples_per_second:,.0f}", way.peak_mb and f"{way.peak_mb:,.0f}")
        for name, way in ways.items()
    ]
    title = f"{bench.triples:,} triples, {bench.megabytes:.0f} MB"
    ratios = f"ratio {bench.ratio['memory']:.2f} to the load into memory, {bench.ratio['disk']:.2f} to that onto disk"
    return Group(table(("", "seconds", "triples/s", "peak MB"), rows, title=title), plain(ratios))
