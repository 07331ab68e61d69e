"""How `bench speed` is shown."""

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType

from kbsync.report.tables import plain, table

if TYPE_CHECKING:
    from kbsync.benchmarks.speed import SpeedBench, SpeedScale

__all__ = ["scale_view", "speed_view"]


def speed_view(bench: "SpeedBench") -> RenderableType:
    """Return seconds by phase of both sides with their ratio, and how far what they found agrees."""
    rows: list[tuple[object, ...]] = [
        (f"{phase}, seconds", bench.plain[phase], bench.kbsync[phase], ratio) for phase, ratio in bench.ratio.items()
    ]
    for name, figure in (
        ("requests a second", bench.requests_per_second),
        ("peak memory, MB", bench.peak_memory_mb),
        ("S", bench.S),
    ):
        rows.append((name, figure["plain"], figure["kbsync"], None))
    far = ", ".join(f"{name} {value:.1e}" for name, value in bench.agreement.items())
    return Group(
        table(("", "plain", "kbsync", "ratio"), rows, title=f"{bench.edits} edits of {bench.model}"),
        plain(f"relative difference: {far}"),
        plain(f"covariance over {bench.covariance_tokens} tokens; {_machine(bench)}"),
    )


def scale_view(bench: "SpeedScale") -> RenderableType:
    """Return seconds by number of edits, and the exponent of their growth."""
    rows = [(int(row["edits"]), row["targets"], row["insertion"], row["total"]) for row in bench.scale]
    grown = ", ".join(f"{phase} edits^{value:.2f}" for phase, value in bench.exponent.items())
    return Group(
        table(("edits", "targets", "insertion", "total"), rows, title=f"seconds, {bench.model}"),
        plain(f"growth: {grown}"),
        plain(_machine(bench)),
    )


def _machine(bench: "SpeedBench | SpeedScale") -> str:
    return f"{bench.device}, {bench.dtype}, {bench.threads} threads of {bench.processors} processors"
