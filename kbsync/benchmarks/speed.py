"""`bench speed`: the same requests edited the plain way and by kbsync, in one process, phase by phase in turn.

Phases: targets (Eqn. 16), covariance (Eqn. 15) and insertion (keys and solve, Eqn. 14, 17-20). Both sides get the
same model, groups, contexts, settings, text and threads; a few requests go through both before the clock starts.
"""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import linear_regression
from typing import Any

import torch
from rich.console import Group, RenderableType

from kbsync.benchmarks.edits import Pool, edit_pool
from kbsync.benchmarks.memory import PeakMemory
from kbsync.benchmarks.plain import plain_covariances, plain_spread, plain_targets
from kbsync.errors import SettingsError
from kbsync.memit import (
    MemitSettings,
    RequestGroup,
    WeightDelta,
    collect_covariances,
    edited,
    group_requests,
    optimise_targets,
    sample_contexts,
    spread,
)
from kbsync.memit.covariance import covariance_text
from kbsync.metrics import Counterfact, measure, summary
from kbsync.models import LoadedModel
from kbsync.report.tables import plain, table
from kbsync.resources import fixtures_folder
from kbsync.sync.corpus import documents
from kbsync.sync.home import Progress, silent
from kbsync.sync.model import choose_model

__all__ = [
    "PHASES",
    "SCALE",
    "Drawn",
    "SpeedBench",
    "SpeedScale",
    "bench_scale",
    "bench_speed",
    "scale_view",
    "speed_view",
]

PHASES = ("targets", "covariance", "insertion")
SCALE = (10, 30, 100, 300, 1000)
"""edits of `bench_scale`"""
WARM_UP = 2
"""edits that go through both sides before the clock starts"""

Phases = dict[str, Callable[[], None]]
Deltas = Mapping[int, torch.Tensor] | Mapping[int, WeightDelta]


@dataclass(frozen=True, slots=True)
class SpeedBench:
    """What `bench speed` measured; `plain` and `kbsync` are seconds by phase, `ratio` the one by the other."""

    model: str
    edits: int
    device: str
    dtype: str
    threads: int
    processors: int
    covariance_tokens: int
    """tokens that each side's covariances were taken over"""
    plain: dict[str, float]
    kbsync: dict[str, float]
    ratio: dict[str, float]
    requests_per_second: dict[str, float]
    """edits by the seconds of targets and insertion, for each side; a covariance is taken once for a model"""
    peak_memory_mb: dict[str, float | None]
    """most memory of the process while a side ran, the model included"""
    agreement: dict[str, float]
    """distance of kbsync's z, covariances and deltas to the plain ones, by the norm of the plain ones (the largest
    of all layers); these deltas are from the plain z and covariances"""
    S: dict[str, float | None]
    """of each side's own deltas, from its own z and covariances, in percent; None where no fact is left as
    a neighbour"""


@dataclass(frozen=True, slots=True)
class SpeedScale:
    """Seconds of kbsync by phase for rising numbers of edits, and the power of the number that they grow with."""

    model: str
    device: str
    dtype: str
    threads: int
    processors: int
    scale: tuple[dict[str, float], ...]
    """edits, and seconds of targets, insertion and total"""
    exponent: dict[str, float]
    """slope of the least-squares line through (log edits, log seconds), by phase"""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What the edits are drawn from, and the text of the covariance."""

    dataset: Path | None = None
    """None: the fixtures' facts that the model knows"""
    corpus: Path | None = None
    """None: the model's own, or the practice model's"""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Work:
    """What both sides are given."""

    model: str
    loaded: LoadedModel
    settings: MemitSettings
    lines: Sequence[str]
    contexts: Sequence[str]
    pool: Pool
    edits: Sequence[Counterfact]
    groups: Sequence[RequestGroup]

    def first(self, count: int) -> "Work":
        """Return the same work with the first `count` edits alone."""
        edits = self.edits[:count]
        return replace(self, edits=edits, groups=group_requests(self.loaded, [edit.request for edit in edits]))


@dataclass(slots=True)
class Side:
    """What one side found, its seconds by phase, and its memory."""

    memory: PeakMemory
    seconds: dict[str, float] = field(default_factory=dict)
    z: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    covariances: dict[int, torch.Tensor] = field(default_factory=dict)
    tokens: int = 0
    deltas: Deltas = field(default_factory=dict)

    def timed(self, phase: str, work: Callable[[], None]) -> None:
        """Run `work` under the clock of a phase."""
        device = self.memory.device
        with self.memory.watching():
            began = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            self.seconds[phase] = time.perf_counter() - began


