"""Which prompts around the active edits an apply (and `eval`) measures beside its cases.

They are drawn by their names alone, so that the same ones are asked after each apply as long as they are there. What a
batch holds in its solve is never measured: no relation that is held beside an edited subject, and no held subject.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from heapq import nsmallest
from typing import TypeVar

from kbsync.errors import KbsyncError
from kbsync.facts import EditRequest, content_id
from kbsync.ledger import FactRow, Ledger
from kbsync.ledger.facts import aliases
from kbsync.metrics import Sampled
from kbsync.models import LoadedModel, locate
from kbsync.templates import Templates

__all__ = ["PROMPTS", "sampled_prompts"]

PROMPTS = 100
"""prompts of a kind at most, so that measuring them takes the same time however many edits there are"""

Item = TypeVar("Item")
Pair = tuple[str, str]
"""(relation, subject label)"""


def sampled_prompts(
    ledger: Ledger,
    templates: Templates,
    loaded: LoadedModel,
    active: Sequence[EditRequest],
    wordings: Iterable[EditRequest],
    held: Collection[EditRequest],
) -> Sampled:
    """Return `PROMPTS` of each kind at most; `wordings` are the `active` edits in their further edited words.

    A prompt that the model has no room for, or its tokenizer no token for the subject of, is left out.
    """
    edited = {(one.relation, one.subject) for one in active}
    relations, subjects = {relation for relation, _ in edited}, {subject for _, subject in edited}
    held_subjects = {one.subject for one in held}
    held_relations = {one.relation for one in held if one.subject in subjects}
    facts: dict[Pair, list[FactRow]] = defaultdict(list)
    if edited:
        for fact in ledger.facts(withdrawn=False):
            if fact.wording is None and fact.relation in templates:
                facts[fact.relation, fact.subject_label].append(fact)
    beside = {
        (template.relation, subject)
        for relation, subject in _of_few_subjects(edited)
        for template in templates.beside(relation)
        if template.relation not in held_relations
    }
    known = (pair for pair in facts if pair[1] in subjects and pair[0] not in held_relations and pair not in edited)
    others = (pair for pair in facts if pair[0] in relations and pair[1] not in subjects | held_subjects)
    further = list(wordings)
    return Sampled(
        worded=tuple(_drawn([*active, *further], lambda one: one.id)) if further else (),
        same=tuple(_open(templates, loaded, beside - edited)),
        known=tuple(_told(ledger, templates, loaded, {pair: facts[pair] for pair in _drawn(known, _name)})),
        others=tuple(_open(templates, loaded, others)),
    )


def _drawn(items: Iterable[Item], name: Callable[[Item], object]) -> list[Item]:
    """Return those that come first in an order that hangs on their names, and not on how they are spelt."""
    return nsmallest(PROMPTS, items, key=lambda item: content_id("measured1", name(item)))


def _name(pair: Pair) -> list[str]:
    return list(pair)


def _of_few_subjects(edited: Collection[Pair]) -> Iterator[Pair]:
    """Yield the edits of some subjects: enough for `PROMPTS`."""
    some = set(_drawn({subject for _, subject in edited}, lambda subject: subject))
    return (pair for pair in edited if pair[1] in some)


def _open(templates: Templates, loaded: LoadedModel, pairs: Iterable[Pair]) -> Iterator[EditRequest]:
    """Yield the drawn pairs' prompts without an object."""
    for relation, subject in _drawn(pairs, _name):
        request = templates.request(subject, relation, "")
        if _fits(loaded, request, ""):
            yield request


def _told(
    ledger: Ledger, templates: Templates, loaded: LoadedModel, facts: dict[Pair, list[FactRow]]
) -> Iterator[EditRequest]:
    """Yield a request for each pair's facts: its first object is the target, the others and their names are aliases."""
    names = aliases(ledger, {fact.object_key for rows in facts.values() for fact in rows})
    for (relation, subject), rows in facts.items():
        objects = dict.fromkeys(name for fact in rows for name in (fact.object_label, *names.get(fact.object_key, ())))
        request = templates.request(subject, relation, "")
        fitting = [name for name in objects if _fits(loaded, request, name)]
        if fitting:
            yield replace(request, target=fitting[0], aliases=tuple(fitting[1:]))


def _fits(loaded: LoadedModel, request: EditRequest, name: str) -> bool:
    try:
        (placed,) = locate(loaded.tokenizer, [(request.prompt, request.subject, name)])
    except KbsyncError:
        return False
    return loaded.positions is None or len(placed.ids) <= loaded.positions
