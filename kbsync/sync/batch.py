"""A batch: targets, solve, check, record. The new state is made from the base for ALL active facts.

Nothing is current before the last step: the batch's files are written and the figures taken, then one transaction
of the ledger makes the new state current. Killed anywhere, the old state stays; targets that were found are kept.
"""

import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace

import torch

from kbsync.editors import Deltas
from kbsync.errors import LedgerError
from kbsync.ledger import Ledger, Metric, ModelRow, write_tensors
from kbsync.ledger.edits import fail_batch, finish_batch, not_recalled, start_batch
from kbsync.memit import WeightDelta, edited
from kbsync.models import LoadedModel, greedy_answers
from kbsync.sync.answers import BaseScores, other_answers
from kbsync.sync.covariances import with_text
from kbsync.sync.deltas import NO_TARGETS, Targets, cached_targets, make_deltas, stronger, target_keys, weight_changes
from kbsync.sync.edits import Edits, new_edit, retries_now
from kbsync.sync.guards import WEIGHT_CHANGE, Again, Canary, Cost, Guard, expected_seconds, failures, not_finite
from kbsync.sync.home import Progress
from kbsync.sync.measure import Failure, Measured, cases_for, measure_edits, recall_of, sampled_prompts
from kbsync.sync.model import ModelChoice, delta_tensors
from kbsync.sync.plan import Sign
from kbsync.sync.tasks import Tasks
from kbsync.templates import Templates


class Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.started = time.monotonic()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time inside to a phase."""
        began = time.monotonic()
        try:
            yield
        finally:
            if torch.cuda.is_available():
                torch.cuda.synchronize()  # what runs on the device still belongs to this phase
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - began

    def total(self) -> dict[str, float]:
        """Return all phases and the whole so far, rounded to milliseconds."""
        return {
            name: round(value, 3) for name, value in {**self.seconds, "total": time.monotonic() - self.started}.items()
        }


def peak_memory_mb(devices: Collection[torch.device]) -> float:
    """Return the most memory that was in use: the sum of the CUDA devices', or this process's where there is none."""
    cuda = [device for device in devices if device.type == "cuda"]
    if cuda:
        return round(sum(torch.cuda.max_memory_allocated(device) for device in cuda) / 2**20, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def ask_canaries(loaded: LoadedModel, deltas: Deltas, canaries: Sequence[Canary]) -> list[str]:
    """Return a clause for each canary that the model with `deltas` fails."""
    with edited(loaded, deltas):
        return failures(canaries, lambda prompts: greedy_answers(loaded, prompts))


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply did. `metrics` maps a name to its figures before and after, percentages but for perplexity."""

    batch: int | None
    edits: int
    """active edits after it"""
    optimised: int
    """groups whose target was searched"""
    from_cache: int
    metrics: dict[str, dict[str, float | None]]
    seconds: dict[str, float]
    peak_memory_mb: float | None
    failed: tuple[Failure, ...]
    """edits that the model does not recall, of those that the batch wrote (of all, where it wrote none)"""
    planned: Cost | None = None
    """what was said before it started"""
    left: Mapping[Sign, int] = field(default_factory=dict)
    """where nothing was to be done: facts by sign that the model does not hold all the same"""


