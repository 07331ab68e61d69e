"""Held facts: which known, unedited facts an apply is to leave as they are.

They are a function of the base model, the active edits and the knowledge base alone, never of the path: candidates are
all facts on record that the base model knows and that no edit is about; those of edited subjects come first, then those
nearest in key.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kbsync.facts import EditRequest, content_id
from kbsync.ledger import BatchRow, Ledger, ModelRow, read_metadata
from kbsync.memit import RequestGroup, group_requests
from kbsync.memit.holding import nearness
from kbsync.templates import Templates
from kbsync.workflows.base_answers import base_answers
from kbsync.workflows.choice import ModelChoice
from kbsync.workflows.plan import known_facts, make_plan
from kbsync.workflows.progress import Progress

__all__ = ["NOTHING_HELD", "Held", "choose_held", "recorded_groups"]

Subjects = Collection[tuple[str, str]]
"""(relation, subject key)"""


@dataclass(frozen=True, slots=True)
class Held:
    """The facts that a batch holds, in groups of one key."""

    groups: tuple[RequestGroup, ...] = ()
    same_key: int = 0
    """known, unedited facts that cannot be held, since their key is an edit's"""

    @property
    def requests(self) -> list[EditRequest]:
        """The held facts."""
        return [request for group in self.groups for request in group.requests]

    @property
    def id(self) -> str:
        """Content id of the held facts, whatever their order."""
        return content_id("held1", sorted(request.id for request in self.requests))

    def record(self) -> dict[str, Any]:
        """Return what the ledger keeps of it; {} where nothing is held."""
        return {"held": len(self.requests), "held_id": self.id} if self.groups else {}

    def metadata(self) -> dict[str, str]:
        """Return what the batch's file keeps, so that its deltas can be solved again; {} where nothing is held."""
        facts = [[one.relation, one.subject, one.prompt, one.target] for one in self.requests]
        return {"held": json.dumps(facts, ensure_ascii=False)} if facts else {}


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
    if not choice.settings.hold or not edits:
        return NOTHING_HELD
    # Without a model no row has an edit: every fact that can be written is new, and known facts are marked.
    plan = make_plan(ledger, templates, choice.name, None)
    plan = known_facts(plan, lambda asked: base_answers(ledger, choice, model, asked, progress))
    about = set(subjects)
    near: dict[str, str] = {}
    candidates = []
    for row in plan.having("k"):
        if row.request is not None and (row.relation, row.subject_key) not in about:
            candidates.append(row.request)
            near[row.request.id] = row.subject_key or ""
    return nearest(choice, edits, candidates, near, {subject for _, subject in about})


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
    edited = [request for group in edits for request in group.requests]
    groups, same_key = [], 0
    for group in group_requests(loaded, [*edited, *unique.values()]):
        if any(request.id in ids for request in group.requests):
            same_key += sum(request.id not in ids for request in group.requests)
        else:
            groups.append(group)
    if not groups:
        return Held((), same_key)
    near = nearness(loaded, edits, groups, settings.layers[0]).tolist()
    own = [any(subject_keys[one.id] in edited_subjects for one in group.requests) for group in groups]
    order = sorted(range(len(groups)), key=lambda place: (not own[place], -near[place], groups[place].id))
    chosen: list[RequestGroup] = []
    room = settings.hold
    for place in order:
        if len(groups[place].requests) <= room:
            chosen.append(groups[place])
            room -= len(groups[place].requests)
    return Held(tuple(sorted(chosen, key=lambda group: group.id)), same_key)


def recorded_groups(ledger: Ledger, batch: BatchRow, choice: ModelChoice) -> list[RequestGroup]:
    """Return the groups that a batch held, by its files."""
    found: list[EditRequest] = []
    for name in batch.files:
        facts = json.loads(read_metadata(Path(ledger.tensors / name)).get("held", "[]"))
        found += [EditRequest(relation, subject, prompt, target) for relation, subject, prompt, target in facts]
    return sorted(group_requests(choice.loaded, found), key=lambda group: group.id) if found else []
