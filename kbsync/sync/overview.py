"""A plan without a look at every fact: the counts by sign with the first rows, or with all rows one by one.

Only facts that are edited, contested, under a veto, or that the model was asked for are compared one by one, as
`plan` does it. Each other fact is new (``+``) or lacks a template (``?``), so that these are counted by relation.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import merge
from itertools import combinations
from pathlib import Path

from kbsync.conflicts import Policy
from kbsync.facts import check_relation, normalise_label
from kbsync.ledger import FactRow, Ledger, ModelRow
from kbsync.ledger.facts import Standing, aliases
from kbsync.sync.plan import (
    NEW,
    Plan,
    PlanRow,
    Sign,
    fact_row,
    find_model,
    known_facts,
    make_plan,
    no_template,
    sort_key,
)
from kbsync.sync.templates import templates_for
from kbsync.templates import Template, Templates

__all__ = ["SHOWN", "LongPlan", "Overview", "answered", "long_plan_for", "overview_for"]

SHOWN = 40
"""rows that an overview holds: those first in a plan that an apply, or the user, has something to do about"""
QUIET = "=k"
"""signs that nothing is to be done about"""


@dataclass(frozen=True, slots=True)
class Overview:
    """A plan's counts, and its first rows."""

    model: str
    counts: dict[Sign, int]
    rows: tuple[PlanRow, ...]

    @property
    def in_sync(self) -> bool:
        """Whether knowledge base and ledger agree, as far as the facts can be edited."""
        return _in_sync(self.counts)


@dataclass(frozen=True, slots=True)
class LongPlan:
    """A plan's counts, and all its rows in order, to be gone through once.

    Of a row that was not compared one by one, `PlanRow.fact` and `PlanRow.request` are None.
    """

    model: str
    counts: dict[Sign, int]
    rows: Iterator[PlanRow]

    @property
    def in_sync(self) -> bool:
        """Whether knowledge base and ledger agree, as far as the facts can be edited."""
        return _in_sync(self.counts)


@dataclass(frozen=True, slots=True)
class _Compared:
    """What was compared one by one, and what was not: `others` counts it by relation."""

    ledger: Ledger
    templates: Templates
    plan: Plan
    standing: Standing
    others: dict[str, int]

    @property
    def counts(self) -> dict[Sign, int]:
        counts = self.plan.counts
        for relation, count in self.others.items():
            counts["+" if relation in self.templates else "?"] += count
        return counts

    def relations(self, *, told: bool) -> list[str]:
        """Return the relations that others have, in order: those with a template, or without."""
        return sorted(one for one in self.others if (one in self.templates) == told)


def overview_for(
    home: Path,
    model: str | None,
    relations: Collection[str] | None = None,
    on_conflict: Policy = "out",
    include_known: bool = False,
) -> Overview:
    """Return what `plan_for` gives, with the same arguments and errors, as counts and first rows."""
    with _compared(home, model, relations, on_conflict, include_known) as made:
        rows = [row for row in made.plan.rows if row.sign not in QUIET][:SHOWN]
        rows += _rows(made.ledger, list(_first_others(made)), made.templates)
        return Overview(made.plan.model, made.counts, tuple(sorted(rows, key=sort_key)[:SHOWN]))


@contextmanager
def long_plan_for(
    home: Path,
    model: str | None,
    relations: Collection[str] | None = None,
    on_conflict: Policy = "out",
    include_known: bool = False,
) -> Iterator[LongPlan]:
    """Give what `plan_for` gives, with the same arguments and errors; the rows can be had inside only.

    They come from the ledger one by one, so that a million of them need little memory.
    """
    with _compared(home, model, relations, on_conflict, include_known) as made:
        # No fact of the one part has relation and subject in common with one of the other, so the order is told.
        yield LongPlan(made.plan.model, made.counts, merge(made.plan.rows, _each_other(made), key=sort_key))


@contextmanager
def _compared(
    home: Path, model: str | None, relations: Collection[str] | None, on_conflict: Policy, include_known: bool
) -> Iterator[_Compared]:
    wanted = None if relations is None else {check_relation(relation) for relation in relations}
    with Ledger.open(home, create=False) as ledger:
        found = find_model(ledger, model)
        templates = templates_for(home)
        standing = Standing(ledger, wanted)
        standing.involve_shared()
        standing.involve_vetoed()
        standing.involve_named(set(_entangled(standing, templates)))
        standing.involve_named(_asking(standing.involve_worded(), standing, templates))
        if found is not None:
            standing.involve_edited(found.key)
            standing.involve_named(answered(ledger, found, standing, templates))
        name = model or (found.name if found else "")
        plan = make_plan(ledger, templates, name, found, relations, on_conflict, standing.involved())
        if found is not None and not include_known:
            key = found.key
            plan = known_facts(plan, lambda asked: ledger.answers(key, list(asked)))
        yield _Compared(ledger, templates, plan, standing, standing.others())


def _each_other(made: _Compared) -> Iterator[PlanRow]:
    """Yield the rows of the facts that are not involved, in the order of a plan."""
    for told in (True, False):
        for relation in made.relations(told=told):
            sign: Sign = "+" if told else "?"
            reason = NEW if told else no_template(relation)
            for subject, thing in made.standing.each_other(relation):
                yield PlanRow(sign, subject, relation, thing, None, reason)


def _first_others(made: _Compared) -> Iterator[FactRow]:
    """Yield the facts that are not involved and come first: with a template, and without."""
    for told in (True, False):
        left = SHOWN
        for relation in made.relations(told=told):
            found = made.standing.first_others(relation, left) if left else []
            left -= len(found)
            yield from found


def _in_sync(counts: Mapping[Sign, int]) -> bool:
    return not any(counts[sign] for sign in ("+", "~", "-", "x"))


def _rows(ledger: Ledger, facts: Collection[FactRow], templates: Templates) -> list[PlanRow]:
    names = aliases(ledger, {fact.object_key for fact in facts})
    return [fact_row(fact, (), {}, templates, names) for fact in facts]


def answered(ledger: Ledger, model: ModelRow, standing: Standing, templates: Templates) -> Collection[tuple[str, str]]:
    """Return (relation, subject label) of what the base model was asked in an edit prompt."""
    return _asking(ledger.prompts_answered(model.key), standing, templates)


def _asking(prompts: Collection[str], standing: Standing, templates: Templates) -> Collection[tuple[str, str]]:
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
