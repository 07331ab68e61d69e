"""Inverse facts: what the knowledge base states, told of its objects, to be edits of their own.

"The head of government of Albania is Edi Rama" makes "Edi Rama is the head of government of" Albania, where the
relation's template has that form. An inverse fact is recorded under the relation ``^P6`` and names the fact that it
is made of, with which it comes and goes.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from kbsync.conflicts import KEPT_OUT, Conflict, Settled, Statement, settle
from kbsync.facts import INVERSE, normalise_label
from kbsync.ledger import FactRow
from kbsync.templates import Templates


def inverse_facts(facts: Mapping[int, FactRow], settled: Settled, templates: Templates) -> dict[int, FactRow]:
    """Return the inverse of each fact that is kept and has one, under the fact's own id.

    Facts in words of their own have none.
    """
    return {
        kept.ref: inverse_fact(facts[kept.ref])
        for kept in settled.kept
        if facts[kept.ref].wording is None and INVERSE + kept.fact.relation in templates
    }


def inverse_fact(fact: FactRow) -> FactRow:
    """Return a fact told of its object."""
    return replace(
        fact,
        relation=INVERSE + fact.relation,
        subject_key=fact.object_key,
        subject_label=fact.object_label,
        subject_id=fact.object_id,
        object_key=fact.subject_key,
        object_label=fact.subject_label,
        object_id=fact.subject_id,
    )


def settle_inverses(statements: Sequence[Statement], stated: Settled) -> Settled:
    """Settle inverse statements: an object of several subjects has no single inverse, whatever the policy.

    What the knowledge base `stated` itself in the same prompt goes before: an inverse that says the same is left out,
    one that does not is in conflict with it.
    """
    settled = settle(statements, "out")
    conflicts = [replace(conflict, reason=reason(conflict)) for conflict in settled.conflicts]
    told: dict[str | None, list[Statement]] = defaultdict(list)
    for one in (*stated.kept, *(one for conflict in stated.conflicts for one in conflict.statements)):
        told[one.prompt and normalise_label(one.prompt)].append(one)
    kept = []
    for one in settled.kept:
        same = told.get(one.prompt and normalise_label(one.prompt), [])
        if not same:
            kept.append(one)
        elif {normalise_label(other.fact.object.label) for other in same} != {normalise_label(one.fact.object.label)}:
            fact, things = one.fact, ", ".join(dict.fromkeys(other.fact.object.label for other in same))
            why = f"{same[0].fact.relation} of {fact.subject.label} is stated: {things}"
            conflicts.append(Conflict(fact.relation, fact.subject.label, (one,), "prompt", why, KEPT_OUT))
    return Settled(tuple(kept), tuple(conflicts), settled.merged)


def reason(conflict: Conflict) -> str:
    """Return why the inverses in a conflict are set aside."""
    if conflict.kind != "objects":
        return conflict.reason
    names = ", ".join(thing.label for thing in conflict.objects[:_SHOWN])
    more = f" and {len(conflict.objects) - _SHOWN} more" if len(conflict.objects) > _SHOWN else ""
    relation = conflict.relation.removeprefix(INVERSE)
    return f"no single inverse: {conflict.subject} is {relation} of {names}{more}"


_SHOWN = 5
