"""Held facts: which known, unedited facts an apply is to leave as they are.

They are a function of the base model, the active edits and the knowledge base alone, never of the path: candidates are
all facts on record that the base model knows and that no edit is about; those of edited subjects come first, then those
nearest in key. Beside them go the prompts of all facts that the knowledge base has withdrawn, if their answers are to
be the base model's again (`restore_weight`).
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kbsync.facts import EditRequest, content_id
from kbsync.ledger import BatchRow, Ledger, ModelRow, read_metadata
from kbsync.memit import RequestGroup, group_requests
from kbsync.memit.kept_keys import NOTHING_KEPT, Kept, nearness
from kbsync.models import LoadedModel
from kbsync.templates import Templates
from kbsync.workflows.base_answers import base_answers
from kbsync.workflows.choice import ModelChoice
from kbsync.workflows.plan import known_facts, make_plan, prompt_of
from kbsync.workflows.progress import Progress

__all__ = ["NOTHING_HELD", "Held", "apart", "choose_held", "nearest", "recorded_kept"]

Subjects = Collection[tuple[str, str]]
"""(relation, subject key)"""


@dataclass(frozen=True, slots=True)
class Held:
    """The facts that a batch holds, in groups of one key."""

    kept: Kept = NOTHING_KEPT
    same_key: int = 0
    """known, unedited facts that cannot be held, since their key is an edit's"""

    @property
    def requests(self) -> list[EditRequest]:
        """The held facts."""
        return members(self.kept.held)

    @property
    def withdrawn(self) -> list[EditRequest]:
        """The withdrawn facts, with the base model's answers as objects."""
        return members(self.kept.withdrawn)

    @property
    def id(self) -> str:
        """Content id of all these facts, whatever their order."""
        return content_id("held2", [sorted(one.id for one in part) for part in (self.requests, self.withdrawn)])

    def record(self) -> dict[str, Any]:
        """Return what the ledger keeps of it; {} where nothing is held."""
        counts = {"held": len(self.requests), "withdrawn": len(self.withdrawn)}
        return counts | {"held_id": self.id} if any(counts.values()) else {}

    def metadata(self) -> dict[str, str]:
        """Return what the batch's file keeps, so that its deltas can be solved again; {} where nothing is held."""
        parts = {"held": self.requests, "withdrawn": self.withdrawn}
        return {
            name: json.dumps([[one.relation, one.subject, one.prompt, one.target] for one in part], ensure_ascii=False)
            for name, part in parts.items()
            if part
        }


NOTHING_HELD = Held()


def choose_held(
    ledger: Ledger,
    templates: Templates,
    choice: ModelChoice,
    model: ModelRow,
    edits: Sequence[RequestGroup],
    subjects: Subjects,
    progress: Progress,
) -> Held:
    """Return the facts to hold beside these edits, `settings.hold` at most; `subjects` are what the edits are about.

    The base model is asked what the ledger has no answer for.
    """
    if not edits:
        return NOTHING_HELD
    beside = Beside(ledger, templates, choice, model, edits, subjects, progress)
    found = beside.known() if choice.settings.hold else NOTHING_HELD
    if not choice.settings.restore_weight:
        return found
    return replace(found, kept=replace(found.kept, withdrawn=beside.withdrawn()))


@dataclass(frozen=True, slots=True)
class Beside:
    """What a ledger has beside the edits."""

    ledger: Ledger
    templates: Templates
    choice: ModelChoice
    model: ModelRow
    edits: Sequence[RequestGroup]
    subjects: Subjects
    progress: Progress

    def withdrawn(self) -> tuple[RequestGroup, ...]:
        """Return the prompts of withdrawn facts, with what the base model says; those that are edited again are not."""
        told = self.templates
        prompts: dict[str, EditRequest] = {}
        for row in self.ledger.facts(withdrawn=True):
            if (row.relation, row.subject_key) not in self.subjects and told.wording(row.relation, row.wording):
                request = told.request(row.subject_label, row.relation, row.object_label, own=row.wording)
                prompts[prompt_of(request)] = request
        said = self.said({prompt: one.target for prompt, one in prompts.items()})
        return apart(self.choice.loaded, self.edits, [replace(one, target=said[text]) for text, one in prompts.items()])

    def known(self) -> Held:
        """Return the known facts to hold."""
        # Without a model no row has an edit: every fact that can be written is new, and known facts are marked.
        plan = known_facts(make_plan(self.ledger, self.templates, self.choice.name, None), self.said)
        near: dict[str, str] = {}
        candidates = []
        for row in plan.having("k"):
            if row.request is not None and (row.relation, row.subject_key) not in self.subjects:
                candidates.append(row.request)
                near[row.request.id] = row.subject_key or ""
        return nearest(self.choice, self.edits, candidates, near, {subject for _, subject in self.subjects})

    def said(self, asked: Mapping[str, str]) -> dict[str, str]:
        """Return what the base model says to prompts."""
        return base_answers(self.ledger, self.choice, self.model, asked, self.progress)


def nearest(
    choice: ModelChoice,
    edits: Sequence[RequestGroup],
    candidates: Sequence[EditRequest],
    subject_keys: Mapping[str, str],
    edited_subjects: Collection[str],
) -> Held:
    """Return at most `settings.hold` of the candidates: those of edited subjects first, then the nearest in key.

    `subject_keys` maps a candidate's id to its subject's key.
    """
    loaded, settings = choice.loaded, choice.settings
    ids = {request.id for group in edits for request in group.requests}
    unique = {request.id: request for request in candidates if request.id not in ids}
    groups = apart(loaded, edits, list(unique.values()))
    same_key = len(unique) - len(members(groups))
    if not groups:
        return Held(same_key=same_key)
    near = nearness(loaded, edits, groups, settings.layers[0]).tolist()
    own = [any(subject_keys[one.id] in edited_subjects for one in group.requests) for group in groups]
    order = sorted(range(len(groups)), key=lambda place: (not own[place], -near[place], groups[place].id))
    chosen: list[RequestGroup] = []
    room = settings.hold
    for place in order:
        if len(groups[place].requests) <= room:
            chosen.append(groups[place])
            room -= len(groups[place].requests)
    return Held(Kept(tuple(sorted(chosen, key=lambda group: group.id))), same_key)


def apart(
    loaded: LoadedModel, edits: Sequence[RequestGroup], others: Sequence[EditRequest]
) -> tuple[RequestGroup, ...]:
    """Return the groups of `others` whose key is none of the `edits`', in the order of their ids."""
    ids = {request.id for request in members(edits)}
    groups = group_requests(loaded, [*members(edits), *others])
    free = [group for group in groups if not any(request.id in ids for request in group.requests)]
    return tuple(sorted(free, key=lambda group: group.id))


def members(groups: Sequence[RequestGroup]) -> list[EditRequest]:
    """Return the requests of all groups."""
    return [request for group in groups for request in group.requests]


def recorded_kept(ledger: Ledger, batch: BatchRow, choice: ModelChoice) -> Kept:
    """Return what a batch kept beside its edits, by its files."""
    parts = {}
    for part in ("held", "withdrawn"):
        texts = [read_metadata(Path(ledger.tensors / name)).get(part, "[]") for name in batch.files]
        found = [EditRequest(*values) for text in texts for values in json.loads(text)]
        groups = group_requests(choice.loaded, found) if found else []
        parts[part] = tuple(sorted(groups, key=lambda group: group.id))
    return Kept(**parts)
