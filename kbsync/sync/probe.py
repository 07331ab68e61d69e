"""Probe: ask the model itself, and put what it says into a plan."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kbsync.conflicts import Policy
from kbsync.ledger import Ledger
from kbsync.memit import edited
from kbsync.metrics import recalled
from kbsync.sync.base_answers import base_answers
from kbsync.sync.choice import choose_model
from kbsync.sync.loading import AS_STORED, Loading
from kbsync.sync.names import model_name
from kbsync.sync.plan import NOT_RECALLED, SIGNS, Plan, PlanRow, known_facts, make_plan
from kbsync.sync.progress import Progress, silent
from kbsync.sync.state import current_deltas, identify
from kbsync.sync.templates import templates_for

__all__ = ["probed_plan"]


def probed_plan(
    home: Path,
    model: str,
    relations: Collection[str] | None = None,
    on_conflict: Policy = "out",
    *,
    include_known: bool = False,
    values: Mapping[str, Any] | None = None,
    loading: Loading = AS_STORED,
    progress: Progress = silent,
) -> Plan:
    """Return the plan with the model's word: new facts that the base knows are ``k``, applied ones not recalled ``x``.

    Answers of the base model are recorded, and where the ledger has them all and there are no edits to ask about, no
    model is loaded. Raises as `apply` does.
    """
    with Ledger.open(home, create=False) as ledger:
        if loading.dtype is None:
            told = plan_on_record(ledger, model_name(model, home), home, relations, on_conflict, include_known)
            if told is not None:
                return told
        choice = choose_model(model, values, home=home, loading=loading)
        known = identify(ledger, choice)
        plan = make_plan(ledger, templates_for(home), choice.name, known, relations, on_conflict)
        if not include_known:
            plan = known_facts(plan, lambda asked: base_answers(ledger, choice, known, asked, progress))
        applied = [row for row in plan.having("=", "x") if row.request is not None]
        with edited(choice.loaded, current_deltas(ledger, ledger.current_batch(known.key))):
            kept = recalled(
                choice.loaded,
                [row.request for row in applied if row.request],
                lambda done: progress("asking the edited model", done, len(applied)),
            )
        found = {id(row): right for row, right in zip(applied, kept, strict=True)}

    def judged(row: PlanRow) -> PlanRow:
        if id(row) not in found:
            return row
        return (
            replace(row, sign="=", reason="applied") if found[id(row)] else replace(row, sign="x", reason=NOT_RECALLED)
        )

    return replace(plan, rows=tuple(sorted(map(judged, plan.rows), key=lambda row: SIGNS.index(row.sign))))


def plan_on_record(
    ledger: Ledger,
    name: str,
    home: Path,
    relations: Collection[str] | None,
    on_conflict: Policy,
    include_known: bool,
) -> Plan | None:
    """Return the plan by what the model of this name said when it was asked last; None where it must be asked."""
    known = ledger.latest_model(name)
    if known is None:
        return None
    plan = make_plan(ledger, templates_for(home), name, known, relations, on_conflict)
    unasked: set[str] = set()

    def answers(asked: Mapping[str, str]) -> Mapping[str, str]:
        said = ledger.answers(known.key, list(asked))
        unasked.update(asked.keys() - said.keys())
        return said

    if not include_known:
        plan = known_facts(plan, answers)
    return None if unasked or plan.having("=", "x") else plan
