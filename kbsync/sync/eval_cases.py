"""What `eval` measures: the active edits of a home, or the records of a data set, as cases with texts about objects."""

import json
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from heapq import nsmallest
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

from kbsync.datasets import DataSet, Expected, Record
from kbsync.errors import SettingsError, SourceError
from kbsync.facts import EditRequest, is_inverse, normalise_label
from kbsync.files import is_text, read_text
from kbsync.ledger import FactRow, Ledger, ModelRow
from kbsync.metrics import Case, Neighbour, Ripple
from kbsync.sync.answers import other_answers
from kbsync.sync.home import Progress, templates_for
from kbsync.sync.known import requests_of
from kbsync.sync.measure import cases_for
from kbsync.sync.model import ModelChoice
from kbsync.sync.ripples import ripples_of
from kbsync.templates import Templates

References = Mapping[str, Sequence[str]]
"""normalised label of an object -> texts about it"""


def fact_references(facts: Iterable[FactRow], templates: Templates) -> References:
    """Return the sentences that templates and own wordings make of facts, each under its object and its subject."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for fact in facts:
        told = templates.wording(fact.relation, fact.wording)
        for text in (told.prompt, *told.paraphrases) if told else ():
            sentence = f"{text.format(fact.subject_label)} {fact.object_label}."
            for label in (fact.object_label, fact.subject_label):
                found[normalise_label(label)][sentence] = None
    return {label: list(texts) for label, texts in found.items()}


def record_references(records: Iterable[Record]) -> References:
    """Return the sentences that a data set's attribute and neighbourhood prompts make with their objects."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for record in records:
        stated = [(prompt, record.request.target) for prompt in record.attributes]
        stated += [(near.prompt, near.object) for near in record.neighbourhood]
        for prompt, thing in stated:
            found[normalise_label(thing)][f"{prompt} {thing}."] = None
    return {label: list(texts) for label, texts in found.items()}


def read_references(path: Path) -> References:
    """Read ``{object: text or list of texts}`` from a JSON file, or a folder's ``OBJECT.txt`` files.

    Raises SettingsError where there is neither, or a text is none.
    """
    try:
        if path.is_dir():
            texts = {file.stem: [read_text(file)] for file in sorted(path.glob("*.txt"))}
        else:
            texts = json_references(json.loads(read_text(path)))
    except SourceError as error:
        raise SettingsError(f"--references {error}") from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"--references {path}: {error}") from error
    if not texts:
        raise SettingsError(f"--references {path}: no text in it; a folder needs OBJECT.txt files")
    return {normalise_label(label): found for label, found in texts.items()}


def json_references(value: object) -> dict[str, list[str]]:
    """Return the texts of each object of the JSON form; raise ValueError where it is another."""
    if not isinstance(value, dict):
        raise ValueError('the form must be {"object": ["text", ...], ...}')
    found = {label: [texts] if isinstance(texts, str) else texts for label, texts in value.items()}
    for label, texts in found.items():
        if not isinstance(texts, list) or not all(isinstance(text, str) and is_text(text) for text in texts):
            raise ValueError(f"what is said about {label!r} is neither a text nor a list of texts")
    return found


GENERATIONS = 3
"""paraphrases of an edit that begin free text"""
CHOICES = 2
"""objects that a question offers beside the new and the old one"""

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
    return with_choices([with_references(case_of(record), texts) for record in records])


def case_of(record: Record) -> Case:
    """Return a record as a case."""
    near, follows = whole(record.neighbourhood), whole(record.portability)
    ripples = tuple(Ripple(kind, one.prompt, (one.object, *one.aliases)) for kind, one in record.ripples)
    return Case(record.request, record.old, near, follows, record.generation, ripples=ripples)


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

    Inverse facts that are edited, too, are no cases of their own: each edit is asked for its inverse. o^c is what the
    base says; where that is the edit's object, its next likeliest answer. The neighbourhood are facts
    of the relation whose subjects are not edited; references, where none are given, the sentences of all facts.
    """
    templates, active = templates_for(home), ledger.active_edits(model.key)
    edited = {(edit.relation, edit.subject) for edit in active}
    edits = drawn([edit for edit in active if not is_inverse(edit.relation)], count, seed)
    requests = requests_of(ledger, templates, edits)
    old = other_answers(ledger, choice, model, requests, progress)
    facts = ledger.facts(withdrawn=False)
    texts = fact_references(facts, templates) if references is None else references
    ripples = ripples_of(ledger, templates, edits, requests, old, facts)
    cases = [
        with_references(replace(case, generation=generation_of(case.request), ripples=asked), texts)
        for case, asked in zip(cases_for(requests, old, facts, edited, templates), ripples, strict=True)
    ]
    return with_choices(cases, ((fact.relation, fact.object_label) for fact in facts))


def with_choices(cases: Sequence[Case], more: Iterable[tuple[str, str]] = ()) -> list[Case]:
    """Return the cases with `CHOICES` objects to be chosen among, of all those of the relation; `more` has some.

    Which ones is drawn from the request; the new object, its aliases and the old one are none of them.
    """
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for case in cases:
        named = (case.request.target, case.old, *(near.object for near in case.neighbours))
        found[case.request.relation] |= dict.fromkeys(filter(None, named))
    for relation, thing in more:
        found[relation][thing] = None
    chosen = []
    for case in cases:
        own = {normalise_label(name) for name in (*case.request.names, case.old)}
        others = sorted(name for name in found[case.request.relation] if normalise_label(name) not in own)
        few = random.Random(case.request.id).sample(others, min(CHOICES, len(others)))
        chosen.append(replace(case, choices=tuple(few)))
    return chosen


def generation_of(request: EditRequest) -> tuple[str, ...]:
    """Return the beginnings of free text about an edit's subject."""
    texts = request.paraphrases[:GENERATIONS] or (request.prompt,)
    return tuple(text.format(request.subject) for text in texts)
