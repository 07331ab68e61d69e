"""Whether a model knows a fact, by what it says; and the requests that edits on record were made of. Loads no torch.

Inverse facts: what the knowledge base states, told of its objects, to be edits of their own.

"The head of government of Albania is Edi Rama" makes "Edi Rama is the head of government of" Albania, where the
relation's template has that form. An inverse fact is recorded under the relation ``^P6`` and names the fact that it
is made of, with which it comes and goes.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from kbsync.conflicts import KEPT_OUT, Conflict, Settled, Statement, settle
from kbsync.errors import LedgerError
from kbsync.facts import INVERSE, EditRequest, Wording, is_inverse, normalise_label
from kbsync.ledger import EditRow, FactRow, Ledger
from kbsync.ledger.facts import aliases, own_wordings
from kbsync.templates import Templates

Answers = Callable[[Mapping[str, str]], Mapping[str, str]]
"""takes prompts with the objects that are hoped for, and gives prompt -> what the model says"""


def requests_of(ledger: Ledger, templates: Templates, edits: Sequence[EditRow]) -> list[EditRequest]:
    """Return the request that each edit wrote, with its object's aliases.

    Paraphrases, question and further wordings are the present ones of its fact or, where that has none of its own, its
    relation.
    """
    names = aliases(ledger, {edit.object_key for edit in edits})
    own = own_wordings(ledger, {edit.fact for edit in edits})
    found = []
    for edit in edits:
        worded = None if is_inverse(edit.relation) else own.get(edit.fact)
        now = templates.wording(edit.relation, worded) or Wording(edit.prompt)
        also = names.get(edit.object_key, ())
        request = EditRequest(
            edit.relation, edit.subject, edit.prompt, edit.object, now.paraphrases, now.question, also, now.wordings
        )
        if request.id != edit.request:
            raise LedgerError(
                f"{ledger.path} is damaged: edit {edit.id} ({edit.relation} of {edit.subject}) is not as it was"
                " written; restore a copy of it, or choose another --home (`kbsync verify` lists what else is wrong)"
            )
        found.append(request)
    return found


def fact_requests(ledger: Ledger, templates: Templates, facts: Sequence[FactRow]) -> list[EditRequest]:
    """Return the request, with its object's aliases, of each fact that a template or own wording puts into words."""
    names = aliases(ledger, {fact.object_key for fact in facts})
    return [
        templates.request(
            fact.subject_label, fact.relation, fact.object_label, names.get(fact.object_key, ()), fact.wording
        )
        for fact in facts
        if templates.wording(fact.relation, fact.wording) is not None
    ]


def prompt_of(request: EditRequest) -> str:
    return request.prompt.format(request.subject)


def known_among(requests: Sequence[EditRequest], answers: Answers) -> set[str]:
    """Return the ids of the requests whose fact a model knows by its `answers`; no answer counts as not known.

    It does if what it says begins with the object, or an alias of it, on the edit prompt and on most paraphrases. Those
    are asked for only where the edit prompt gives the object.
    """
    said = answers({prompt_of(request): request.target for request in requests})
    likely = [request for request in requests if says(said.get(prompt_of(request), ""), request)]
    others = {one.id: [text.format(one.subject) for text in one.paraphrases] for one in likely}
    said = answers({prompt: request.target for request in likely for prompt in others[request.id]})
    known = set()
    for request in likely:
        right = [says(said.get(prompt, ""), request) for prompt in others[request.id]]
        if not right or 2 * sum(right) > len(right):
            known.add(request.id)
    return known


def says(answer: str, request: EditRequest) -> bool:
    """Tell whether an answer begins with a request's target, or with an alias of it."""
    return any(begins_with(answer, name) for name in request.names)


def begins_with(answer: str, label: str) -> bool:
    """Tell whether an answer begins with a label, as a whole word; case and spaces do not matter."""
    said, wanted = normalise_label(answer), normalise_label(label)
    return said.startswith(wanted) and not said[len(wanted) : len(wanted) + 1].isalnum()


def is_called(name: str, label: str | None, key: str | None, other_names: Sequence[str]) -> bool:
    """Tell whether a thing has this name, by its label, key or another name; case and spaces do not matter."""
    names = {normalise_label(text) for text in (label, key, *other_names) if text is not None}
    return normalise_label(name) in names


def inverse_facts(facts: Mapping[int, FactRow], settled: Settled, templates: Templates) -> dict[int, FactRow]:
    """Return each fact that is kept and has an inverse, told of its object, under the fact's own id.

    Facts in words of their own have none.
    """
    kept = (facts[one.ref] for one in settled.kept)
    return {
        fact.id: replace(
            fact,
            relation=INVERSE + fact.relation,
            subject_key=fact.object_key,
            subject_label=fact.object_label,
            subject_id=fact.object_id,
            object_key=fact.subject_key,
            object_label=fact.subject_label,
            object_id=fact.subject_id,
        )
        for fact in kept
        if fact.wording is None and INVERSE + fact.relation in templates
    }


def settle_inverses(statements: Sequence[Statement], stated: Settled) -> Settled:
    """Settle inverse statements: an object of several subjects has no single inverse, whatever the policy.

    What the knowledge base `stated` itself in the same prompt goes before: an inverse that says the same is left out,
    one that does not is in conflict with it.
    """
    settled, conflicts = settle(statements, "out"), []
    for conflict in settled.conflicts:
        if conflict.kind == "objects":
            names = ", ".join(thing.label for thing in conflict.objects[:_SHOWN])
            more = f" and {len(conflict.objects) - _SHOWN} more" if len(conflict.objects) > _SHOWN else ""
            what = f"{conflict.subject} is {conflict.relation.removeprefix(INVERSE)} of {names}{more}"
            conflict = replace(conflict, reason=f"no single inverse: {what}")
        conflicts.append(conflict)
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


_SHOWN = 5