def plain_phases(work: Work, side: Side, progress: Progress) -> Phases:
    """Return the plain way's phases; each leaves what it found in `side`."""
    loaded, groups, contexts, settings = work.loaded, work.groups, work.contexts, work.settings

    def targets() -> None:
        of_subject: dict[str, list[RequestGroup]] = {}
        for group in groups:
            of_subject.setdefault(group.as_searched(settings.coupling).subject_id, []).append(group)
        found: dict[str, torch.Tensor] = {}
        for together in of_subject.values():
            for group, (z, _) in zip(together, plain_targets(loaded, together, contexts, settings), strict=True):
                found[group.id] = z.cpu()
            progress("plain targets", len(found), len(groups))
        side.z = torch.stack([found[group.id] for group in groups])

    def covariance() -> None:
        text = covariance_text(loaded, work.lines, settings)
        rows = [row for start in range(text.row_count) for row in text.batch(start, 1).tolist()]
        side.covariances = plain_covariances(loaded, rows, settings.layers, partial(progress, "plain covariance"))

    def insertion() -> None:
        told = partial(progress, "plain insertion")
        side.deltas, _ = plain_spread(loaded, groups, contexts, side.z, side.covariances, settings, told)

    return {"targets": targets, "covariance": covariance, "insertion": insertion}


def kbsync_phases(work: Work, side: Side, progress: Progress) -> Phases:
    """Return kbsync's phases; each leaves what it found in `side`."""
    loaded, groups, contexts, settings = work.loaded, work.groups, work.contexts, work.settings

    def targets() -> None:
        found = optimise_targets(loaded, groups, contexts, settings, progress=progress)
        side.z = torch.stack([target.z for target in found])

    def covariance() -> None:
        side.covariances, side.tokens = collect_covariances(loaded, work.lines, settings, progress)

    def insertion() -> None:
        side.deltas = spread(loaded, groups, contexts, side.z, side.covariances, settings, progress)

    return {"targets": targets, "covariance": covariance, "insertion": insertion}


def bench_speed(
    model: str,
    edits: int = 300,
    drawn: Drawn = Drawn(),
    *,
    threads: int | None = None,
    progress: Progress = silent,
) -> SpeedBench:
    """Time the plain way and kbsync on `edits` counterfactual requests, and compare what they found.

    Raises SettingsError where there are too few facts for that, ModelError and EditError as `apply` does.
    """
    with using_threads(threads):
        work = prepare(model, edits, drawn, progress)
        warm_up(work)
        plain, kbsync = run_both(work, progress)
        return compare(work, plain, kbsync, progress)


def bench_scale(
    model: str,
    edits: int = SCALE[-1],
    drawn: Drawn = Drawn(),
    *,
    threads: int | None = None,
    progress: Progress = silent,
) -> SpeedScale:
    """Time kbsync's targets and insertion for each number of SCALE up to `edits`.

    Raises SettingsError where those are fewer than two, and else as `bench_speed` does.
    """
    sizes = [size for size in SCALE if size <= edits]
    if len(sizes) < 2:
        raise SettingsError(f"--scale with --edits {edits}: ask for {SCALE[1]} at least, or there is no growth to see")
    with using_threads(threads):
        work = prepare(model, edits, drawn, progress)
        warm_up(work)
        side = Side(PeakMemory(work.loaded.device))
        kbsync_phases(work, side, progress)["covariance"]()
        rows = []
        for count in sizes:
            phases = kbsync_phases(work.first(count), side, renamed(progress, count))
            for phase in ("targets", "insertion"):
                side.timed(phase, phases[phase])
            rows.append({"edits": count, **side.seconds, "total": sum(side.seconds.values())})
        counts = [row["edits"] for row in rows]
        exponent = {
            phase: round(slope(counts, [row[phase] for row in rows]), 3) for phase in ("targets", "insertion", "total")
        }
        scale = tuple({name: round(value, 3) for name, value in row.items()} for row in rows)
        return SpeedScale(**about(work), scale=scale, exponent=exponent)


def prepare(model: str, edits: int, drawn: Drawn, progress: Progress) -> Work:
    """Load the model, and draw the edits from the data set, or from the fixtures' facts that it knows."""
    progress("loading the model", 0, 1)
    choice = choose_model(model, corpus=drawn.corpus)
    progress("loading the model", 1, 1)
    pool = edit_pool(choice.loaded, drawn.dataset, progress)
    chosen = pool.require(edits, drawn.seed, f"--edits {edits}")
    text = list(documents(choice.corpus or fixtures_folder() / "practice-model" / "corpus.txt"))
    contexts = sample_contexts(choice.loaded, choice.settings)
    return Work(choice.name, choice.loaded, choice.settings, text, contexts, pool, chosen, []).first(edits)


