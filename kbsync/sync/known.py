"""Whether a model knows a fact, by what it says; and the requests that edits on record were made of. Loads no torch."""

from collections.abc import Callable, Mapping, Sequence

from kbsync.errors import LedgerError
from kbsync.facts import EditRequest, Wording, is_inverse, normalise_label
from kbsync.ledger import EditRow, FactRow, Ledger
from kbsync.ledger.facts import aliases, own_wordings
from kbsync.templates import Templates

Answers = Callable[[Mapping[str, str]], Mapping[str, str]]
"""takes prompts with the objects that are hoped for, and gives prompt -> what the model says"""


def requests_of(ledger: Ledger, templates: Templates, edits: Sequence[EditRow]) -> list[EditRequest]:
    """Return the request that each edit wrote, with its object's aliases.

    Paraphrases, question and further wordings are the present ones of its fact or, where that has none of its own, its
    relation. Raises LedgerError if an edit's record is damaged.
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
    """Return a request's edit prompt with its subject."""
    return request.prompt.format(request.subject)


def prompts_of(request: EditRequest) -> list[str]:
    """Return a request's edit prompt and its paraphrases with its subject."""
    return [text.format(request.subject) for text in (request.prompt, *request.paraphrases)]


def known_among(requests: Sequence[EditRequest], answers: Answers) -> set[str]:
    """Return the ids of the requests whose fact a model knows by its `answers`; no answer counts as not known.

    Paraphrases are asked for only where the edit prompt gives the object.
    """
    said = answers({prompt_of(request): request.target for request in requests})
    likely = [request for request in requests if says(said.get(prompt_of(request), ""), request)]
    asked = {prompt: request.target for request in likely for prompt in prompts_of(request)[1:]}
    said = {**said, **answers(asked)}
    return {request.id for request in likely if knows(request, said)}


def knows(request: EditRequest, said: Mapping[str, str]) -> bool:
    """Tell by its answers (prompt -> what it said) whether a model knows a fact.

    It does if what it says begins with the object, or an alias of it, on the edit prompt and on most paraphrases.
    """
    first, *others = (says(said.get(prompt, ""), request) for prompt in prompts_of(request))
    return first and (not others or 2 * sum(others) > len(others))


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
