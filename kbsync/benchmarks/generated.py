"""A knowledge base of any size, made up: an RDF file in the shape of Wikidata's truthy dump (labels, ``wdt:`` triples).

The same numbers make the same file. A later edition differs from the first in a given share of the facts: of those,
eight in ten have another object, one in ten is gone and one in ten is new.
"""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["write_facts"]

FACTS_PER_SUBJECT = 5
OBJECTS = 5_000
HOMONYMS = 0.002
"""share of subjects that bear the label of the one before"""
CONTESTED = 0.002
"""share of facts that are a second object for the subject and relation before: conflicts (Eqn. 5)"""

_ENTITY = "http://www.wikidata.org/entity/Q"
_DIRECT = "http://www.wikidata.org/prop/direct/"
_LABEL = "http://www.w3.org/2000/01/rdf-schema#label"
_FIRST_SUBJECT = OBJECTS + 1


def write_facts(path: Path, facts: int, relations: Sequence[str], *, seed: int = 0, changed: float = 0.0) -> None:
    """Write `facts` facts of `relations` as N-Triples; `changed` is the share in which they differ from the first."""
    with path.open("w", encoding="ascii") as file:
        for thing in range(1, OBJECTS + 1):
            file.write(_label(thing, f"Thing {thing}"))
        file.writelines(_subjects(facts, relations, seed, changed))


def _subjects(facts: int, relations: Sequence[str], seed: int, changed: float) -> Iterator[str]:
    """Yield the lines of one subject after the other."""
    draw, later = random.Random(seed), random.Random(seed + 1)
    for subject in range(-(-facts // FACTS_PER_SUBJECT)):
        number = _FIRST_SUBJECT + subject
        yield _label(number, f"Subject {subject - 1 if draw.random() < HOMONYMS else subject}")
        chosen = draw.sample(relations, FACTS_PER_SUBJECT)
        for place in range(min(FACTS_PER_SUBJECT, facts - subject * FACTS_PER_SUBJECT)):
            relation = chosen[place - 1 if place and draw.random() < CONTESTED else place]
            thing = draw.randint(1, OBJECTS)
            if later.random() >= changed:
                yield _fact(number, relation, thing)
                continue
            kind = later.randrange(10)
            if kind < 8:
                yield _fact(number, relation, thing % OBJECTS + 1)
            elif kind == 8:
                yield _fact(number, relation, thing)
                yield _fact(_FIRST_SUBJECT + facts + subject, relation, thing)
                yield _label(_FIRST_SUBJECT + facts + subject, f"Newcomer {subject}")


def _label(number: int, text: str) -> str:
    return f'<{_ENTITY}{number}> <{_LABEL}> "{text}"@en .\n'


def _fact(subject: int, relation: str, thing: int) -> str:
    return f"<{_ENTITY}{subject}> <{_DIRECT}{relation}> <{_ENTITY}{thing}> .\n"
