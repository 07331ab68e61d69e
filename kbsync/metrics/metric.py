"""What is measured and what a metric is: cases, what a model answers to them, and what a metric makes of that.

Counterfactual requests: facts that a model knows, each with another object that its relation has.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from unicodedata import normalize

from kbsync.facts import EditRequest
from kbsync.models import LoadedModel, TargetScore

Triple = tuple[str, str, str]
"""(template, subject, object)"""
Scorer = Callable[[LoadedModel, Sequence[Triple], Callable[[int], None]], list[TargetScore]]
"""`score_targets`, or what else knows how a model takes to targets"""
Told = Callable[[str], str]
"""a prompt with its subject -> what a reader is told before it, "" for nothing"""
Values = list[float | None]
"""a figure for each case, None where it has no prompt for it"""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A prompt that an edit is not about, mostly on an unedited subject of its relation, and its own object."""

    prompt: str
    subject: str
    object: str


@dataclass(frozen=True, slots=True)
class Ripple:
    """A question on what follows from an edit, or on what is to stay beside it."""

    kind: str
    """one of `ripple.KINDS`"""
    prompt: str
    names: tuple[str, ...]
    """the right answer, and its aliases"""
    wrong: str = ""
    """the answer that the right one is to be likelier than; "": the right one is to be said"""


@dataclass(frozen=True, slots=True)
class Case:
    """An edit to measure: the request, the object before it (o^c; "" where none is named), and its neighbourhood."""

    request: EditRequest
    old: str
    neighbours: tuple[Neighbour, ...] = ()
    portability: tuple[Neighbour, ...] = ()
    """prompts whose object follows from the edit"""
    generation: tuple[str, ...] = ()
    """beginnings of free text about the subject"""
    references: tuple[str, ...] = ()
    """texts about the target, for that free text to be like"""
    ripples: tuple[Ripple, ...] = ()
    choices: tuple[str, ...] = ()
    """other objects of the relation, to be chosen among beside the new and the old one"""

    @property
    def longest_name(self) -> int:
        """Characters of the longest answer that may be right to one of the case's questions."""
        names = (*self.request.names, *(name for one in self.ripples for name in one.names))
        return max(len(normalize("NFC", name)) for name in names)


@dataclass(frozen=True, slots=True)
class Spoken:
    """A prompt that a model answers in its own words; `chat` puts it into the tokenizer's chat template."""

    text: str
    chat: bool = False


@dataclass(frozen=True, slots=True)
class Readings:
    """What a model, as it is, said to the cases."""

    scores: Mapping[Triple, TargetScore]
    texts: Mapping[str, str] = field(default_factory=dict)
    """generation prompt -> the prompt with the text generated after it"""
    chats: Mapping[tuple[str, str], TargetScore] = field(default_factory=dict)
    """(question, object) -> its score in a chat; none where the tokenizer has no chat template"""
    said: Mapping[Spoken, str] = field(default_factory=dict)
    """prompt -> the greedy answer; none of a chat's where the tokenizer has no chat template"""
    references: frozenset[str] = frozenset()
    """the reference texts of all cases"""

    def recalled(self, text: str, request: EditRequest) -> bool:
        """Tell whether the target, or an alias of it, is the top answer to a template."""
        scores = [self.scores.get((text, request.subject, name)) for name in request.names]
        return any(score is not None and score.exact for score in scores)


@dataclass(frozen=True, slots=True)
class CaseMetric:
    """A metric with a figure for each case; higher is better."""

    name: str
    value: Callable[[Case, Readings], float | None]
    triples: Callable[[Case], Iterable[Triple]] = lambda case: ()
    """the (template, subject, object) whose scores it reads"""
    wordings: Callable[[Case], Iterable[str]] = lambda case: ()
    """the templates on which it asks whether the request is recalled; aliases are scored where the target misses"""
    prompts: Callable[[Case], Iterable[str]] = lambda case: ()
    """the prompts whose generated texts it reads"""
    chats: Callable[[Case], Iterable[tuple[str, str]]] = lambda case: ()
    """the (question, object) whose scores in a chat it reads"""
    spoken: Callable[[Case], Iterable[Spoken]] = lambda case: ()
    """the prompts whose greedy answers it reads"""


def mean(values: Sequence[float]) -> float | None:
    """Return the mean of shares as a percentage; None of nothing."""
    return 100 * sum(values) / len(values) if values else None


NEIGHBOURS = 5  # neighbourhood prompts of a case at most; the paper's CounterFact has ten


def counterfacts(known: Sequence[EditRequest], count: int, seed: int = 0) -> list[Case]:
    """Return `count` of the `known` facts in a seeded order, each with another object that its relation has.

    Fewer where there are fewer. A smaller count is a prefix of a larger one, and a (relation, subject) comes once.
    """
    objects: dict[str, set[str]] = defaultdict(set)
    of_subject: dict[tuple[str, str], set[str]] = defaultdict(set)
    for request in known:
        objects[request.relation].add(request.target)
        of_subject[request.relation, request.subject].add(request.target)
    ordered = sorted(known, key=lambda request: request.id)
    random.Random(seed).shuffle(ordered)
    found: dict[tuple[str, str], Case] = {}
    for request in ordered:
        key = request.relation, request.subject
        others = sorted(objects[request.relation] - of_subject[key])
        if len(found) < count and key not in found and others:
            new = random.Random(f"{seed} {request.id}").choice(others)
            found[key] = Case(replace(request, target=new), request.target)
    return list(found.values())


def cases(edits: Sequence[Case], known: Sequence[EditRequest]) -> list[Case]:
    """Return the edits with neighbours, where they have none: known facts of the relation on unedited subjects."""
    edited = {(edit.request.relation, edit.request.subject) for edit in edits}
    unedited: dict[str, list[Neighbour]] = defaultdict(list)
    for fact in known:
        if (fact.relation, fact.subject) not in edited:
            unedited[fact.relation].append(Neighbour(fact.prompt, fact.subject, fact.target))
    return [one if one.neighbours else with_neighbours(one, unedited[one.request.relation]) for one in edits]


def with_neighbours(case: Case, others: Iterable[Neighbour]) -> Case:
    """Return the case with `NEIGHBOURS` of the others whose object is not the new one, fewer where there are fewer.

    Those whose object is o^c come first, as in the paper, then others in an order drawn from the request's id.
    """
    near = [one for one in others if one.object != case.request.target]
    random.Random(case.request.id).shuffle(near)
    near.sort(key=lambda one: one.object != case.old)
    return replace(case, neighbours=tuple(near[:NEIGHBOURS]))
