"""Apply: the plan, what the user says to it, and the batch that carries it out."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from kbsync.conflicts import Policy
from kbsync.editors import Editor
from kbsync.errors import LedgerError
from kbsync.facts import is_inverse
from kbsync.ledger import Ledger, ModelRow
from kbsync.ledger.edits import rollback_count
from kbsync.ledger.store import database_faults
from kbsync.models import ALONE, Team, require_chat_template
from kbsync.sync.answers import base_answers
from kbsync.sync.batch import Batch, Clock, applied
from kbsync.sync.corpus import settle_stdin
from kbsync.sync.doctor import check_before_load, check_before_work, check_lengths
from kbsync.sync.edits import chosen_editor, make_edits
from kbsync.sync.guards import Canary, Cost, Guard
from kbsync.sync.home import AS_STORED, Loading, Progress, model_name, silent, templates_for
from kbsync.sync.model import Session, choose_model, led
from kbsync.sync.plan import Plan, PlanRow, known_facts, make_plan, with_their_facts
from kbsync.sync.tasks import Tasks
from kbsync.templates import Templates


@dataclass(frozen=True, slots=True)
class ApplyOptions:
    model: str
    relations: Collection[str] | None = None
    limit: int | None = None
    """new and changed facts to edit at most"""
    include_known: bool = False
    on_conflict: Policy = "out"
    inverse: bool | None = None
    """whether facts are written the other way round as well; None: as the model's state is now"""
    values: Mapping[str, Any] = field(default_factory=dict)
    loading: Loading = AS_STORED
    corpus: Path | None = None
    only: Collection[tuple[str, str]] | None = None
    """(relation, subject key) of what the batch is about; None is all that the plan has"""
    chat: bool = False
    """measure recall in the tokenizer's chat template, too"""
    bounds: Mapping[str, float | None] = field(default_factory=dict)
    """fields of `Bounds`; None, or none of a name, is the preset's, or else the default"""
    canaries: Sequence[Canary] = ()
    """what the edited model must answer"""
    force: bool = False
    """make a result that breaks a bound current all the same"""
    algorithm: str = "memit"
    """an editor's name; `values` that it has settings for are its own"""
    retry: bool = False
    """search the targets of edits that are not recalled again, with more steps and a larger clamp"""
    only_lost: bool = False
    """write those facts alone that other models of the home were edited for, and this one does not hold"""
    rollbacks: int | None = None
    """as many as there were when the command began: one that came since is not undone. None: it does not matter"""
    tasks: tuple[str, ...] = ()
    """of lm-evaluation-harness, on base and edited model: names that it knows, or YAML files"""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What an apply is about to do, for the user to confirm."""

    plan: Plan
    remark: str | None
    """on the settings"""
    cost: Cost
    needed: bool
    """whether there is anything to do"""


def apply(
    home: Path,
    options: ApplyOptions,
    confirm: Callable[[Proposal], bool],
    progress: Progress = silent,
    remark: Callable[[str], None] = lambda text: None,
    team: Team = ALONE,
) -> dict[str, Any] | None:
    """Bring the model in step with the ledger's facts; None where `confirm` says no.

    `remark` is told how the work is done, which `team` shares (this process leads it). Raises LedgerError, ModelError,
    SettingsError, TemplateError, ConflictError and EditError; the state before stays in each case.
    """
    with prepared(home, options, progress, remark, team) as ready:
        plan = ready.plan()
        batch = ready.batch(plan)
        if not confirm(Proposal(plan, ready.work.choice.remark, batch.cost(), batch.edits.needed)):
            return None
        return ready.carry_out(plan, batch)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A ledger that this process alone writes to, and a loaded model: all that plans and batches are made of."""

    work: Session
    options: ApplyOptions
    editor: Editor
    guard: Guard
    clock: Clock
    remark: Callable[[str], None]
    tasks: Tasks | None
    compared: Plan | None
    """facts and edits as they were compared before the load; None: to be compared"""

    def plan(self) -> Plan:
        """Return what the user asks for, facts that the base model knows marked.

        The base model is asked what the ledger has no answer for.
        """
        with self.clock.phase("plan"):
            work, options = self.work, self.options
            plan = self.compared or compared(work.ledger, work.templates, work.choice.name, work.model, options)
            if options.only is not None:
                plan = narrowed(plan, options.only)
            written = [row.request for row in plan.having("+", "~", "x") if row.request is not None]
            check_lengths(work.loaded, written, work.model.contexts)
            if not options.include_known:
                plan = known_facts(plan, partial(base_answers, work))
            if options.limit is not None:
                changes = [row for row in plan.having("+", "~") if not is_inverse(row.relation)]
                over = set(changes[options.limit :])
                plan = replace(plan, rows=tuple(with_their_facts(row for row in plan.rows if row not in over)))
            return plan

    def batch(self, plan: Plan) -> Batch:
        with self.clock.phase("plan"):
            edits = make_edits(self.work, plan, self.editor, retry=self.options.retry)
        return Batch(self.work, edits, self.guard, self.clock, self.remark, self.options.chat, self.tasks)

    def carry_out(self, plan: Plan, batch: Batch) -> dict[str, Any]:
        """Run the batch of a plan; where the model's state stays, say what it does not hold all the same."""
        if batch.edits.needed:
            return batch.run()
        left = {sign: count for sign, count in plan.counts.items() if sign in "!?x" and count}
        return applied(None, len(batch.edits.kept), self.clock.total(), left=left)


