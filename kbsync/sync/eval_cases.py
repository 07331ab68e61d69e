"""What `eval` measures: the active edits of a home, or the records of a data set, as cases."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from heapq import nsmallest
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

from kbsync.datasets import DataSet, Expected, Record
from kbsync.facts import EditRequest, normalise_label
from kbsync.ledger import Ledger, ModelRow
from kbsync.metrics import Case, Neighbour
from kbsync.sync.base_answers import other_answers
from kbsync.sync.choice import ModelChoice
from kbsync.sync.edit_requests import requests_of
from kbsync.sync.measuring import cases_for
from kbsync.sync.progress import Progress
from kbsync.sync.references import References, fact_references, record_references
from kbsync.sync.templates import templates_for

__all__ = ["case_of", "dataset_cases", "ledger_cases"]

GENERATIONS = 3
"""paraphrases of an edit that begin free text"""

Item = TypeVar("Item")


def drawn(items: Iterable[Item], count: int | None, seed: int) -> list[Item]:
    """Return `count` of the items (None: all) in their order; a smaller count is a part of a larger one."""
    if count is None:
        return list(items)
    keyed = ((random.Random(f"{seed} {place}").random(), place, item) for place, item in enumerate(items))
    return [item for _, _, item in sorted(nsmallest(count, keyed, key=itemgetter(0, 1)), key=itemgetter(1))]


def dataset_cases(
    dataset: DataSet, count: int | None = None, seed: int = 0, references: References | None = None
) -> list[Case]:
    """Return `count` cases of a data set, drawn by `seed` (None: all).

    References, where none are given, are the sentences of the drawn records' own prompts. Raises DataSetError.
    """
    records = drawn(dataset, count, seed)
    texts = record_references(records) if references is None else references
    return [with_references(case_of(record), texts) for record in records]


def case_of(record: Record) -> Case:
    """Return a record as a case."""
    near, follows = whole(record.neighbourhood), whole(record.portability)
    return Case(record.request, record.old, near, follows, record.generation)


def whole(expected: Sequence[Expected]) -> tuple[Neighbour, ...]:
    """Return whole prompts as neighbours: all of a prompt stands for the subject."""
    return tuple(Neighbour("{}", one.prompt, one.object) for one in expected)


def with_references(case: Case, texts: References) -> Case:
    """Return the case with the texts about its target."""
    return replace(case, references=tuple(texts.get(normalise_label(case.request.target), ())))


def ledger_cases(
    ledger: Ledger,
    home: Path,
    choice: ModelChoice,
    model: ModelRow,
    count: int | None,
    seed: int,
    references: References | None,
    progress: Progress,
) -> list[Case]:
    """Return `count` of a model's active edits, drawn by `seed` (None: all), as cases; the base model is loaded.

    o^c is what the base says; where that is the edit's object, its next likeliest answer. The neighbourhood are facts
    of the relation whose subjects are not edited; references, where none are given, the sentences of all facts.
    """
    templates, active = templates_for(home), ledger.active_edits(model.key)
    edited = {(edit.relation, edit.subject) for edit in active}
    edits = drawn(active, count, seed)
    requests = requests_of(ledger, templates, edits)
    old = other_answers(ledger, choice, model, requests, progress)
    facts = ledger.facts(withdrawn=False)
    texts = fact_references(facts, templates) if references is None else references
    return [
        with_references(replace(case, generation=generation_of(case.request)), texts)
        for case in cases_for(requests, old, facts, edited, templates)
    ]


def generation_of(request: EditRequest) -> tuple[str, ...]:
    """Return the beginnings of free text about an edit's subject."""
    texts = request.paraphrases[:GENERATIONS] or (request.prompt,)
    return tuple(text.format(request.subject) for text in texts)
