"""Data sets in the field's forms, made of facts that the practice model knows: CounterFact's, and zsRE's by MEND.

Sentences made from facts: what the practice model is trained on, and its corpus for covariances.
"""

import json
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kbsync.facts import EditRequest


@dataclass(frozen=True, slots=True)
class Sentence:
    """One wording of one fact: `text` up to the object, then the object and a full stop."""

    text: str
    object: str

    def __str__(self) -> str:
        return f"{self.text} {self.object}."


def sentences(requests: Iterable[EditRequest]) -> list[Sentence]:
    """Word every request in each of its ways: edit prompt, paraphrases, question."""
    made = []
    for request in requests:
        for wording in (request.prompt, *request.paraphrases):
            made.append(Sentence(wording.format(request.subject), request.target))
        made.append(Sentence(f"Question: {request.question.format(request.subject)} Answer:", request.target))
    return made


def corpus_text(requests: Sequence[EditRequest], seed: int = 0) -> str:
    """Return all sentences in a seeded order, four to a line, as ordinary text."""
    texts = [str(sentence) for sentence in sentences(requests)]
    random.Random(seed).shuffle(texts)
    return "\n".join(" ".join(texts[start : start + 4]) for start in range(0, len(texts), 4)) + "\n"


NEIGHBOURS = 10
ATTRIBUTES = 5
PARAPHRASES = 2

Object = tuple[str, str]
"""(relation, object)"""


def counterfact_records(known: Sequence[EditRequest], count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return `count` records (fewer where there are fewer facts) in CounterFact's form, in a seeded order.

    Each asks for another object that the relation has. Its neighbourhood are facts with the same object before the
    edit that no record edits: half of an object's facts are kept for it, and the only fact of an object is not edited.
    Two of the paraphrases stand behind a sentence about something else, the others begin free text.
    """
    known = sorted(known, key=lambda fact: fact.id)
    edited, kept = split(known, count, seed, alone=False)
    by_object, kept_by_object = group(known), group(kept)
    records: list[dict[str, Any]] = []
    for fact, new, rng in edits(known, edited, seed):
        wordings = rng.sample([text.format(fact.subject) for text in fact.paraphrases], len(fact.paraphrases))
        near, alike = kept_by_object.get((fact.relation, fact.target), []), by_object[fact.relation, new]
        records.append(
            {
                "case_id": len(records),
                "requested_rewrite": {
                    "prompt": fact.prompt,
                    "relation_id": fact.relation,
                    "target_new": {"str": new},
                    "target_true": {"str": fact.target},
                    "subject": fact.subject,
                },
                "paraphrase_prompts": [
                    f"{aside(fact, new, kept, rng)} {wording}" for wording in wordings[:PARAPHRASES]
                ],
                "neighborhood_prompts": prompts(rng.sample(near, min(NEIGHBOURS, len(near)))),
                "attribute_prompts": prompts(rng.sample(alike, min(ATTRIBUTES, len(alike)))),
                "generation_prompts": wordings[PARAPHRASES:],
            }
        )
    return records


def zsre_records(known: Sequence[EditRequest], count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return `count` records (fewer where there are fewer facts) in MEND's form of zsRE, in a seeded order.

    `src` is the question form, `rephrase` one of the paraphrases, the answer another object that the relation has
    (`alt` is the one before), and `loc` asks for a fact of another relation that no record edits.
    """
    known = sorted(known, key=lambda fact: fact.id)
    edited, kept = split(known, count, seed)
    records: list[dict[str, Any]] = []
    for fact, new, rng in edits(known, edited, seed):
        other = rng.choice([one for one in kept if one.relation != fact.relation and one.subject != fact.subject])
        records.append(
            {
                "subject": fact.subject,
                "src": f"Question: {fact.question.format(fact.subject)} Answer:",
                "rephrase": rng.choice(fact.paraphrases).format(fact.subject),
                "alt": fact.target,
                "answers": [new],
                "loc": f"nq question: {other.question.format(other.subject)} Answer:",
                "loc_ans": other.target,
            }
        )
    return records


def edits(
    known: Sequence[EditRequest], edited: Sequence[EditRequest], seed: int
) -> Iterator[tuple[EditRequest, str, random.Random]]:
    """Yield each edited fact whose relation has another object, with that one and a source of draws; by its id both."""
    objects: dict[str, set[str]] = defaultdict(set)
    own: dict[tuple[str, str], set[str]] = defaultdict(set)
    for fact in known:
        objects[fact.relation].add(fact.target)
        own[fact.relation, fact.subject].add(fact.target)
    for fact in edited:
        if others := sorted(objects[fact.relation] - own[fact.relation, fact.subject]):
            new = random.Random(f"{seed} new {fact.id}").choice(others)
            yield fact, new, random.Random(f"{seed} {fact.id}")


def json_text(records: Sequence[Mapping[str, Any]]) -> str:
    """Return records as a JSON array, compact, a record a line."""
    lines = (json.dumps(record, ensure_ascii=False, separators=(",", ":")) for record in records)
    return "[\n" + ",\n".join(lines) + "\n]\n"


def split(
    known: Sequence[EditRequest], count: int, seed: int, *, alone: bool = True
) -> tuple[list[EditRequest], list[EditRequest]]:
    """Part facts into `count` to edit, in a seeded order, and the rest; of each object's facts half stay unedited.

    Those that are the only one of their object come in last, and without `alone` they are not edited.
    """
    rng = random.Random(seed)
    near, single = [], []
    for facts in group(rng.sample(known, len(known))).values():
        near += facts[: len(facts) // 2]
        single += facts if alone and len(facts) == 1 else []
    edited = [*near, *single][:count]
    taken = {fact.id for fact in edited}
    return rng.sample(edited, len(edited)), [fact for fact in known if fact.id not in taken]


def group(facts: Iterable[EditRequest]) -> dict[Object, list[EditRequest]]:
    """Return facts by relation and object."""
    found: dict[Object, list[EditRequest]] = defaultdict(list)
    for fact in facts:
        found[fact.relation, fact.target].append(fact)
    return dict(found)


def aside(fact: EditRequest, new: str, kept: Sequence[EditRequest], rng: random.Random) -> str:
    """Return a true sentence about another subject and relation, which names nothing that the edit is about."""
    while True:
        other = rng.choice(kept)
        text = str(Sentence(rng.choice((other.prompt, *other.paraphrases)).format(other.subject), other.target))
        if other.relation != fact.relation and not any(name in text for name in (fact.subject, fact.target, new)):
            return text


def prompts(facts: Sequence[EditRequest]) -> list[str]:
    return [fact.prompt.format(fact.subject) for fact in facts]