@contextmanager
def prepared(
    home: Path,
    options: ApplyOptions,
    progress: Progress = silent,
    remark: Callable[[str], None] = lambda text: None,
    team: Team = ALONE,
) -> Iterator[Prepared]:
    """Check what can be checked before the long work, and load the model; raises as `apply` does."""
    clock, templates = Clock(), templates_for(home)
    with led(team), Ledger.open(home, create=False) as ledger, ledger.writer(f"apply {options.model}"):
        if options.rollbacks is not None and rollback_count(ledger) != options.rollbacks:
            raise LedgerError("the model was rolled back after this apply began: see `kbsync status`, and run it again")
        if faults := database_faults(ledger):
            raise LedgerError(f"{faults[0]}; restore a copy of it, or choose another --home")
        named = model_name(options.model, home)
        editor, values = chosen_editor(options.algorithm, options.values, named, retry=options.retry)
        if options.only_lost:
            others = [row.key for row in ledger.models() if row.name != named]
            elsewhere = {(edit.relation, edit.subject_key) for key in others for edit in ledger.active_edits(key)}
            options = replace(options, only=elsewhere)
        tasks = Tasks(options.tasks) if options.tasks else None
        # Before a long load: conflicts under `error`, relation ids, and an empty ledger show at once.
        known = ledger.latest_model(named)
        plan = compared(ledger, templates, named, known, options)
        if not plan.rows:
            raise LedgerError(f"no facts to apply in {home}: run `kbsync pull` first")
        with clock.phase("load"):
            check_before_load(home, options.model, options.loading)
            corpus, loading = settle_stdin(options.corpus, home), options.loading
            choice = choose_model(
                options.model, values, home=home, loading=loading, corpus=corpus, team=team, progress=progress
            )
            if options.chat:
                require_chat_template(choice.loaded)
            work = Session.of(ledger, choice, progress)
            if not plan.in_sync:
                check_before_work(ledger, choice, editor, len(plan.having("+", "~", "=", "x")))
        guard = Guard(choice.bounds.with_values(**options.bounds), options.force, tuple(options.canaries))
        # Another model of that name may have been used last.
        same = plan if known is None or known.key == work.model.key else None
        yield Prepared(work, options, editor, guard, clock, remark, tasks, same)


def compared(ledger: Ledger, templates: Templates, name: str, model: ModelRow | None, options: ApplyOptions) -> Plan:
    asked = (options.relations, options.on_conflict)
    return make_plan(ledger, templates, name, model, *asked, inverse=options.inverse)


def narrowed(plan: Plan, about: Collection[tuple[str, str]]) -> Plan:
    """Return the rows of these (relation, subject key), and those of the inverses of their facts."""

    def wanted(row: PlanRow) -> bool:
        return (row.relation, row.subject_key) in about

    facts = {one for row in filter(wanted, plan.rows) for one in facts_of(row)}
    rows = [row for row in plan.rows if wanted(row) or (is_inverse(row.relation) and facts & facts_of(row))]
    return replace(plan, rows=tuple(rows))


def facts_of(row: PlanRow) -> set[int]:
    """Return the ids of the facts that a row is about: that of now, and that of its edit."""
    return ({row.fact.id} if row.fact else set()) | ({row.edit.fact} if row.edit else set())
