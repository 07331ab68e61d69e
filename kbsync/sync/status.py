"""Status, and plans without a look at every fact: counts by sign with the first rows, or with all rows one by one.

Only facts that are edited, contested, under a veto, to be written the other way round as well, or that the model was
asked for are compared one by one, as `plan` does it. Each other fact is new (``+``) or lacks a template (``?``), so
that these are counted by relation.

What was new lately: what the newest pulls changed, what the last batch wrote, and what the model answers now.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from heapq import merge
from itertools import combinations, groupby, islice
from pathlib import Path
from typing import Any

from kbsync.conflicts import Policy
from kbsync.errors import SettingsError
from kbsync.facts import check_relation, normalise_label
from kbsync.ledger import FactRow, Ledger, ModelRow
from kbsync.ledger.edits import metrics_of
from kbsync.ledger.facts import Standing, aliases, vetoes
from kbsync.ledger.pulls import changes, skipped_counts
from kbsync.ledger.store import INTERRUPTED
from kbsync.sync.home import templates_for
from kbsync.sync.plan import (
    NEW,
    PlanRow,
    Sign,
    compiles_inverse,
    fact_row,
    find_model,
    known_facts,
    make_plan,
    no_template,
    plan_for,
    sort_key,
)
from kbsync.templates import Template, Templates

SHOWN = 40
"""rows that an overview holds: those first in a plan that an apply, or the user, has something to do about"""
QUIET = "=k"
"""signs that nothing is to be done about"""


@dataclass(frozen=True, slots=True)
class Overview:
    """A plan's counts, with its first rows, or with all of them in order, to be gone through once.

    Of a row that was not compared one by one, `PlanRow.fact` and `PlanRow.request` may be None.
    """

    model: str
    counts: dict[Sign, int]
    rows: Iterable[PlanRow]

    @property
    def in_sync(self) -> bool:
        """Whether knowledge base and ledger agree, as far as the facts can be edited."""
        return not any(self.counts[sign] for sign in ("+", "~", "-", "x"))


@contextmanager
def diff_for(
    home: Path,
    model: str | None,
    relations: Collection[str] | None = None,
    on_conflict: Policy = "out",
    include_known: bool = False,
    inverse: bool | None = None,
    *,
    whole: bool,
) -> Iterator[Overview]:
    """Give what `plan_for` gives, with the same arguments and errors: `whole` with all rows, else with the first ones.

    All rows come from the ledger one by one, so that a million of them need little memory, and inside only.
    """
    wanted = None if relations is None else {check_relation(relation) for relation in relations}
    with Ledger.open(home, create=False) as ledger:
        found, templates, standing = find_model(ledger, model), templates_for(home), Standing(ledger, wanted)
        standing.involve_shared()
        standing.involve_vetoed()
        standing.involve_named(set(_entangled(standing, templates)))
        standing.involve_named(asking(standing.involve_worded(), standing, templates))
        if found is not None:
            standing.involve_edited(found.key)
            standing.involve_named(asking(ledger.prompts_answered(found.key), standing, templates))
        inverse = compiles_inverse(ledger, found, inverse)
        if inverse:
            standing.involve_relations([one.relation for one in templates if one.inverse])
        name = model or (found.name if found else "")
        plan = make_plan(ledger, templates, name, found, relations, on_conflict, standing.involved(), inverse)
        if found is not None and not include_known:
            plan = known_facts(plan, lambda asked: ledger.answers(found.key, list(asked)))
        counts, others = plan.counts, standing.others()
        for relation, count in others.items():
            counts["+" if relation in templates else "?"] += count
        order = sorted(others, key=lambda relation: (relation not in templates, relation))
        rows: Iterable[PlanRow]
        if whole:
            # No fact of the one part has relation and subject in common with one of the other, so the order is told.
            rows = merge(plan.rows, _each_other(standing, templates, order), key=sort_key)
        else:
            facts = list(_first_others(standing, templates, order))
            names = aliases(ledger, {fact.object_key for fact in facts})
            first = [row for row in plan.rows if row.sign not in QUIET][:SHOWN]
            first += [replace(fact_row(one, (), {}, templates, names), sources=(one.source,)) for one in facts]
            rows = tuple(sorted(first, key=sort_key)[:SHOWN])
        yield Overview(name, counts, rows)


def overview_for(
    home: Path,
    model: str | None,
    relations: Collection[str] | None = None,
    on_conflict: Policy = "out",
    include_known: bool = False,
    inverse: bool | None = None,
) -> Overview:
    with diff_for(home, model, relations, on_conflict, include_known, inverse, whole=False) as found:
        return found


def _each_other(standing: Standing, templates: Templates, order: Sequence[str]) -> Iterator[PlanRow]:
    """Yield the rows of the facts that are not involved, in the order of a plan."""
    for relation in order:
        told = relation in templates
        sign: Sign = "+" if told else "?"
        reason = NEW if told else no_template(relation)
        for subject, thing, source in standing.each_other(relation):
            yield PlanRow(sign, subject, relation, thing, None, reason, sources=(source,))


def _first_others(standing: Standing, templates: Templates, order: Sequence[str]) -> Iterator[FactRow]:
    """Yield the facts that are not involved and come first: with a template, and without."""
    for _, relations in groupby(order, key=lambda relation: relation in templates):
        left = SHOWN
        for relation in relations:
            found = standing.first_others(relation, left) if left else []
            left -= len(found)
            yield from found


def asking(prompts: Collection[str], standing: Standing, templates: Templates) -> Collection[tuple[str, str]]:
    """Return (relation, subject label) of what a template would ask in one of `prompts`."""
    told = [template for relation in standing.relations() if (template := templates.get(relation))] if prompts else []
    return {
        (template.relation, prompt[len(before) : len(prompt) - len(after)])
        for template in told
        for before, _, after in [template.prompt.partition("{}")]
        for prompt in prompts
        if prompt.startswith(before) and prompt.endswith(after)
    }


def _entangled(standing: Standing, templates: Templates) -> Iterator[tuple[str, str]]:
    """Yield (relation, subject label) of facts whose prompts are the same though their relations differ.

    It takes a label that holds a part of another template: "capital of X" in "The {} is", X in "The capital of {} is".
    """
    told = [template for relation in standing.relations() if (template := templates.get(relation))]
    for one, other in combinations(told, 2):
        (before, after), (other_before, other_after) = _ends(one), _ends(other)
        if len(before) > len(other_before):
            one, other, before, after, other_before, other_after = other, one, other_before, other_after, before, after
        if not other_before.startswith(before) or not (after.endswith(other_after) or other_after.endswith(after)):
            continue
        begin, more = other_before[len(before) :], other_after[: max(0, len(other_after) - len(after))]
        less = after[: max(0, len(after) - len(other_after))]
        for name in standing.names_between(one.relation, begin, more):
            yield one.relation, name
            yield other.relation, name[len(begin) : len(name) - len(more)] + less


def _ends(template: Template) -> tuple[str, str]:
    """Return the normalised text before and after the subject; a space at the subject's side stays."""
    before, _, after = template.prompt.partition("{}")
    return normalise_label(before + "|")[:-1], normalise_label("|" + after)[1:]


