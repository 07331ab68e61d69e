"""In which words facts are written beside their prompts, which prompts are held, and how well each wording does.

Wordings and held prompts are a function of templates, knowledge base and active edits, and are on record with the
batch: a template that changes makes the next apply write the state anew, and `verify` solves with what was written.
"""

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kbsync.errors import SettingsError
from kbsync.facts import EditRequest, content_id
from kbsync.ledger import Ledger
from kbsync.memit import MemitSettings, RequestGroup
from kbsync.memit.extensions.groups import edited_wordings
from kbsync.models import LoadedModel
from kbsync.sync.answers import base_answers
from kbsync.sync.home import Loading, Progress, templates_for
from kbsync.sync.known import fact_requests, says
from kbsync.sync.model import choose_model, identify
from kbsync.templates import Templates


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


@dataclass(frozen=True, slots=True)
class Wording:
    """One wording; its kind is prompt, wording (edited beside the prompt) or paraphrase."""

    text: str
    kind: str
    right: int
    """known facts whose object it gives"""
    share: float
    """per cent of the known facts"""


@dataclass(frozen=True, slots=True)
class MeasuredWordings:
    """The wordings of a relation, the best first; `known` of the `asked` facts are what they are measured on."""

    relation: str
    model: str
    asked: int
    known: int
    wordings: tuple[Wording, ...]


def measure_wordings(
    home: Path, relation: str, model: str, facts: int, loading: Loading, progress: Progress
) -> MeasuredWordings:
    """Ask the base model for up to `facts` facts of the ledger in every wording; answers are recorded.

    A fact is known where at least one wording gives its object. Facts in conflict are left out. Raises SettingsError
    where no fact is on record or none is known, and as `choose_model` does.
    """
    templates = templates_for(home)
    template = templates.require(relation)
    kinds = {template.prompt: "prompt"} | dict.fromkeys(template.wordings, "wording")
    texts = (*kinds, *template.paraphrases)
    with Ledger.open(home, create=False) as ledger:
        requests = _drawn(ledger, templates, relation, facts)
        choice = choose_model(model, home=home, loading=loading, progress=progress)
        asked = {text.format(request.subject): request.target for request in requests for text in texts}
        said = base_answers(ledger, choice, identify(ledger, choice), asked, progress)
    right = [[says(said[text.format(request.subject)], request) for text in texts] for request in requests]
    known = [row for row in right if any(row)]
    if not known:
        raise SettingsError(
            f"{relation}: {choice.name} knows none of the {len(requests)} facts in any wording, so that none can be "
            "measured; ask for more with --facts, or pull facts that it may know (--min-sitelinks)"
        )
    counts = [sum(column) for column in zip(*known, strict=True)]
    measured = [
        Wording(text, kinds.get(text, "paraphrase"), count, 100 * count / len(known))
        for text, count in zip(texts, counts, strict=True)
    ]
    measured.sort(key=lambda wording: -wording.right)
    return MeasuredWordings(relation, choice.name, len(requests), len(known), tuple(measured))


def _drawn(ledger: Ledger, templates: Templates, relation: str, facts: int) -> list[EditRequest]:
    """Return requests for `facts` facts, the same at each call, of subjects with one object."""
    rows = ledger.facts([relation], withdrawn=False)
    objects: dict[str, set[str]] = {}
    for row in rows:
        objects.setdefault(row.subject_key, set()).add(row.object_key)
    alone = {row.subject_key: row for row in rows if len(objects[row.subject_key]) == 1}
    if not alone:
        raise SettingsError(f"{relation}: the ledger has no facts of it: run `kbsync pull --relation {relation}` first")
    chosen = [alone[key] for key in sorted(alone)]
    chosen = random.Random(0).sample(chosen, min(facts, len(chosen)))
    return fact_requests(ledger, templates, [replace(row, wording=None) for row in chosen])
