"""A batch: targets, solve, check, record. The new state is made from the base for ALL active facts.

Nothing is current before the last step: the batch's files are written and the figures taken, then one transaction
of the ledger makes the new state current. Killed anywhere, the old state stays; targets that were found are kept.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch

from kbsync.errors import LedgerError
from kbsync.facts import EditRequest
from kbsync.ledger import BatchRow, ConflictNote, EditRow, Ledger, Metric, ModelRow, NewEdit, write_tensors
from kbsync.ledger.aliases import aliases
from kbsync.memit import RequestGroup, WeightDelta, edited, group_requests
from kbsync.models import top_answers
from kbsync.templates import Templates
from kbsync.workflows.base_answers import base_answers
from kbsync.workflows.choice import ModelChoice
from kbsync.workflows.clock import Clock, peak_memory_mb
from kbsync.workflows.covariances import covariances_for
from kbsync.workflows.crew import together
from kbsync.workflows.guards import Guard
from kbsync.workflows.measuring import Measured, cases_for, measure_edits, recall_of
from kbsync.workflows.plan import Plan, PlanRow, prompt_of, says
from kbsync.workflows.progress import Progress
from kbsync.workflows.state import delta_tensors, model_contexts
from kbsync.workflows.target_cache import cached_targets

__all__ = ["Applied", "Batch", "Work", "new_edit"]

ALGORITHM = "memit"


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
    failed: tuple[dict[str, str], ...]
    """edits that the model does not recall"""


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
    def of(cls, plan: Plan, ledger: Ledger, model: ModelRow, choice: ModelChoice) -> "Work":
        """Read a plan's signs; a state that other settings made, or whose file is gone, is made again."""
        added = tuple(plan.having("+", "~"))
        superseded = tuple(row.edit for row in plan.having("~") if row.edit is not None)
        retracted = tuple(row.edit for row in plan.having("-") if row.edit is not None)
        ended = {edit.id for edit in (*superseded, *retracted)}
        kept = tuple(edit for edit in ledger.active_edits(model.key) if edit.id not in ended)
        current = ledger.current_batch(model.key)
        other_settings = current is not None and bool(kept) and not same_settings(current, choice)
        lost = current is not None and any(not (ledger.tensors / name).exists() for name in current.files)
        conflicts = tuple(
            ConflictNote(c.relation, c.statements[0].fact.subject.key, c.subject, c.objects, c.resolution)
            for c in plan.conflicts
        )
        return cls(added, superseded, retracted, kept, conflicts, bool(added or ended or other_settings or lost))


def same_settings(batch: BatchRow, choice: ModelChoice) -> bool:
    """Tell whether a batch was made with the settings that hold now."""
    return dict(batch.settings) == choice.settings.as_dict()


