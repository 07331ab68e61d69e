"""Counterfactual requests in numbers for each subject: what `bench groups` edits, and as many single ones."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from kbsync.facts import EditRequest
from kbsync.metrics.counterfacts import Counterfact, counterfacts

__all__ = ["group_edits", "new_relations", "single_edits"]

Answers = Callable[[Sequence[str]], Sequence[str]]
"""prompts -> what the base model says"""


def group_edits(
    known: Sequence[EditRequest], objects: int, subjects: int, answers: Answers, seed: int = 0
) -> list[Counterfact]:
    """Return `objects` edits for each of `subjects` subjects at most, in a seeded order.

    They are new objects for relations of which the model knows the subject's fact, as far as there are so many.
    Where no subject has enough, those with the most are taken, and their other edits are of relations new to them.
    """
    of_subject = facts_by_subject(known, seed)
    rng = random.Random(f"{seed} {objects}")
    names = rng.sample(sorted(of_subject), len(of_subject))
    names.sort(key=lambda name: -min(objects, len(of_subject[name])))
    edits: list[Counterfact] = []
    for name in names[:subjects]:
        own = of_subject[name]
        edits += [own[relation] for relation in rng.sample(sorted(own), min(objects, len(own)))]
        if len(own) < objects:
            edits += additions(known, name, objects - len(own), answers, rng)
    return edits


def facts_by_subject(known: Sequence[EditRequest], seed: int) -> dict[str, dict[str, Counterfact]]:
    """Return subject -> relation -> its edit."""
    found: dict[str, dict[str, Counterfact]] = defaultdict(dict)
    for edit in counterfacts(known, len(known), seed):
        found[edit.request.subject][edit.request.relation] = edit
    return found


def additions(
    known: Sequence[EditRequest], subject: str, count: int, answers: Answers, rng: random.Random
) -> list[Counterfact]:
    """Return edits of `count` relations that `subject` has no known fact of; o^c is the base model's answer."""
    by_relation: Mapping[str, list[EditRequest]] = defaultdict(list)
    for fact in known:
        by_relation[fact.relation].append(fact)
    absent = [relation for relation, facts in sorted(by_relation.items()) if subject not in {f.subject for f in facts}]
    chosen = [by_relation[relation] for relation in rng.sample(absent, min(count, len(absent)))]
    asked = [facts[0].prompt.format(subject) for facts in chosen]
    edits = []
    for facts, answer in zip(chosen, answers(asked), strict=True):
        objects = sorted({fact.target for fact in facts} - {answer})
        edits.append(Counterfact(replace(facts[0], subject=subject, target=rng.choice(objects)), answer))
    return edits


def new_relations(known: Sequence[EditRequest], edits: Sequence[Counterfact]) -> int:
    """Return how many edits are of a relation that their subject has no known fact of."""
    facts = {(fact.relation, fact.subject) for fact in known}
    return sum((edit.request.relation, edit.request.subject) not in facts for edit in edits)


def single_edits(known: Sequence[EditRequest], like: Sequence[Counterfact], seed: int = 0) -> list[Counterfact]:
    """Return as many edits as `like` has, no subject twice, of the same relations as far as there are subjects.

    Fewer where `known` has fewer subjects.
    """
    wanted = Counter(edit.request.relation for edit in like)
    pool = counterfacts(known, len(known), seed)
    of_relation: dict[str, list[Counterfact]] = defaultdict(list)
    for edit in pool:
        of_relation[edit.request.relation].append(edit)
    taken: dict[str, Counterfact] = {}
    # Relations with the least to spare choose first.
    for relation in sorted(wanted, key=lambda relation: (len(of_relation[relation]) - wanted[relation], relation)):
        free = [edit for edit in of_relation[relation] if edit.request.subject not in taken]
        taken |= {edit.request.subject: edit for edit in free[: wanted[relation]]}
    for edit in pool:
        if len(taken) == len(like):
            break
        taken.setdefault(edit.request.subject, edit)
    return list(taken.values())
