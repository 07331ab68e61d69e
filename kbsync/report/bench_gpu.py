"""How `bench gpu` is shown."""

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType

from kbsync.report.tables import plain, table

if TYPE_CHECKING:
    from kbsync.benchmarks.gpu import GpuBench

__all__ = ["gpu_view"]


def gpu_view(bench: "GpuBench") -> RenderableType:
    """Return seconds, memory and share of the peak by phase, the rates, and the projection."""
    rows = [
        (phase, seconds, bench.peak_memory_mb[phase], bench.share.get(phase))
        for phase, seconds in bench.seconds.items()
    ]
    title = f"{bench.edits} edits, {bench.config} ({bench.parameters:.3g} random parameters)"
    peak = f"{bench.peak_tflops:g} TFLOP/s, {'as stated' if bench.peak_stated else 'measured'}"
    lines = [
        f"{bench.requests_per_second:g} requests a second with {bench.steps} steps each",
        f"covariance: {bench.covariance_tokens} tokens, {bench.tokens_per_second:g} a second",
        f"{bench.device}, {bench.dtype}, peak {peak}",
    ]
    if bench.memory_cap_gb is not None:
        lines.append(f"memory capped at {bench.memory_cap_gb:g} GB")
    if bench.projected_seconds is not None:
        lines.append(f"projected for 10,000 edits: {bench.projected_seconds / 60:.1f} minutes")
    return Group(table(("phase", "seconds", "peak memory, MB", "% of peak"), rows, title=title), *map(plain, lines))
