"""Apply: the plan, what the user says to it, and the batch that carries it out."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kbsync.conflicts import Policy
from kbsync.errors import LedgerError
from kbsync.ledger import Ledger, ModelRow
from kbsync.ledger.edits import rollback_count
from kbsync.ledger.store import database_faults
from kbsync.models import ALONE, Team, require_chat_template
from kbsync.sync.answers import base_answers
from kbsync.sync.batch import Applied, Batch, Clock, Work
from kbsync.sync.corpus import settle_stdin
from kbsync.sync.deltas import MEMIT, chosen_editor
from kbsync.sync.guards import Cost, Guard
from kbsync.sync.home import AS_STORED, Loading, Progress, model_name, silent, templates_for
from kbsync.sync.model import ModelChoice, choose_model, identify
from kbsync.sync.plan import Plan, known_facts, make_plan
from kbsync.sync.preflight import check_before_load, check_before_work, check_lengths
from kbsync.sync.team import led
from kbsync.templates import Templates

__all__ = ["Applied", "ApplyOptions", "Proposal", "apply"]


@dataclass(frozen=True, slots=True)
class ApplyOptions:
    """What the user asks of an apply."""

    model: str
    relations: Collection[str] | None = None
    limit: int | None = None
    """new and changed facts to edit at most"""
    include_known: bool = False
    on_conflict: Policy = "out"
    values: Mapping[str, Any] = field(default_factory=dict)
    loading: Loading = AS_STORED
    corpus: Path | None = None
    only: Collection[tuple[str, str]] | None = None
    """(relation, subject key) of what the batch is about; None is all that the plan has"""
    chat: bool = False
    """measure recall in the tokenizer's chat template, too"""
    max_perplexity_increase: float | None = None
    """percent; None is the preset's bound, or that of `Bounds`"""
    max_specificity_loss: float | None = None
    """points of NS; None likewise"""
    max_weight_change: float | None = None
    """percent of a layer's norm; None likewise"""
    max_known_loss: float | None = None
    """percent of the edited subjects' other known facts; None likewise"""
    force: bool = False
    """make a result that breaks a bound current all the same"""
    algorithm: str = MEMIT
    """an editor's name; `values` that it has settings for are its own"""
    retry: bool = False
    """search the targets of edits that are not recalled again, with more steps and a larger clamp"""
    rollbacks: int | None = None
    """as many as there were when the command began: one that came since is not undone. None: it does not matter"""


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
) -> Applied | None:
    """Bring the model in step with the ledger's facts; None where `confirm` says no.

    `remark` is told how the work is done, which `team` shares (this process leads it). Raises LedgerError, ModelError,
    SettingsError, TemplateError, ConflictError and EditError; the state before stays in each case.
    """
    clock = Clock()
    with led(team), Ledger.open(home, create=False) as ledger, ledger.writer(f"apply {options.model}"):
        if options.rollbacks is not None and rollback_count(ledger) != options.rollbacks:
            raise LedgerError("a rollback was made since this apply began: see `kbsync status`, and run it again")
        if faults := database_faults(ledger):
            raise LedgerError(f"{faults[0]}; put back a copy of it, or choose another --home")
        templates = templates_for(home)
        named = model_name(options.model, home)
        editor, values = chosen_editor(options.algorithm, options.values, named, retry=options.retry)
        # Before a long load: conflicts under `error`, relation ids, and an empty ledger show at once.
        known = ledger.latest_model(named)
        glance = make_plan(ledger, templates, named, known, options.relations, options.on_conflict)
        if not glance.rows:
            raise LedgerError(f"no facts to apply in {home}: run `kbsync pull` first")
        with clock.phase("load"):
            progress("loading the model", 0, 1)
            check_before_load(home, options.model, options.loading)
            corpus = settle_stdin(options.corpus, home)
            choice = choose_model(
                options.model,
                values,
                home=home,
                loading=options.loading,
                corpus=corpus,
                team=team,
            )
            if options.chat:
                require_chat_template(choice.loaded)
            model = identify(ledger, choice)
            if not glance.in_sync:
                check_before_work(ledger, choice, editor, len(glance.having("+", "~", "=", "x")))
            progress("loading the model", 1, 1)
        with clock.phase("plan"):
            plan = planned(ledger, templates, choice, model, options, progress)
        work = Work.of(plan, ledger, model, choice, editor, retry=options.retry)
        bounds = choice.bounds.with_values(
            max_perplexity_increase=options.max_perplexity_increase,
            max_specificity_loss=options.max_specificity_loss,
            max_weight_change=options.max_weight_change,
            max_known_loss=options.max_known_loss,
        )
        guard = Guard(bounds, options.force)
        batch = Batch(
            ledger, templates, choice, model, work, guard, clock, progress, remark, editor=editor, chat=options.chat
        )
        if not confirm(Proposal(plan, choice.remark, batch.cost, batch.needed)):
            return None
        if not batch.needed:
            left = {sign: count for sign, count in plan.counts.items() if sign in "!?x" and count}
            return Applied(None, len(work.kept), 0, 0, {}, clock.total(), None, (), left=left)
        return batch.run()


def planned(
    ledger: Ledger,
    templates: Templates,
    choice: ModelChoice,
    model: ModelRow,
    options: ApplyOptions,
    progress: Progress,
) -> Plan:
    """Return the plan, facts that the base model knows marked (it is asked what the ledger has no answer for)."""
    plan = make_plan(ledger, templates, choice.name, model, options.relations, options.on_conflict)
    if options.only is not None:
        rows = tuple(row for row in plan.rows if (row.relation, row.subject_key) in options.only)
        plan = replace(plan, rows=rows)
    written = [row.request for row in plan.having("+", "~", "x") if row.request is not None]
    check_lengths(choice.loaded, written, model.contexts)
    if not options.include_known:
        plan = known_facts(plan, lambda asked: base_answers(ledger, choice, model, asked, progress))
    if options.limit is not None:
        over = set(plan.having("+", "~")[options.limit :])
        plan = replace(plan, rows=tuple(row for row in plan.rows if row not in over))
    return plan
