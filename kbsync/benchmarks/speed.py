"""``kbsync bench speed``: the same requests edited the plain way and by kbsync, in one process, phase by phase in turn.

Phases: targets (Eqn. 16), covariance (Eqn. 15) and insertion (keys and solve, Eqn. 14, 17-20). Both sides get the
same model, groups, contexts, settings, text and threads; a few requests go through both before the clock starts.
"""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import linear_regression
from typing import Any

import torch

from kbsync.benchmarks.bench import Pool, edit_pool
from kbsync.benchmarks.measured import Phases
from kbsync.benchmarks.plain import plain_covariances, plain_spread, plain_target
from kbsync.errors import SettingsError
from kbsync.memit import (
    MemitSettings,
    RequestGroup,
    WeightDelta,
    collect_covariances,
    edited,
    group_requests,
    matrices,
    optimise_targets,
    sample_contexts,
    spread,
)
from kbsync.memit.covariance import covariance_text
from kbsync.metrics import Case, evaluate, summary
from kbsync.models import LoadedModel
from kbsync.report.console import Parts, table
from kbsync.resources import fixtures_folder
from kbsync.sync.corpus import documents
from kbsync.sync.home import Progress, silent
from kbsync.sync.model import choose_model

PHASES = ("targets", "covariance", "insertion")
SCALE = (10, 30, 100, 300, 1000)  # edits of `bench_scale`
MACHINE = "{device}, {dtype}, {threads} threads of {processors} processors"
WARM_UP = 2  # edits that go through both sides before the clock starts

Deltas = Mapping[int, torch.Tensor] | Mapping[int, WeightDelta]


@dataclass(frozen=True, slots=True)
class Work:
    model: str
    loaded: LoadedModel
    settings: MemitSettings
    lines: Sequence[str]
    contexts: Sequence[str]
    pool: Pool
    edits: Sequence[Case]
    groups: Sequence[RequestGroup]

    def first(self, count: int) -> "Work":
        edits = self.edits[:count]
        return replace(self, edits=edits, groups=group_requests(self.loaded, [edit.request for edit in edits]))

    @property
    def given(self) -> tuple[LoadedModel, Sequence[RequestGroup], Sequence[str]]:
        """What the search and the insertion begin with on either side."""
        return self.loaded, self.groups, self.contexts


@dataclass(slots=True)
class Found:
    """What one side has found so far, and what it took."""

    clock: Phases
    z: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    covariances: dict[int, torch.Tensor] = field(default_factory=dict)
    tokens: int = 0
    deltas: Deltas = field(default_factory=dict)


Side = Callable[[str, Work, Found, Progress], None]
"""does one of `PHASES`, and leaves what it found"""


def plain_side(phase: str, work: Work, found: Found, progress: Progress) -> None:
    told = partial(progress, f"plain {phase}")
    if phase == "targets":
        z: list[torch.Tensor] = []
        for group in work.groups:
            z.append(plain_target(work.loaded, group, work.contexts, work.settings)[0].cpu())
            told(len(z), len(work.groups))
        found.z = torch.stack(z)
    elif phase == "covariance":
        text = covariance_text(work.loaded, work.lines, work.settings)
        rows = [row for start in range(text.row_count) for row in text.batch(start, 1).tolist()]
        found.covariances = plain_covariances(work.loaded, rows, work.settings.layers, told)
    else:
        found.deltas = plain_spread(*work.given, found.z, found.covariances, work.settings, told)


def kbsync_side(phase: str, work: Work, found: Found, progress: Progress) -> None:
    """Do a phase as `apply` does."""
    if phase == "targets":
        targets = optimise_targets(*work.given, work.settings, progress=progress)
        found.z = torch.stack([target.z for target in targets])
    elif phase == "covariance":
        found.covariances, found.tokens = collect_covariances(work.loaded, work.lines, work.settings, progress)
    else:
        found.deltas = spread(*work.given, found.z, found.covariances, work.settings, progress)


SIDES: dict[str, Side] = {"plain": plain_side, "kbsync": kbsync_side}


