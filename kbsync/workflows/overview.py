"""A plan at a glance: the counts by sign and the first rows, without a look at every fact.

Only facts that are edited, contested, under a veto, or that the model was asked for are compared one by one, as
`plan` does it. Each other fact is new (``+``) or lacks a template (``?``), so that these are counted by relation.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from kbsync.conflicts import Policy
from kbsync.facts import check_relation, normalise_label
from kbsync.ledger import FactRow, Ledger, ModelRow
from kbsync.ledger.aliases import aliases
from kbsync.ledger.standing import Standing
from kbsync.templates import Template, Templates
from kbsync.workflows.plan import PlanRow, Sign, fact_row, find_model, known_facts, make_plan, sort_key
from kbsync.workflows.templates import templates_for

__all__ = ["SHOWN", "Overview", "answered", "overview_for"]

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
        return not any(self.counts[sign] for sign in ("+", "~", "-", "x"))


def overview_for(
    home: Path,
    model: str | None,
    relations: Collection[str] | None = None,
    on_conflict: Policy = "out",
    include_known: bool = False,
) -> Overview:
    """Return what `plan_for` gives, with the same arguments and errors, as counts and first rows."""
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
        counts, others = plan.counts, standing.others()
        for relation, count in others.items():
            counts["+" if relation in templates else "?"] += count
        rows = [row for row in plan.rows if row.sign not in QUIET][:SHOWN]
        rows += _rows(ledger, list(_first_others(standing, others, templates)), templates)
    return Overview(name, counts, tuple(sorted(rows, key=sort_key)[:SHOWN]))


def _first_others(standing: Standing, others: dict[str, int], templates: Templates) -> Iterator[FactRow]:
    """Yield the facts that are not involved and come first: with a template, and without."""
    for told in (True, False):
        left = SHOWN
        for relation in sorted(one for one in others if (one in templates) == told):
            found = standing.first_others(relation, left) if left else []
            left -= len(found)
            yield from found


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
