"""The edits of a batch, made once of a plan: the editor, what is written, ended and kept, and in which words."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from kbsync.editors import EDITORS, Editor, editor
from kbsync.errors import SettingsError
from kbsync.facts import EditRequest
from kbsync.ledger import BatchRow, ConflictNote, EditRow, Ledger, ModelRow, NewEdit
from kbsync.memit import MemitSettings, RequestGroup, group_requests
from kbsync.memit.settings import retired_settings, settings_on_record
from kbsync.sync.known import requests_of
from kbsync.sync.model import ModelChoice, model_contexts
from kbsync.sync.plan import Plan, PlanRow, Sign
from kbsync.sync.wordings import held_beside, words_record
from kbsync.templates import Templates


def chosen_editor(
    algorithm: str, values: Mapping[str, Any], model: str, *, retry: bool = False
) -> tuple[Editor, dict[str, Any]]:
    """Return the editor of this name, and the values that are the model's own settings.

    A value goes to the editor where it has a setting of that name. Raises SettingsError for an algorithm that does not
    exist, and for a retry of one that keeps no target vectors.
    """
    found = editor(algorithm, model=model)
    if retry and not found.targets:
        raise SettingsError(f"--retry is for memit: {algorithm} has no target vectors to search again")
    own = {field.name for field in fields(found.settings)} & values.keys()
    theirs = {name: value for name, value in values.items() if name not in own}
    return editor(algorithm, {name: values[name] for name in own}, model=model), theirs


def recorded_editor(batch: BatchRow) -> Editor:
    """Return the editor that made a batch."""
    make = EDITORS[batch.algorithm]
    return make(replace(make().settings, **batch.work.get("editor", {})))


@dataclass(frozen=True, slots=True)
class Edits:
    """What a batch does to the edits; the new state holds all `active` ones."""

    editor: Editor
    added: tuple[PlanRow, ...]
    superseded: tuple[EditRow, ...]
    retracted: tuple[EditRow, ...]
    kept: tuple[EditRow, ...]
    conflicts: tuple[ConflictNote, ...]
    active: tuple[EditRequest, ...]
    """requests of `kept` and then of `added`"""
    retries: Mapping[str, int]
    """request id -> how often its target is searched again, with more steps each time"""
    groups: tuple[RequestGroup, ...]
    """of the active requests"""
    contexts: tuple[str, ...]
    held: tuple[EditRequest, ...]
    """prompts that the deltas leave alone"""
    words: Mapping[str, Any]
    """what the ledger keeps of wordings and held prompts"""
    planned_on: int | None
    """the current batch"""
    needed: bool
    """whether the state changes"""

    @property
    def written(self) -> tuple[EditRequest, ...]:
        """The requests of `added`."""
        return self.active[len(self.kept) :]

    @property
    def measured(self) -> tuple[EditRequest, ...]:
        """The requests whose figures are taken: what is written, or else what is kept."""
        return self.written or self.active

    def record(self) -> dict[str, Any]:
        """Return what a batch keeps of its editor's settings and words; MEMIT's settings are the batch's."""
        settings = asdict(self.editor.settings)
        return {**self.words, **({"editor": settings} if settings else {})}


def make_edits(
    plan: Plan,
    ledger: Ledger,
    templates: Templates,
    choice: ModelChoice,
    model: ModelRow,
    editor: Editor,
    *,
    retry: bool = False,
) -> Edits:
    """Read a plan's signs; a state of other settings, words or editor, or whose file is gone, is made again.

    With `retry`, edits that are not recalled are written again.
    """
    again: tuple[Sign, ...] = ("x",) if retry else ()
    added = tuple(plan.having("+", "~", *again))
    superseded = tuple(row.edit for row in plan.having("~", *again) if row.edit is not None)
    retracted = tuple(row.edit for row in plan.having("-") if row.edit is not None)
    ended = {edit.id for edit in (*superseded, *retracted)}
    kept = tuple(edit for edit in ledger.active_edits(model.key) if edit.id not in ended)
    active = (*requests_of(ledger, templates, kept), *(row.request for row in added if row.request))
    retries = {edit.request: edit.retries for edit in kept}
    retries |= {row.request.id: retries_now(row) for row in added if row.request}
    groups, held, words = in_words(ledger, templates, choice, editor, active)
    current = ledger.current_batch(model.key)
    return Edits(
        editor,
        added,
        superseded,
        retracted,
        kept,
        tuple(
            ConflictNote(c.relation, c.statements[0].fact.subject.key, c.subject, c.objects, c.resolution)
            for c in plan.conflicts
        ),
        active,
        retries,
        groups,
        model_contexts(model, choice),
        held,
        words,
        current.id if current else None,
        bool(added or ended or (current is not None and is_outdated(ledger, current, choice, editor, kept, words))),
    )


def in_words(
    ledger: Ledger, templates: Templates, choice: ModelChoice, editor: Editor, active: tuple[EditRequest, ...]
) -> tuple[tuple[RequestGroup, ...], tuple[EditRequest, ...], dict[str, Any]]:
    """Return the groups of the active requests, the prompts that are held beside them, and the record of both.

    Only an editor of target vectors writes a fact on several wordings and leaves prompts alone.
    """
    if not active:
        return (), (), {}
    if not editor.targets:
        return tuple(group_requests(choice.loaded, active)), (), {}
    groups = group_requests(choice.loaded, active, choice.settings.wordings)
    edited = {(request.relation, request.subject) for request in active}
    held = tuple(held_beside(ledger, templates, choice.loaded, choice.settings, edited))
    return tuple(groups), held, words_record(groups, choice.settings, held)


def is_outdated(
    ledger: Ledger,
    current: BatchRow,
    choice: ModelChoice,
    editor: Editor,
    kept: tuple[EditRow, ...],
    words: Mapping[str, Any],
) -> bool:
    """Tell whether the current state is not as it would be made now, of the same edits."""
    lost = any(not (ledger.tensors / name).exists() for name in current.files)
    if lost or not kept:
        return lost
    retired = retired_settings(current.settings)
    # A setting that an older version did not know was at its default.
    made_with = MemitSettings().with_values(settings_on_record(current.settings))
    same_editor = current.algorithm == editor.name and current.work.get("editor", {}) == asdict(editor.settings)
    same_words = all(current.work.get(part) == words.get(part) for part in ("wordings", "held"))
    return bool(retired) or made_with != choice.settings or not same_editor or not same_words


def retries_now(row: PlanRow) -> int:
    """Return how often an edit has been tried again once a plan's row is written."""
    return row.edit.retries + 1 if row.sign == "x" and row.edit is not None else 0


def new_edit(row: PlanRow, keys: Mapping[str, str]) -> NewEdit:
    """Return the ledger's record of a plan row that is written; `keys` are the requests' target keys."""
    assert row.fact is not None
    assert row.request is not None
    return NewEdit(
        fact=row.fact.id,
        relation=row.relation,
        subject_key=row.fact.subject_key,
        subject=row.subject,
        object_key=row.fact.object_key,
        object=row.fact.object_label,
        prompt=row.request.prompt,
        request=row.request.id,
        target=keys.get(row.request.id),
        retries=retries_now(row),
    )
