"""A batch: targets, solve, check, record. The new state is made from the base for ALL active facts.

Nothing is current before the last step: the batch's files are written and the figures taken, then one transaction
of the ledger makes the new state current. Killed anywhere, the old state stays; targets that were found are kept.
"""

import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

import torch

from kbsync.editors import Editor
from kbsync.errors import LedgerError
from kbsync.facts import EditRequest
from kbsync.ledger import BatchRow, ConflictNote, EditRow, Ledger, Metric, ModelRow, NewEdit, write_tensors
from kbsync.ledger.edits import fail_batch, finish_batch, not_recalled, start_batch
from kbsync.memit import MemitSettings, WeightDelta, edited, group_requests
from kbsync.memit.settings import settings_on_record
from kbsync.models import LoadedModel
from kbsync.sync.answers import BaseScores, other_answers
from kbsync.sync.covariances import Covariances, covariances_for, with_text
from kbsync.sync.deltas import (
    MEMIT,
    NO_TARGETS,
    Targets,
    cached_targets,
    deltas_of,
    editor_record,
    same_editor,
    stronger,
    target_keys,
)
from kbsync.sync.guards import WEIGHT_CHANGE, Again, Cost, Guard, expected_seconds
from kbsync.sync.home import Progress
from kbsync.sync.known import requests_of
from kbsync.sync.measure import Failure, Measured, cases_for, measure_edits, recall_of, sampled_prompts
from kbsync.sync.model import ModelChoice, delta_tensors, model_contexts
from kbsync.sync.plan import Plan, PlanRow, Sign
from kbsync.sync.preflight import needs_covariance
from kbsync.sync.team import together
from kbsync.sync.wordings import held_beside, words_record
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


Deltas = Mapping[int, WeightDelta | torch.Tensor]


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


@dataclass(frozen=True, slots=True)
class Work:
    """What a batch will do: rows to write, edits that end, edits that stay."""

    added: tuple[PlanRow, ...]
    superseded: tuple[EditRow, ...]
    retracted: tuple[EditRow, ...]
    kept: tuple[EditRow, ...]
    conflicts: tuple[ConflictNote, ...]
    needed: bool

    @classmethod
    def of(
        cls,
        plan: Plan,
        ledger: Ledger,
        model: ModelRow,
        choice: ModelChoice,
        editor: Editor | None = None,
        *,
        retry: bool = False,
    ) -> "Work":
        """Read a plan's signs; a state of other settings or another editor, or whose file is gone, is made again.

        With `retry`, edits that are not recalled are written again.
        """
        again: tuple[Sign, ...] = ("x",) if retry else ()
        added = tuple(plan.having("+", "~", *again))
        superseded = tuple(row.edit for row in plan.having("~", *again) if row.edit is not None)
        retracted = tuple(row.edit for row in plan.having("-") if row.edit is not None)
        ended = {edit.id for edit in (*superseded, *retracted)}
        kept = tuple(edit for edit in ledger.active_edits(model.key) if edit.id not in ended)
        current = ledger.current_batch(model.key)
        other_settings = current is not None and bool(kept) and not same_settings(current, choice, editor)
        lost = current is not None and any(not (ledger.tensors / name).exists() for name in current.files)
        conflicts = tuple(
            ConflictNote(c.relation, c.statements[0].fact.subject.key, c.subject, c.objects, c.resolution)
            for c in plan.conflicts
        )
        return cls(added, superseded, retracted, kept, conflicts, bool(added or ended or other_settings or lost))


def same_settings(batch: BatchRow, choice: ModelChoice, editor: Editor | None) -> bool:
    """Tell whether a batch was made with the settings that hold now."""
    # Earlier versions could let a state depend on facts that it does not write.
    if batch.settings.get("hold") or batch.settings.get("restore_weight"):
        return False
    # A setting that an older version did not know was at its default.
    made_with = MemitSettings().with_values(settings_on_record(batch.settings))
    return made_with == choice.settings and same_editor(batch, editor)