def warm_up(work: Work) -> None:
    """Send a few requests through both sides, so that neither pays for what is made at first use."""
    few = replace(work.first(WARM_UP), settings=replace(work.settings, steps=2))
    for way in (plain_phases, kbsync_phases):
        side = Side(PeakMemory(work.loaded.device))
        for layer in work.settings.layers:
            m = work.loaded.family.weight(work.loaded.model, layer).shape[1]
            side.covariances[layer] = torch.eye(m, dtype=torch.float64)
        phases = way(few, side, silent)
        phases["targets"]()
        phases["insertion"]()


def run_both(work: Work, progress: Progress) -> tuple[Side, Side]:
    """Run each phase the plain way and then kbsync's, so that what else the machine does meets both alike."""
    plain, kbsync = (Side(PeakMemory(work.loaded.device)) for _ in range(2))
    plain_ones, kbsync_ones = plain_phases(work, plain, progress), kbsync_phases(work, kbsync, progress)
    for phase in PHASES:
        plain.timed(phase, plain_ones[phase])
        kbsync.timed(phase, kbsync_ones[phase])
    return plain, kbsync


def compare(work: Work, plain: Side, kbsync: Side, progress: Progress) -> SpeedBench:
    """Compare seconds, memory, and what was found."""
    sides = {"plain": plain, "kbsync": kbsync}
    loaded, settings = work.loaded, work.settings
    same_inputs = spread(loaded, work.groups, work.contexts, plain.z, plain.covariances, settings)
    rates = {
        name: len(work.edits) / (side.seconds["targets"] + side.seconds["insertion"]) for name, side in sides.items()
    }
    return SpeedBench(
        **about(work),
        edits=len(work.edits),
        covariance_tokens=kbsync.tokens,
        plain=rounded(plain.seconds),
        kbsync=rounded(kbsync.seconds),
        ratio={phase: round(plain.seconds[phase] / kbsync.seconds[phase], 2) for phase in PHASES},
        requests_per_second=rounded(rates),
        peak_memory_mb={name: side.memory.mb for name, side in sides.items()},
        agreement={
            "z": distance({0: plain.z}, {0: kbsync.z}),
            "covariance": distance(plain.covariances, kbsync.covariances),
            "delta": distance(plain.deltas, same_inputs),
        },
        S={name: score(work, side, progress) for name, side in sides.items()},
    )


def score(work: Work, side: Side, progress: Progress) -> float | None:
    """Return S of the model with a side's deltas, in percent; None where no fact is left as a neighbour."""
    with edited(work.loaded, side.deltas):
        found = summary(measure(work.loaded, work.pool.cases(work.edits), progress)).get("S")
    return None if found is None else round(found, 2)


def distance(expected: Deltas, found: Deltas) -> float:
    """Return the largest norm of a difference, by the norm of what was expected."""
    pairs = [(whole(expected[layer]), whole(found[layer])) for layer in expected]
    return max(float((one - other).norm() / one.norm()) for one, other in pairs)


def whole(delta: torch.Tensor | WeightDelta) -> torch.Tensor:
    """Return a delta as a matrix, in float64 on the CPU."""
    return (delta.matrix() if isinstance(delta, WeightDelta) else delta).double().cpu()


def slope(counts: Sequence[float], seconds: Sequence[float]) -> float:
    """Return the slope of the least-squares line through (log count, log seconds)."""
    return linear_regression([*map(math.log, counts)], [*map(math.log, seconds)]).slope


def about(work: Work) -> dict[str, Any]:
    """Return what was measured, and on what machine."""
    return {
        "model": work.model,
        "device": str(work.loaded.device),
        "dtype": str(work.loaded.model.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "processors": os.cpu_count() or 1,
    }


def rounded(values: Mapping[str, float]) -> dict[str, float]:
    """Round to milliseconds, for the record."""
    return {name: round(value, 3) for name, value in values.items()}


def renamed(progress: Progress, edits: int) -> Progress:
    """Return a progress that names the number of edits with each phase."""
    return lambda phase, done, total: progress(f"{phase} of {edits} edits", done, total)


@contextmanager
def using_threads(threads: int | None) -> Iterator[None]:
    """Let torch use this many threads inside; as many as it does anyway where None."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def speed_view(bench: SpeedBench) -> RenderableType:
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


def scale_view(bench: SpeedScale) -> RenderableType:
    """Return seconds by number of edits, and the exponent of their growth."""
    rows = [(int(row["edits"]), row["targets"], row["insertion"], row["total"]) for row in bench.scale]
    grown = ", ".join(f"{phase} edits^{value:.2f}" for phase, value in bench.exponent.items())
    return Group(
        table(("edits", "targets", "insertion", "total"), rows, title=f"seconds, {bench.model}"),
        plain(f"growth: {grown}"),
        plain(_machine(bench)),
    )


def _machine(bench: SpeedBench | SpeedScale) -> str:
    return f"{bench.device}, {bench.dtype}, {bench.threads} threads of {bench.processors} processors"
