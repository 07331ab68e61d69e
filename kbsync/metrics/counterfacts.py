"""Counterfactual requests: facts that a model knows, each with another object that its relation has."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kbsync.facts import EditRequest
from kbsync.metrics.metric import Case, Neighbour

NEIGHBOURS = 5
"""neighbourhood prompts of a case at most"""


@dataclass(frozen=True, slots=True)
class Counterfact:
    """A request for a new object (o*) in place of the one that is known (o^c)."""

    request: EditRequest
    old: str


def counterfacts(known: Sequence[EditRequest], count: int, seed: int = 0) -> list[Counterfact]:
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
    found: dict[tuple[str, str], Counterfact] = {}
    for request in ordered:
        key = request.relation, request.subject
        others = sorted(objects[request.relation] - of_subject[key])
        if len(found) < count and key not in found and others:
            new = random.Random(f"{seed} {request.id}").choice(others)
            found[key] = Counterfact(replace(request, target=new), request.target)
    return list(found.values())


def cases(edits: Sequence[Counterfact], known: Sequence[EditRequest]) -> list[Case]:
    """Return a case for each edit; its neighbours are known facts of the relation whose subjects are not edited.

    Neighbours whose object is o^c come first, as in the paper, then others in an order drawn from the request's id.
    """
    edited = {(edit.request.relation, edit.request.subject) for edit in edits}
    unedited: dict[str, list[EditRequest]] = defaultdict(list)
    for fact in known:
        if (fact.relation, fact.subject) not in edited:
            unedited[fact.relation].append(fact)
    made = []
    for edit in edits:
        near = [fact for fact in unedited[edit.request.relation] if fact.target != edit.request.target]
        random.Random(edit.request.id).shuffle(near)
        near.sort(key=lambda fact, old=edit.old: fact.target != old)  # type: ignore[misc]
        neighbours = tuple(Neighbour(fact.prompt, fact.subject, fact.target) for fact in near[:NEIGHBOURS])
        made.append(Case(edit.request, edit.old, neighbours))
    return made