_REASONS = 4


def status_for(home: Path, model: str | None) -> dict[str, Any]:
    """Return the plan of a model, and its `last_batch`; None means the one used last, or none where there is none."""
    return {"plan": plan_for(home, model), **last_batch(home, model)}


def last_batch(home: Path, model: str | None) -> dict[str, Any]:
    """Return the model's current batch, its metrics (before, after), and notes on what began and has not ended."""
    with Ledger.open(home, create=False) as ledger:
        found = find_model(ledger, model)
        batch = ledger.current_batch(found.key) if found else None
        rows = ledger.metrics(batch.id) if batch else []
        figures = {row.name: {"before": row.before, "after": row.after} for row in rows if row.edit is None}
        notes = list(_notes(ledger, found)) if found else []
        return {"batch": batch, "metrics": figures, "notes": [*notes, *_left_out(ledger)]}


def _notes(ledger: Ledger, model: ModelRow) -> Iterator[str]:
    again = f"`kbsync apply --model {model.name}`"
    newest = next(reversed(ledger.batches(model.key)), None)
    if newest is not None and newest.state == "running":
        yield f"an apply is running since {newest.started} (batch {newest.id})"
    if newest is not None and newest.reason == INTERRUPTED:
        yield f"the last apply (batch {newest.id}) was interrupted and changed nothing: {again} goes on"
    # Under a veto and active: a retract, or the apply after it, has not come to its end.
    held = {(veto.relation, veto.subject_key, veto.object_key) for veto in vetoes(ledger)}
    active = ((edit, (edit.relation, edit.subject_key)) for edit in ledger.active_edits(model.key))
    left = [edit for edit, about in active if {(*about, None), (*about, edit.object_key)} & held]
    if left:
        what = f"{left[0].relation} of {left[0].subject}" + (f" and {len(left) - 1} more" if len(left) > 1 else "")
        yield f"retracted but still in the model: {what}; run the `kbsync retract` again, or {again}"


