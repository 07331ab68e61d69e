"""A batch: targets, solve, check, record. The new state is made from the base for ALL active facts.

Nothing is current before the last step: the batch's files are written and the figures taken, then one transaction
of the ledger makes the new state current. Killed anywhere, the old state stays; targets that were found are kept.
"""

import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from kbsync.editors import Deltas
from kbsync.errors import LedgerError
from kbsync.ledger import Metric, write_tensors
from kbsync.ledger.edits import fail_batch, finish_batch, not_recalled, start_batch
from kbsync.memit import WeightDelta, edited
from kbsync.metrics import recalled
from kbsync.models import greedy_answers
from kbsync.sync.answers import other_answers
from kbsync.sync.covariances import with_text
from kbsync.sync.deltas import NO_TARGETS, Targets, cached_targets, make_deltas, stronger, target_keys, weight_changes
from kbsync.sync.edits import Edits, new_edit, retries_now
from kbsync.sync.guards import WEIGHT_CHANGE, Cost, Guard, expected_seconds, failures, not_finite
from kbsync.sync.measure import Measured, cases_for, measure_edits, sampled_prompts
from kbsync.sync.model import Session, delta_tensors
from kbsync.sync.tasks import Tasks


class Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.started = time.monotonic()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
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


def applied(batch: int | None, edits: int, seconds: Mapping[str, float], **told: Any) -> dict[str, Any]:
    """Return what an apply did, with the keys of the JSON; `told` is what there is to tell beside the active edits.

    `optimised` counts the groups whose target was searched. `metrics` maps a name to its figures before and after,
    percentages but for perplexity. `failed` are edits that the model does not recall, of those that the batch wrote (of
    all, where it wrote none); `planned` is the cost that was said before it started. `left`, where nothing was to be
    done, are facts by sign that the model does not hold all the same.
    """
    known = {"batch": batch, "edits": edits, "optimised": 0, "from_cache": 0, "metrics": {}, "seconds": seconds}
    return {**known, "peak_memory_mb": None, "failed": (), "planned": None, "left": {}, **told}