def bench_speed(
    model: str, edits: int = 300, *, threads: int | None = None, progress: Progress = silent, **drawn: Any
) -> dict[str, Any]:
    """Time the plain way and kbsync on `edits` counterfactual requests; return what `compare` says of them.

    `drawn` says what the edits are drawn from, as in `prepare`.
    """
    with using_threads(threads):
        work = prepare(model, edits, progress, **drawn)
        warm_up(work)
        found = {name: Found(Phases(str(work.loaded.device))) for name in SIDES}
        for phase in PHASES:  # in turn, so that what else the machine does meets both alike
            for name, side in SIDES.items():
                with found[name].clock.phase(phase):
                    side(phase, work, found[name], progress)
        return compare(work, found, progress)


def bench_scale(
    model: str, edits: int = SCALE[-1], *, threads: int | None = None, progress: Progress = silent, **drawn: Any
) -> dict[str, Any]:
    """Time kbsync's targets and insertion for each number of SCALE up to `edits`.

    Return seconds by phase, and the power of the number of edits that they grow with.
    """
    sizes = [size for size in SCALE if size <= edits]
    if len(sizes) < 2:
        raise SettingsError(f"--scale with --edits {edits}: ask for {SCALE[1]} at least, or there is no growth to see")
    timed = ("targets", "insertion")

    def told(count: int, phase: str, done: int, total: int) -> None:
        progress(f"{phase} of {count} edits", done, total)

    with using_threads(threads):
        work = prepare(model, edits, progress, **drawn)
        warm_up(work)
        found, rows = Found(Phases(str(work.loaded.device))), []
        kbsync_side("covariance", work, found, progress)
        for count in sizes:
            for phase in timed:
                with found.clock.phase(phase):
                    kbsync_side(phase, work.first(count), found, partial(told, count))
            rows.append({"edits": count, **found.clock.seconds, "total": sum(found.clock.seconds.values())})
        exponent = {phase: round(slope(sizes, [row[phase] for row in rows]), 3) for phase in (*timed, "total")}
        return {"model": work.model, "machine": machine(work.loaded), "scale": rows, "exponent": exponent}


def prepare(
    model: str,
    edits: int,
    progress: Progress,
    *,
    dataset: Path | None = None,
    corpus: Path | None = None,
    seed: int = 0,
    values: Mapping[str, Any] | None = None,
) -> Work:
    """Load the model, and draw the edits from the data set, or from the fixtures' facts that it knows.

    Without a corpus it is the model's own, or the practice model's. `values` are settings of the model; edits are on
    their prompts alone, as the plain side knows neither further wordings nor the end of an answer.
    """
    progress("loading the model", 0, 1)
    choice = choose_model(model, values, corpus=corpus)
    progress("loading the model", 1, 1)
    pool = edit_pool(choice.loaded, dataset, progress)
    chosen = pool.require(edits, seed, f"--edits {edits}")
    text = list(documents(choice.corpus or fixtures_folder() / "practice-model" / "corpus.txt"))
    contexts = sample_contexts(choice.loaded, choice.settings)
    settings = replace(choice.settings, wordings=0, stop_weight=0.0)
    return Work(choice.name, choice.loaded, settings, text, contexts, pool, chosen, []).first(edits)


def warm_up(work: Work) -> None:
    """Send a few requests through both sides, so that neither pays for what is made at first use."""
    few = replace(work.first(WARM_UP), settings=replace(work.settings, steps=2))
    widths = {layer: work.loaded.family.weight(work.loaded.model, layer).shape[1] for layer in work.settings.layers}
    for side in SIDES.values():
        found = Found(Phases(str(work.loaded.device)))
        found.covariances = {layer: torch.eye(m, dtype=torch.float64) for layer, m in widths.items()}
        for phase in ("targets", "insertion"):
            side(phase, few, found, silent)