def _left_out(ledger: Ledger) -> Iterator[str]:
    """Yield a line for each relation of which the newest pull left something out."""
    for relation, rows in groupby(skipped_counts(ledger), key=lambda row: row[0]):
        reasons = [f"{reason} {count:,}" for _, reason, count in rows]
        more = f", and {len(reasons) - _REASONS} more reasons" if len(reasons) > _REASONS else ""
        yield f"{relation}, left out by the pull: {', '.join(reasons[:_REASONS])}{more} (`kbsync log` has each)"


def used_model(home: Path) -> str:
    """Return the name of the model used last; raise SettingsError where there is none."""
    with Ledger.open(home, create=False) as ledger:
        found = find_model(ledger, None)
    if found is None:
        raise SettingsError("no model has been edited here yet: name one, such as --model practice")
    return found.name


MOST = 200
"""changes and edits that are told"""


def recent(home: Path, model: str | None) -> dict[str, Any]:
    """Return what was new lately; `model` None means the one used last. Raises LedgerError where there is no ledger.

    That is changes of the knowledge base, and answers of the last batch's edits, the first `MOST` of each; and why the
    newest batch failed, where it did, and the state before it is current.
    """
    with Ledger.open(home, create=False) as ledger:
        found = find_model(ledger, model)
        newest = {(pull.source, pull.relation): pull.id for pull in ledger.pulls()}
        told = (one for pull in newest.values() for one in changes(ledger, pull, "+~-"))
        last = next(reversed(ledger.batches(found.key)), None) if found else None
        return {
            "changes": list(islice(told, MOST)),
            "answers": list(_answers(ledger, found)) if found else [],
            "failed": last.reason if last and last.state == "failed" else None,
        }


def _answers(ledger: Ledger, model: ModelRow) -> Iterator[dict[str, str | None]]:
    """Yield an edit's prompt, what the base model says to it, as far as it was asked, and what the edited one says."""
    batch = ledger.current_batch(model.key)
    edits = ledger.edits(batch.id)[:MOST] if batch else []
    right = {row.edit: row.after for row in metrics_of(ledger, [edit.id for edit in edits]) if row.name == "recall"}
    prompts = {edit.id: edit.prompt.format(edit.subject) for edit in edits}
    said = ledger.answers(model.key, list(prompts.values()))
    for edit in edits:
        recalled = right.get(edit.id)
        now = edit.object if recalled else f"not {edit.object}" if recalled == 0 else f"{edit.object} (not measured)"
        yield {"prompt": prompts[edit.id], "before": said.get(prompts[edit.id]), "now": now}