@dataclass
class Batch:
    """One batch of edits; `run` makes it, and `figures` are those taken of its result."""

    ledger: Ledger
    templates: Templates
    choice: ModelChoice
    model: ModelRow
    edits: Edits
    guard: Guard
    clock: Clock
    progress: Progress
    remark: Callable[[str], None]
    chat: bool
    tasks: Tasks | None = None
    figures: list[Metric] = field(default_factory=list)
    covariance_files: dict[str, str] = field(default_factory=dict)

    def cost(self) -> Cost:
        """Return what the batch will do, and how long that may take."""
        edits, settings = self.edits, self.choice.settings
        keys: list[str] = []
        if edits.editor.targets:
            keys = target_keys(self.model, settings, edits.contexts, edits.groups, edits.retries)
        on_record = self.ledger.find_targets(keys)
        times = sorted(Counter(retries_now(row) for row in edits.added if row.sign == "x").items())
        cost = Cost(
            edits=len(edits.active),
            optimise=sum(key not in on_record for key in keys),
            from_cache=sum(key in on_record for key in keys),
            measure=len(edits.measured),
            again=tuple(
                Again(count, one.steps, one.clamp_norm_factor)
                for retries, count in times
                for one in [stronger(settings, retries)]
            ),
        )
        earlier = [batch for batch in self.ledger.batches(self.model.key) if batch.algorithm == edits.editor.name]
        return replace(cost, seconds=expected_seconds(earlier, str(self.choice.loaded.device), cost))

    def run(self) -> Applied:
        """Make the batch; on any error it is recorded as failed and the state before stays current."""
        cost = self.cost()
        work = cost.record() | self.guard.record() | self.edits.record()
        settings, device = self.choice.settings.as_dict(), str(self.choice.loaded.device)
        batch = start_batch(self.ledger, self.model.key, self.edits.editor.name, settings, device, work)
        try:
            return self.make(batch, cost)
        except BaseException as error:
            reason = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or type(error).__name__
            # What cannot be recorded either (the disk is full) is told by the first error; the next writer records it.
            with suppress(LedgerError):
                fail_batch(self.ledger, batch, reason, self.clock.total(), self.figures)
            raise

    def make(self, batch: int, cost: Cost) -> Applied:
        """Find targets, solve, check, write the files, and make them current."""
        edits = self.edits
        self.settle_text()
        targets = self.targets()
        deltas = self.deltas(targets)
        failed = self.failing(deltas)
        with self.clock.phase("measure"):
            measured = self.measure(deltas)
        self.figures = measured.metrics
        forced = self.guard.judge(measured.table, len(edits.measured), failed)
        files = {}
        if deltas:
            name, sha256 = write_tensors(self.ledger.tensors, delta_tensors(deltas), {"model": self.model.key})
            files[name] = sha256
        seconds, peak = self.clock.total(), peak_memory_mb(self.choice.loaded.devices)
        finish_batch(
            self.ledger,
            batch,
            added=[new_edit(row, targets.keys) for row in edits.added],
            superseded=[edit.id for edit in edits.superseded],
            retracted=[edit.id for edit in edits.retracted],
            metrics=measured.metrics,
            files=files,
            seconds=seconds,
            peak_memory_mb=peak,
            conflicts=edits.conflicts,
            reason=forced,
            planned_on=edits.planned_on,
            covariances=self.covariance_files,
        )
        return Applied(
            batch,
            cost.edits,
            targets.optimised,
            targets.from_cache,
            measured.table,
            seconds,
            peak,
            measured.failed,
            cost,
        )

    def settle_text(self) -> None:
        """Choose the text of the covariance, where one is needed."""
        if self.edits.groups and self.edits.editor.covariance:
            with self.clock.phase("covariance"):
                self.choice = with_text(self.ledger.home, self.choice, self.progress)

    def failing(self, deltas: Deltas) -> list[str]:
        """Return a clause for each canary that the edited model fails."""
        with self.clock.phase("canaries") if self.guard.canaries else nullcontext():
            return ask_canaries(self.choice.loaded, deltas, self.guard.canaries)

    def trial(self, deltas: Deltas | None = None, *, canaries_alone: bool) -> list[str]:
        """Solve (or take `deltas`), and return what is broken: canaries, or else, unless they alone are asked, bounds.

        Records nothing but targets that are not in the cache.
        """
        if deltas is None:
            self.settle_text()
            deltas = self.deltas(self.targets())
        failed = self.failing(deltas)
        if failed or canaries_alone:
            return failed
        table = self.measure(deltas).table
        broken = not_finite(table)
        return [broken] if broken else self.guard.breaches(table, len(self.edits.measured))

    def targets(self) -> Targets:
        """Return the groups' target vectors, where the editor takes them."""
        edits = self.edits
        if not edits.editor.targets:
            return NO_TARGETS
        with self.clock.phase("targets"):
            return cached_targets(
                self.ledger, self.model, self.choice, edits.groups, edits.contexts, self.progress, edits.retries
            )

    def deltas(self, targets: Targets) -> Deltas:
        """Return the editor's deltas; MEMIT times its phases itself."""
        edits = self.edits
        with nullcontext() if edits.editor.targets else self.clock.phase(edits.editor.name):
            return make_deltas(
                edits.editor,
                self.ledger,
                self.choice,
                edits.groups,
                edits.contexts,
                targets.z if edits.editor.targets else None,
                edits.held,
                self.covariance_files,
                self.progress,
                phase=self.clock.phase,
                remark=self.remark,
            )

    def measure(self, deltas: Deltas) -> Measured:
        """Measure base and edited model."""
        edits, loaded = self.edits, self.choice.loaded
        changed = [row for row in edits.added if row.sign == "~"]
        previous = {row.request.id: row.previous for row in changed if row.request and row.previous}
        old = other_answers(self.ledger, self.choice, self.model, edits.measured, self.progress) | previous
        about = {(request.relation, request.subject) for request in edits.active}
        cases = cases_for(edits.measured, old, self.ledger.facts(withdrawn=False), about, self.templates)
        wordings = [one for group in edits.groups for one in group.wordings]
        measured = measure_edits(
            self.choice,
            lambda: edited(loaded, deltas),
            cases,
            edits.active,
            self.progress,
            BaseScores(self.ledger, self.model),
            sampled=sampled_prompts(self.ledger, self.templates, loaded, edits.active, wordings, edits.held),
            chat=self.chat,
            tasks=self.tasks,
        )
        if edits.added:
            measured.metrics.extend(self.recall_of_kept(measured.recalled))
        if deltas and loaded.model.dtype in (torch.float16, torch.bfloat16):
            with edited(loaded, deltas, masters=True):
                measured.add("recall_masters", recall_of(loaded, edits.active))
        for layer, change in weight_changes(loaded, deltas).items():
            measured.add(f"{WEIGHT_CHANGE}{layer}", change)
        if jitter := max((one.jitter for one in deltas.values() if isinstance(one, WeightDelta)), default=0.0):
            measured.add("jitter", jitter)
        return measured

    def recall_of_kept(self, recalled: Mapping[str, bool]) -> list[Metric]:
        """Return the recall of those kept edits of which the ledger has another one on record."""
        lost = not_recalled(self.ledger, self.model.key)
        turned = [edit.request for edit in self.edits.kept if recalled[edit.request] == (edit.id in lost)]
        return [Metric("recall", None, 100.0 * recalled[request], request) for request in turned]