class Batch:
    """One batch of edits; `run` makes it. `figures` are those that were taken of the result."""

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
        chat: bool,
    ) -> None:
        self.ledger, self.templates, self.choice, self.model = ledger, templates, choice, model
        self.work, self.guard, self.clock, self.progress, self.remark = work, guard, clock, progress, remark
        self.figures: list[Metric] = []
        self.loaded, self.settings, self.chat = choice.loaded, choice.settings, chat

    def run(self) -> Applied:
        """Make the batch; on any error it is recorded as failed and the state before stays current."""
        contexts = model_contexts(self.model, self.choice)
        batch = self.ledger.start_batch(
            self.model.key, ALGORITHM, self.settings.as_dict(), str(self.loaded.device), self.guard.record()
        )
        try:
            return self.make(batch, contexts)
        except BaseException as error:
            reason = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or type(error).__name__
            # What cannot be recorded either (the disk is full) is told by the first error; the next writer records it.
            with suppress(LedgerError):
                self.ledger.fail_batch(batch, reason, self.clock.total(), self.figures)
            raise

    def make(self, batch: int, contexts: tuple[str, ...]) -> Applied:
        """Find targets, solve, check, write the files, and make them current."""
        names = aliases(self.ledger, {edit.object_key for edit in self.work.kept})
        kept, added = (
            [self.request_of(edit, names.get(edit.object_key, ())) for edit in self.work.kept],
            [row.request for row in self.work.added if row.request],
        )
        requests = [*kept, *added]
        groups = group_requests(self.loaded, requests) if requests else []
        with self.clock.phase("targets"):
            targets = cached_targets(self.ledger, self.model, self.choice, groups, contexts, self.progress)
        deltas = self.solve(groups, contexts, targets.z)
        with self.clock.phase("measure"):
            measured = self.measure(deltas, kept, added)
        self.figures = measured.metrics
        forced = self.guard.judge(measured.table)
        files = {}
        if deltas:
            name, sha256 = write_tensors(self.ledger.tensors, delta_tensors(deltas), {"model": self.model.key})
            files[name] = sha256
        seconds, peak = self.clock.total(), peak_memory_mb(self.loaded.devices)
        self.ledger.finish_batch(
            batch,
            added=[new_edit(row, targets.keys) for row in self.work.added],
            superseded=[edit.id for edit in self.work.superseded],
            retracted=[edit.id for edit in self.work.retracted],
            metrics=measured.metrics,
            files=files,
            seconds=seconds,
            peak_memory_mb=peak,
            conflicts=self.work.conflicts,
            reason=forced,
        )
        return Applied(
            batch, len(requests), targets.optimised, targets.from_cache, measured.table, seconds, peak, measured.failed
        )

    def solve(self, groups: Sequence[RequestGroup], contexts: Sequence[str], z: torch.Tensor) -> dict[int, WeightDelta]:
        """Return the deltas that hold all groups; none where there are none."""
        if not groups:
            return {}
        with self.clock.phase("covariance"):
            covariances = covariances_for(self.ledger.tensors, self.choice, self.progress)
        deltas: dict[int, WeightDelta] = together(
            self.choice,
            "spread",
            groups,
            contexts,
            z,
            self.settings,
            covariances=covariances,
            progress=self.progress,
            phase=self.clock.phase,
            remark=self.remark,
        )
        return deltas

    def measure(
        self, deltas: Mapping[int, WeightDelta], kept: Sequence[EditRequest], added: Sequence[EditRequest]
    ) -> Measured:
        """Measure base and edited model."""
        shown = added or kept
        asked = {prompt_of(request): request.target for request in shown}
        said = base_answers(self.ledger, self.choice, self.model, asked, self.progress)
        previous = {row.request.id: row.previous for row in self.work.added if row.request and row.previous}
        old = {
            request.id: previous.get(request.id) or self.other_answer(request, said[prompt_of(request)])
            for request in shown
        }
        edited_keys = {(request.relation, request.subject) for request in (*kept, *added)}
        cases = cases_for(shown, old, self.ledger.facts(withdrawn=False), edited_keys, self.templates)
        measured = measure_edits(
            self.choice, lambda: edited(self.loaded, deltas), cases, [*kept, *added], self.progress, chat=self.chat
        )
        if deltas and self.loaded.model.dtype in (torch.float16, torch.bfloat16):
            with edited(self.loaded, deltas, masters=True):
                measured.add("recall_masters", recall_of(self.loaded, [*kept, *added]))
        if jitter := max((delta.jitter for delta in deltas.values()), default=0.0):
            measured.add("jitter", jitter)
        return measured

    def other_answer(self, request: EditRequest, answer: str) -> str:
        """Return what the base says (o^c); where that is the object itself, its next likeliest answer."""
        if not says(answer, request):
            return answer
        answers = top_answers(self.loaded, prompt_of(request), 3 + len(request.aliases))
        return next((one.text for one in answers if not says(one.text, request)), answers[-1].text)

    def request_of(self, edit: EditRow, names: tuple[str, ...]) -> EditRequest:
        """Return the request that an edit wrote, with its relation's present paraphrases; `names` are aliases."""
        template = self.templates.get(edit.relation)
        paraphrases = template.paraphrases if template else ()
        question = template.question if template else ""
        request = EditRequest(edit.relation, edit.subject, edit.prompt, edit.object, paraphrases, question, names)
        if request.id != edit.request:
            raise LedgerError(
                f"{self.ledger.path} is damaged: edit {edit.id} ({edit.relation} of {edit.subject}) is not as it was"
                " written; put back a copy of it, or choose another --home (`kbsync verify` says what else is wrong)"
            )
        return request


def new_edit(row: PlanRow, keys: Mapping[str, str]) -> NewEdit:
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
        target=keys[row.request.id],
    )
