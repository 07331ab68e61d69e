"""What `eval` measures: the active edits of a home, or the records of a data set, as cases with texts about objects.

What follows from each edit, and what is to stay beside it, asked from the knowledge base itself.

Text that no edit is about, and the figures over it.
"""

import json
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import nsmallest
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

from kbsync.datasets import DataSet, Record
from kbsync.errors import SettingsError, SourceError
from kbsync.facts import EditRequest, is_inverse, normalise_label
from kbsync.files import is_text, read_text
from kbsync.ledger import EditRow, FactRow, Ledger
from kbsync.ledger.facts import aliases
from kbsync.metrics import Case, Figure, Neighbour, Ripple, line_losses, perplexity_figure
from kbsync.sync.answers import other_answers
from kbsync.sync.corpus import corpus_name, covariance_documents, documents, held_out_documents
from kbsync.sync.home import Progress
from kbsync.sync.known import prompt_of, requests_of
from kbsync.sync.measure import PERPLEXITY_LINES, cases_for, first_tokens
from kbsync.sync.model import ModelChoice, Session
from kbsync.templates import Templates

MOST = 3
"""questions of a kind for an edit"""


class Around:
    """The facts of a ledger that edits touch, by subject and by object."""

    def __init__(
        self, ledger: Ledger, templates: Templates, edits: Sequence[EditRow], facts: Sequence[FactRow]
    ) -> None:
        self.templates = templates
        self.by_subject: dict[str, list[FactRow]] = defaultdict(list)
        self.by_object: dict[str, list[FactRow]] = defaultdict(list)
        keys = touched = {key for edit in edits for key in (edit.subject_key, edit.object_key)}
        for fact in facts:
            # What a data set asks for in words of its own is not what holds.
            if fact.wording is None and fact.relation in templates and {fact.subject_key, fact.object_key} & touched:
                self.by_subject[fact.subject_key].append(fact)
                self.by_object[fact.object_key].append(fact)
                keys = keys | {fact.subject_key, fact.object_key}
        self.aliases = aliases(ledger, keys)

    def names(self, key: str, label: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys((label, *self.aliases.get(key, ()))))

    def told(self, subject: str, facts: Iterable[FactRow]) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield each relation's prompt about what is called `subject`, with the names of all objects."""
        found: dict[str, dict[str, None]] = defaultdict(dict)
        for fact in facts:
            found[fact.relation] |= dict.fromkeys(self.names(fact.object_key, fact.object_label))
        for relation, names in sorted(found.items()):
            yield self.templates.require(relation).prompt.format(subject), tuple(names)

    def questions(self, edit: EditRow, request: EditRequest, old: str) -> Iterator[Ripple]:
        """Yield an edit's questions, at most `MOST` of a kind; `old` is the object before it."""
        template = self.templates.get(edit.relation)
        if template is not None and template.inverse:  # every subject of the object is right
            same = [fact for fact in self.by_object[edit.object_key] if fact.relation == edit.relation]
            subjects = [(edit.subject_key, edit.subject), *((fact.subject_key, fact.subject_label) for fact in same)]
            names = dict.fromkeys(name for subject in subjects for name in self.names(*subject))
            yield Ripple("inverse", template.inverse.format(edit.object), tuple(names))
        for name in self.names(edit.subject_key, edit.subject)[1 : MOST + 1]:
            yield Ripple("alias", request.prompt.replace("{}", name, 1), request.names)
        # What holds of the object, named by the subject, and the edit itself of a subject that a fact names.
        hops: list[tuple[str, tuple[str, ...]]] = []
        if template is not None:
            hops += self.told(f"the {template.label} of {edit.subject}", self.by_subject[edit.object_key])
        for fact in self.by_object[edit.subject_key]:
            subject = f"the {self.templates.require(fact.relation).label} of {fact.subject_label}"
            hops.append((request.prompt.replace("{}", subject, 1), request.names))
        # What the knowledge base says of the subject in other relations.
        others = (fact for fact in self.by_subject[edit.subject_key] if fact.relation != edit.relation)
        for kind, asked in (("two_hops", hops), ("same_subject", self.told(edit.subject, others))):
            for prompt, names_of in islice(asked, MOST):
                yield Ripple(kind, prompt, names_of)
        for thing, holds in ((request.target, True), (old, False)):  # told as it is, and denied
            if thing:
                told = f'"{prompt_of(request)} {thing}." Answer:'
                yield Ripple("true_false", f"True or false: {told}", (str(holds),), str(not holds))
                yield Ripple("negation", f"True or false: it is wrong that {told}", (str(not holds),), str(holds))


References = Mapping[str, Sequence[str]]
"""normalised label of an object -> texts about it"""


def fact_references(facts: Iterable[FactRow], templates: Templates) -> References:
    """Return the sentences that templates and own wordings make of facts, each under its object and its subject."""
    return texts_by_label(
        (label, f"{text.format(fact.subject_label)} {fact.object_label}.")
        for fact in facts
        if (told := templates.wording(fact.relation, fact.wording))
        for text in (told.prompt, *told.paraphrases)
        for label in (fact.object_label, fact.subject_label)
    )