def compare(work: Work, found: Mapping[str, Found], progress: Progress) -> dict[str, Any]:
    """Compare seconds, memory, and what was found, by side (``plain`` and ``kbsync``) and phase."""
    plain, kbsync = found["plain"], found["kbsync"]
    seconds = {name: one.clock.seconds for name, one in found.items()}
    same_inputs = spread(*work.given, plain.z, plain.covariances, work.settings)
    # A covariance is taken once for a model.
    editing = {name: of["targets"] + of["insertion"] for name, of in seconds.items()}
    return {
        "model": work.model,
        "edits": len(work.edits),
        "machine": machine(work.loaded),
        "covariance_tokens": kbsync.tokens,
        **seconds,
        "ratio": {phase: round(seconds["plain"][phase] / seconds["kbsync"][phase], 2) for phase in PHASES},
        "requests_per_second": {name: round(len(work.edits) / taken, 3) for name, taken in editing.items()},
        # of the process while a side ran, the model included
        "peak_memory_mb": {name: max(one.clock.peak_mb.values()) for name, one in found.items()},
        "agreement": {
            "z": distance({0: plain.z}, {0: kbsync.z}),
            "covariance": distance(plain.covariances, kbsync.covariances),
            "delta": distance(plain.deltas, same_inputs),  # from the plain z and covariances on both sides
        },
        # of each side's own deltas, from its own z and covariances
        "S": {name: score(work, one.deltas, progress) for name, one in found.items()},
    }


def score(work: Work, deltas: Deltas, progress: Progress) -> float | None:
    """Return S of the model with a side's deltas, in percent; None where no fact is left as a neighbour."""
    with edited(work.loaded, deltas):
        cases = work.pool.cases(work.edits)
        found = summary(evaluate(work.loaded, cases, ("ES", "PS", "NS"), progress=progress)).get("S")
    return None if found is None else round(found, 2)


def distance(expected: Deltas, found: Deltas) -> float:
    """Return the largest norm of a difference, by the norm of what was expected; in float64 on the CPU."""
    one, other = (
        {layer: value.double().cpu() for layer, value in matrices(side).items()} for side in (expected, found)
    )
    return max(float((value - other[layer]).norm() / value.norm()) for layer, value in one.items())


def slope(counts: Sequence[float], seconds: Sequence[float]) -> float:
    """Return the slope of the least-squares line through (log count, log seconds)."""
    return linear_regression([*map(math.log, counts)], [*map(math.log, seconds)]).slope


def machine(loaded: LoadedModel) -> dict[str, Any]:
    dtype = str(loaded.model.dtype).removeprefix("torch.")
    threads = {"threads": torch.get_num_threads(), "processors": os.cpu_count() or 1}
    return {"device": str(loaded.device), "dtype": dtype, **threads}


@contextmanager
def using_threads(threads: int | None) -> Iterator[None]:
    """Let torch use this many threads inside; as many as it does anyway where None."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def speed_view(bench: dict[str, Any]) -> Parts:
    """Yield seconds by phase of both sides with their ratio, and how far what they found agrees."""
    rows = [
        (f"{phase}, seconds", bench["plain"][phase], bench["kbsync"][phase], ratio)
        for phase, ratio in bench["ratio"].items()
    ]
    for name, key in (("requests a second", "requests_per_second"), ("peak memory, MB", "peak_memory_mb"), ("S", "S")):
        rows.append((name, bench[key]["plain"], bench[key]["kbsync"], None))
    yield table(("", "plain", "kbsync", "ratio"), rows, title=f"{bench['edits']} edits of {bench['model']}")
    yield "relative difference: " + ", ".join(f"{name} {value:.1e}" for name, value in bench["agreement"].items())
    yield f"covariance over {bench['covariance_tokens']} tokens; {MACHINE.format(**bench['machine'])}"


def scale_view(bench: dict[str, Any]) -> Parts:
    columns = ("edits", "targets", "insertion", "total")
    yield table(
        columns, [[row[name] for name in columns] for row in bench["scale"]], title=f"seconds, {bench['model']}"
    )
    yield "growth: " + ", ".join(f"{phase} edits^{value:.2f}" for phase, value in bench["exponent"].items())
    yield MACHINE.format(**bench["machine"])
