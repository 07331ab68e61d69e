"""How the times and sizes of a large ledger are shown."""

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType

from kbsync.report.tables import plain, table

if TYPE_CHECKING:
    from kbsync.benchmarks.ledger import LedgerBench

__all__ = ["ledger_view"]


def ledger_view(bench: "LedgerBench") -> RenderableType:
    """Return each step's seconds and memory, and what the steps worked on."""
    rows = [
        (step.name, round(step.seconds, 2), round(step.cpu_seconds, 2), round(step.peak_mb)) for step in bench.steps
    ]
    return Group(
        table(
            ("step", "seconds", "CPU seconds", "peak MB"), rows, title=f"{bench.facts:,} facts, {bench.edits:,} edits"
        ),
        plain(f"{bench.relations} relations, a file of {bench.file_mb:.0f} MB, a ledger of {bench.ledger_mb:.0f} MB"),
        plain(f"the second pull took {bench.second_pull:.2f} of the first one's time; {bench.cores} cores"),
    )