def record_references(records: Iterable[Record]) -> References:
    """Return the sentences that a data set's attribute and neighbourhood prompts make with their objects."""
    stated = (
        (prompt, thing)
        for record in records
        for prompt, thing in (
            *((prompt, record.request.target) for prompt in record.attributes),
            *((near.prompt, near.object) for near in record.neighbourhood),
        )
    )
    return texts_by_label((thing, f"{prompt} {thing}.") for prompt, thing in stated)


def texts_by_label(told: Iterable[tuple[str, str]]) -> References:
    """Return (label, text) pairs by normalised label, each text once."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for label, text in told:
        found[normalise_label(label)][text] = None
    return {label: list(texts) for label, texts in found.items()}


def read_references(path: Path) -> References:
    """Read ``{object: text or list of texts}`` from a JSON file, or a folder's ``OBJECT.txt`` files."""
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

    References, where none are given, are the sentences of the drawn records' own prompts.
    """
    records = drawn(dataset, count, seed)
    texts = record_references(records) if references is None else references
    return with_choices([with_references(case_of(record), texts) for record in records])


def case_of(record: Record) -> Case:
    # All of a whole prompt stands for the subject.
    near, follows = (
        tuple(Neighbour("{}", one.prompt, one.object) for one in expected)
        for expected in (record.neighbourhood, record.portability)
    )
    ripples = tuple(Ripple(kind, one.prompt, (one.object, *one.aliases)) for kind, one in record.ripples)
    return Case(record.request, record.old, near, follows, record.generation, ripples=ripples)


def with_references(case: Case, texts: References) -> Case:
    return replace(case, references=tuple(texts.get(normalise_label(case.request.target), ())))


def ledger_cases(work: Session, count: int | None, seed: int, references: References | None) -> list[Case]:
    """Return `count` of a model's active edits, drawn by `seed` (None: all), as cases.

    Inverse facts that are edited, too, are no cases of their own: each edit is asked for its inverse. o^c is what the
    base says; where that is the edit's object, its next likeliest answer. The neighbourhood are facts
    of the relation whose subjects are not edited; references, where none are given, the sentences of all facts.
    """
    ledger, templates, active = work.ledger, work.templates, work.ledger.active_edits(work.model.key)
    edited = {(edit.relation, edit.subject) for edit in active}
    edits = drawn([edit for edit in active if not is_inverse(edit.relation)], count, seed)
    requests = requests_of(ledger, templates, edits)
    old = other_answers(work, requests)
    facts = ledger.facts(withdrawn=False)
    texts = fact_references(facts, templates) if references is None else references
    around, cases = Around(ledger, templates, edits, facts), []
    for edit, case in zip(edits, cases_for(requests, old, facts, edited, templates), strict=True):
        request = case.request
        asked = tuple(around.questions(edit, request, old.get(request.id, "")))
        begin = [text.format(request.subject) for text in request.paraphrases[:GENERATIONS] or (request.prompt,)]
        cases.append(with_references(replace(case, generation=tuple(begin), ripples=asked), texts))
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


@dataclass(frozen=True, slots=True)
class HeldOut:
    corpus: str
    """its name"""
    lines: tuple[str, ...]


def held_out(choice: ModelChoice, corpus: Path | None, *, few: bool = False) -> HeldOut:
    """Return the first lines of `corpus`, or those of the model's own that its covariance was not taken over.

    With `few`, those that an apply measures perplexity on. SettingsError where there is none, or no text.
    """
    read = corpus or choice.corpus
    if read is None:
        raise SettingsError(f"{choice.name} has no corpus: name held-out text with --corpus")
    texts = documents(corpus) if corpus else held_out_documents(read)
    lines = tuple(line for line in islice(texts, PERPLEXITY_LINES) if line.strip())
    if not lines:
        raise SettingsError(f"corpus {read} has no text to measure")
    return HeldOut(corpus_name(read), tuple(first_tokens(choice.loaded, lines)) if few else lines)


def perplexity_of(choice: ModelChoice, text: HeldOut, seed: int, progress: Progress) -> Figure:
    """Return the perplexity of the model as it is. SettingsError where no line has two tokens."""
    progress("measuring perplexity", 0, 1)
    losses = line_losses(choice.loaded, text.lines, choice.settings.sequence_length)
    if not len(losses):
        raise SettingsError(f"corpus {text.corpus} has no line of two tokens to measure perplexity on")
    progress("measuring perplexity", 1, 1)
    return perplexity_figure(losses, seed)


TUNED_LINES = 400
"""what 50 steps of eight lines read"""


def other_text(choice: ModelChoice, corpus: Path | None, measured: HeldOut | None) -> list[str]:
    """Return lines to be tuned on, none of which is measured: of the model's own corpus, else the rest of `corpus`."""
    if choice.corpus is not None:
        texts = covariance_documents(choice.corpus)
    elif corpus is not None:
        texts = documents(corpus)
    else:
        return []
    seen = set(measured.lines if measured else ())
    return list(islice((text for text in texts if text.strip() and text not in seen), TUNED_LINES))
