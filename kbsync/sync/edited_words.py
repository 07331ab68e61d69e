"""In which words edits are written beside their prompts, and which prompts are held: other subjects and relations.

Both are a function of templates, knowledge base and active edits, and are on record with the batch: a template that
changes makes the next apply write the state anew, and `verify` solves with what was written.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from kbsync.facts import EditRequest, content_id
from kbsync.ledger import Ledger
from kbsync.memit import MemitSettings, RequestGroup
from kbsync.memit.extensions.groups import edited_wordings
from kbsync.models import LoadedModel
from kbsync.templates import Templates

__all__ = ["held_beside", "held_prompts", "words_record", "written_in"]


def words_record(
    groups: Sequence[RequestGroup], settings: MemitSettings, held: Sequence[EditRequest]
) -> dict[str, Any]:
    """Return what a batch keeps of them; {} where facts are written on their prompts alone and nothing is held."""
    record: dict[str, Any] = {}
    if settings.wordings:
        requests = [request for group in groups for request in group.requests]
        words = {one.relation: [one.question, *one.wordings] for one in requests if one.question or one.wordings}
        record["wordings"] = dict(sorted(words.items()))
    if held:
        record["held"] = [[one.relation, one.subject, one.prompt] for one in held]
    return record


def written_in(request: EditRequest, record: Mapping[str, Any]) -> EditRequest:
    """Return a request in the words that a batch's record has for its relation."""
    question, *words = record.get("wordings", {}).get(request.relation, [""])
    return EditRequest(
        request.relation, request.subject, request.prompt, request.target, question=question, wordings=tuple(words)
    )


def held_prompts(record: Mapping[str, Any]) -> list[EditRequest]:
    """Return the prompts that a batch held, by its record."""
    return [EditRequest(relation, subject, prompt, "") for relation, subject, prompt in record.get("held", [])]


def held_beside(
    ledger: Ledger,
    templates: Templates,
    loaded: LoadedModel,
    settings: MemitSettings,
    edited: Collection[tuple[str, str]],
) -> list[EditRequest]:
    """Return the prompts that the deltas leave alone; `edited` are (relation, subject label) of the active edits.

    Which are taken hangs on names alone, so that it is the same whatever else is pulled.
    """
    found = [
        *other_subjects(ledger, templates, loaded, settings, edited),
        *other_relations(templates, settings, edited),
    ]
    return [EditRequest(one.relation, one.subject, one.prompt, "") for one in found]


def other_subjects(
    ledger: Ledger,
    templates: Templates,
    loaded: LoadedModel,
    settings: MemitSettings,
    edited: Collection[tuple[str, str]],
) -> Iterator[EditRequest]:
    """Yield at most `settings.hold_subjects` other subjects in all words that their relation is edited in."""
    if not settings.hold_subjects:
        return
    relations = {relation for relation, _ in edited}
    free = {
        (fact.relation, fact.subject_label)
        for fact in ledger.facts(withdrawn=False)
        if fact.relation in relations and fact.wording is None and (fact.relation, fact.subject_label) not in edited
    }
    for relation, subject in sorted(free, key=by_name)[: settings.hold_subjects]:
        if relation in templates:
            request = templates.request(subject, relation, "")
            yield from (request, *edited_wordings(loaded, request, settings.wordings))


def other_relations(
    templates: Templates, settings: MemitSettings, edited: Collection[tuple[str, str]]
) -> Iterator[EditRequest]:
    """Yield for each edited subject the prompts of at most `settings.hold_relations` relations that are not edited.

    A prompt that begins with the subject has the same key in all relations: holding it would fight the edit.
    """
    edits = set(edited)
    for relation, subject in sorted(edits):
        free = [
            template
            for template in templates.beside(relation)
            if (template.relation, subject) not in edits and not template.prompt.startswith("{}")
        ]
        for template in sorted(free, key=lambda one: by_name((relation, one.relation)))[: settings.hold_relations]:
            yield templates.request(subject, template.relation, "")


def by_name(pair: tuple[str, str]) -> str:
    """Return an order that hangs on names alone, and not on how they are spelt."""
    return content_id("held1", list(pair))