class Batch:
    """One batch of edits; `run` makes it. `cost` says what it will do, `figures` are those taken of its result."""

    def __init__(
        self,
        ledger: Ledger,
        templates: Templates,
        choice: ModelChoice,
        model: ModelRow,
        work: Work,
        guard: Guard,
        clock: Clock,
        progress: Progress,
        remark: Callable[[str], None],
        *,
        editor: Editor | None = None,
        chat: bool,
    ) -> None:
        self.ledger, self.templates, self.choice, self.model = ledger, templates, choice, model
        self.work, self.guard, self.clock, self.progress, self.remark = work, guard, clock, progress, remark
        self.figures: list[Metric] = []
        self.covariance_files: dict[str, str] = {}
        self.loaded, self.settings, self.editor, self.chat = choice.loaded, choice.settings, editor, chat
        self.kept = requests_of(ledger, templates, work.kept)
        self.added = [row.request for row in work.added if row.request]
        self.retries = {edit.request: edit.retries for edit in work.kept}
        self.retries |= {row.request.id: retries_now(row) for row in work.added if row.request}
        active = [*self.kept, *self.added]
        # Only MEMIT writes a fact on several wordings and leaves keys alone.
        wordings = self.settings.wordings if editor is None else 0
        self.groups = group_requests(self.loaded, active, wordings) if active else []
        self.contexts = model_contexts(model, choice)
        self.held: list[EditRequest] = []
        if editor is None and active:
            about = {(request.relation, request.subject) for request in active}
            self.held = held_beside(ledger, templates, self.loaded, self.settings, about)
        self.words = words_record(self.groups, self.settings, self.held) if editor is None else {}
        current = ledger.current_batch(model.key)
        recorded = {} if current is None else current.work
        other_words = any(recorded.get(part) != self.words.get(part) for part in ("wordings", "held"))
        self.needed = work.needed or (current is not None and bool(active) and other_words)
        self.planned_on = current.id if current else None
        self.cost = self.expected()

    def expected(self) -> Cost:
        """Return what the batch will do, and how long that may take."""
        keys: list[str] = []
        if self.editor is None:
            keys = target_keys(self.model, self.settings, self.contexts, self.groups, self.retries)
        on_record = self.ledger.find_targets(keys)
        times = Counter(retries_now(row) for row in self.work.added if row.sign == "x")
        settings = {retries: stronger(self.settings, retries) for retries in times}
        cost = Cost(
            edits=len(self.kept) + len(self.added),
            optimise=sum(key not in on_record for key in keys),
            from_cache=sum(key in on_record for key in keys),
            measure=len(self.added or self.kept),
            again=tuple(
                Again(times[retries], one.steps, one.clamp_norm_factor) for retries, one in sorted(settings.items())
            ),
        )
        earlier = [batch for batch in self.ledger.batches(self.model.key) if batch.algorithm == self.algorithm]
        return replace(cost, seconds=expected_seconds(earlier, str(self.loaded.device), cost))

    @property
    def algorithm(self) -> str:
        """The name that is on record."""
        return MEMIT if self.editor is None else self.editor.name

    def run(self) -> Applied:
        """Make the batch; on any error it is recorded as failed and the state before stays current."""
        work = self.cost.record() | self.guard.record() | editor_record(self.editor) | self.words
        device = str(self.loaded.device)
        batch = start_batch(self.ledger, self.model.key, self.algorithm, self.settings.as_dict(), device, work)
        try:
            return self.make(batch)
        except BaseException as error:
            reason = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or type(error).__name__
            # What cannot be recorded either (the disk is full) is told by the first error; the next writer records it.
            with suppress(LedgerError):
                fail_batch(self.ledger, batch, reason, self.clock.total(), self.figures)
            raise

    def make(self, batch: int) -> Applied:
        """Find targets, solve, check, write the files, and make them current."""
        if self.groups and needs_covariance(self.editor):
            with self.clock.phase("covariance"):
                self.choice = with_text(self.ledger.home, self.choice, self.progress)
        deltas, targets = self.write() if self.editor is None else self.write_with(self.editor)
        with self.clock.phase("measure"):
            measured = self.measure(deltas)
        self.figures = measured.metrics
        forced = self.guard.judge(measured.table, len(self.added or self.kept))
        files = {}
        if deltas:
            name, sha256 = write_tensors(self.ledger.tensors, delta_tensors(deltas), {"model": self.model.key})
            files[name] = sha256
        seconds, peak = self.clock.total(), peak_memory_mb(self.loaded.devices)
        finish_batch(
            self.ledger,
            batch,
            added=[new_edit(row, targets.keys, retries_now(row)) for row in self.work.added],
            superseded=[edit.id for edit in self.work.superseded],
            retracted=[edit.id for edit in self.work.retracted],
            metrics=measured.metrics,
            files=files,
            seconds=seconds,
            peak_memory_mb=peak,
            conflicts=self.work.conflicts,
            reason=forced,
            planned_on=self.planned_on,
            covariances=self.covariance_files,
        )
        return Applied(
            batch,
            self.cost.edits,
            targets.optimised,
            targets.from_cache,
            measured.table,
            seconds,
            peak,
            measured.failed,
            self.cost,
        )

    def write(self) -> tuple[Deltas, Targets]:
        """Return MEMIT's deltas for all groups, and their targets."""
        with self.clock.phase("targets"):
            targets = cached_targets(
                self.ledger, self.model, self.choice, self.groups, self.contexts, self.progress, self.retries
            )
        return self.solve(targets.z), targets

    def write_with(self, editor: Editor) -> tuple[Deltas, Targets]:
        """Return another editor's deltas for all groups; nothing of its search is kept."""
        if not self.groups:
            return {}, NO_TARGETS
        with self.clock.phase(editor.name):
            found = deltas_of(
                editor, self.ledger, self.choice, self.groups, self.contexts, self.progress, self.covariances
            )
        return found, NO_TARGETS

    def solve(self, z: torch.Tensor) -> dict[int, WeightDelta]:
        """Return the deltas that hold all groups at their z [u, d]; none where there are none."""
        if not self.groups:
            return {}
        with self.clock.phase("covariance"):
            covariances = self.covariances(self.choice)
        deltas: dict[int, WeightDelta] = together(
            self.choice,
            "spread",
            self.groups,
            self.contexts,
            z,
            self.settings,
            self.held,
            covariances=covariances,
            progress=self.progress,
            phase=self.clock.phase,
            remark=self.remark,
        )
        return deltas

    def covariances(self, choice: ModelChoice) -> Covariances:
        """Return C of a choice's layers, and note the files for the record."""
        found = covariances_for(self.ledger.tensors, choice, self.progress)
        self.covariance_files |= found.contents()
        return found

    def measure(self, deltas: Deltas) -> Measured:
        """Measure base and edited model."""
        active, shown = [*self.kept, *self.added], self.added or self.kept
        changed = [row for row in self.work.added if row.sign == "~"]
        previous = {row.request.id: row.previous for row in changed if row.request and row.previous}
        old = other_answers(self.ledger, self.choice, self.model, shown, self.progress) | previous
        edited_keys = {(request.relation, request.subject) for request in active}
        cases = cases_for(shown, old, self.ledger.facts(withdrawn=False), edited_keys, self.templates)
        wordings = [one for group in self.groups for one in group.wordings]
        measured = measure_edits(
            self.choice,
            lambda: edited(self.loaded, deltas),
            cases,
            active,
            self.progress,
            BaseScores(self.ledger, self.model),
            sampled=sampled_prompts(self.ledger, self.templates, self.loaded, active, wordings, self.held),
            chat=self.chat,
        )
        if self.added:
            measured.metrics.extend(self.recall_of_kept(measured.recalled))
        if deltas and self.loaded.model.dtype in (torch.float16, torch.bfloat16):
            with edited(self.loaded, deltas, masters=True):
                measured.add("recall_masters", recall_of(self.loaded, active))
        for layer, change in weight_changes(self.loaded, deltas).items():
            measured.add(f"{WEIGHT_CHANGE}{layer}", change)
        if jitter := max((one.jitter for one in deltas.values() if isinstance(one, WeightDelta)), default=0.0):
            measured.add("jitter", jitter)
        return measured

    def recall_of_kept(self, recalled: Mapping[str, bool]) -> list[Metric]:
        """Return the recall of those kept edits of which the ledger has another one on record."""
        lost = not_recalled(self.ledger, self.model.key)
        turned = [edit.request for edit in self.work.kept if recalled[edit.request] == (edit.id in lost)]
        return [Metric("recall", None, 100.0 * recalled[request], request) for request in turned]


def weight_changes(loaded: LoadedModel, deltas: Deltas) -> dict[int, float]:
    """Return 100 |delta| / |W| of each layer, in Frobenius norms."""
    matrices = {layer: d.matrix() if isinstance(d, WeightDelta) else d for layer, d in sorted(deltas.items())}
    return {layer: 100 * float(d.norm()) / float(loaded.weight(layer).float().norm()) for layer, d in matrices.items()}


def retries_now(row: PlanRow) -> int:
    """Return how often an edit has been tried again once a plan's row is written."""
    return row.edit.retries + 1 if row.sign == "x" and row.edit is not None else 0


def new_edit(row: PlanRow, keys: Mapping[str, str], retries: int = 0) -> NewEdit:
    """Return the ledger's record of a plan row that is written."""
    assert row.fact is not None
    assert row.request is not None
    return NewEdit(
        fact=row.fact.id,
        relation=row.relation,
        subject_key=row.fact.subject_key,
        subject=row.subject,
        object_key=row.fact.object_key,
        object=row.fact.object_label,
        prompt=row.request.prompt,
        request=row.request.id,
        target=keys.get(row.request.id),
        retries=retries,
    )