@dataclass
class Batch:
    """One batch of edits; `run` makes it, and `figures` are those taken of its result."""

    work: Session
    edits: Edits
    guard: Guard
    clock: Clock
    remark: Callable[[str], None]
    chat: bool
    tasks: Tasks | None = None
    figures: list[Metric] = field(default_factory=list)
    covariance_files: dict[str, str] = field(default_factory=dict)

    def cost(self) -> Cost:
        edits, work = self.edits, self.work
        keys = target_keys(work, edits.groups, edits.retries) if edits.editor.targets else []
        on_record = work.ledger.find_targets(keys)
        times = sorted(Counter(retries_now(row) for row in edits.added if row.sign == "x").items())
        again = [(count, stronger(work.settings, retries)) for retries, count in times]
        cost = Cost(
            edits=len(edits.active),
            optimise=sum(key not in on_record for key in keys),
            from_cache=sum(key in on_record for key in keys),
            measure=len(edits.measured),
            again=tuple(
                {"edits": count, "steps": one.steps, "clamp_norm_factor": one.clamp_norm_factor} for count, one in again
            ),
        )
        earlier = [batch for batch in work.ledger.batches(work.model.key) if batch.algorithm == edits.editor.name]
        return replace(cost, seconds=expected_seconds(earlier, str(work.loaded.device), cost))

    def run(self) -> dict[str, Any]:
        """Make the batch; on any error it is recorded as failed and the state before stays current."""
        cost, ledger = self.cost(), self.work.ledger
        record = cost.record() | self.guard.record() | self.edits.record()
        settings, device = self.work.settings.as_dict(), str(self.work.loaded.device)
        batch = start_batch(ledger, self.work.model.key, self.edits.editor.name, settings, device, record)
        try:
            return self.make(batch, cost)
        except BaseException as error:
            reason = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or type(error).__name__
            # What cannot be recorded either (the disk is full) is told by the first error; the next writer records it.
            with suppress(LedgerError):
                fail_batch(ledger, batch, reason, self.clock.total(), self.figures)
            raise

    def make(self, batch: int, cost: Cost) -> dict[str, Any]:
        """Find targets, solve, check, write the files, and make them current; return what `applied` does."""
        edits, ledger = self.edits, self.work.ledger
        targets, deltas = self.solve()
        failed = self.failing(deltas)
        with self.clock.phase("measure"):
            measured = self.measure(deltas)
        self.figures = measured.metrics
        forced = self.guard.judge(measured.table, len(edits.measured), failed)
        files = {}
        if deltas:
            name, sha256 = write_tensors(ledger.tensors, delta_tensors(deltas), {"model": self.work.model.key})
            files[name] = sha256
        seconds, peak = self.clock.total(), peak_memory_mb(self.work.loaded.devices)
        finish_batch(
            ledger,
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
        told: dict[str, Any] = {"optimised": targets.optimised, "from_cache": targets.from_cache, "planned": cost}
        told |= {"metrics": measured.table, "peak_memory_mb": peak, "failed": measured.failed}
        return applied(batch, cost.edits, seconds, **told)

    def failing(self, deltas: Deltas) -> list[str]:
        loaded, canaries = self.work.loaded, self.guard.canaries
        with self.clock.phase("canaries") if canaries else nullcontext(), edited(loaded, deltas):
            return failures(canaries, lambda prompts: greedy_answers(loaded, prompts))

    def trial(self, deltas: Deltas | None = None, *, canaries_alone: bool) -> list[str]:
        """Solve (or take `deltas`), and return what is broken: canaries, or else, unless they alone are asked, bounds.

        Records nothing but targets that are not in the cache.
        """
        if deltas is None:
            _, deltas = self.solve()
        failed = self.failing(deltas)
        if failed or canaries_alone:
            return failed
        table = self.measure(deltas).table
        broken = not_finite(table)
        return [broken] if broken else self.guard.breaches(table, len(self.edits.measured))

    def solve(self) -> tuple[Targets, Deltas]:
        """Return the groups' target vectors, where the editor takes them, and its deltas."""
        edits, editor, targets = self.edits, self.edits.editor, NO_TARGETS
        if edits.groups and editor.covariance:
            with self.clock.phase("covariance"):  # its text, where none is named
                choice = with_text(self.work.ledger.home, self.work.choice, self.work.progress)
                self.work = replace(self.work, choice=choice)
        if editor.targets:
            with self.clock.phase("targets"):
                targets = cached_targets(self.work, edits.groups, edits.retries)
        z, files = targets.z if editor.targets else None, self.covariance_files
        reports = {"phase": self.clock.phase, "remark": self.remark}
        with nullcontext() if editor.targets else self.clock.phase(editor.name):  # MEMIT times its phases itself
            return targets, make_deltas(self.work, editor, edits.groups, z, edits.held, files, **reports)

    def measure(self, deltas: Deltas) -> Measured:
        edits, work, loaded = self.edits, self.work, self.work.loaded
        changed = [row for row in edits.added if row.sign == "~"]
        previous = {row.request.id: row.previous for row in changed if row.request and row.previous}
        old = other_answers(work, edits.measured) | previous
        about = {(request.relation, request.subject) for request in edits.active}
        cases = cases_for(edits.measured, old, work.ledger.facts(withdrawn=False), about, work.templates)
        wordings = [one for group in edits.groups for one in group.wordings]
        sampled = sampled_prompts(work.ledger, work.templates, loaded, edits.active, wordings, edits.held)
        state = partial(edited, loaded, deltas)
        measured = measure_edits(work, state, cases, edits.active, sampled, chat=self.chat, tasks=self.tasks)
        if edits.added:  # the recall of those kept edits of which the ledger has another one on record
            lost, right = not_recalled(work.ledger, work.model.key), measured.recalled
            turned = [edit.request for edit in edits.kept if right[edit.request] == (edit.id in lost)]
            measured.metrics.extend(Metric("recall", None, 100.0 * right[request], request) for request in turned)
        if deltas and loaded.model.dtype in (torch.float16, torch.bfloat16):
            with edited(loaded, deltas, masters=True):
                measured.add("recall_masters", 100 * sum(recalled(loaded, edits.active)) / len(edits.active))
        for layer, change in weight_changes(loaded, deltas).items():
            measured.add(f"{WEIGHT_CHANGE}{layer}", change)
        if jitter := max((one.jitter for one in deltas.values() if isinstance(one, WeightDelta)), default=0.0):
            measured.add("jitter", jitter)
        return measured
