"""The edits of a batch, made once of a plan: the editor, what is written, ended and kept, and in which words.

In which words facts are written beside their prompts, which prompts are held, and how well each wording does.

Wordings and held prompts are a function of templates, knowledge base and active edits, and are on record with the
batch: a template that changes makes the next apply write the state anew, and `verify` solves with what was written.
"""

import random
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from kbsync.editors import EDITORS, Editor, editor
from kbsync.errors import SettingsError
from kbsync.facts import EditRequest, content_id
from kbsync.ledger import BatchRow, ConflictNote, EditRow, FactRow, Ledger, NewEdit
from kbsync.memit import MemitSettings, RequestGroup, group_requests
from kbsync.memit.extensions.groups import before_ending, edited_wordings, shared_endings
from kbsync.memit.settings import retired_settings, settings_on_record
from kbsync.models import LoadedModel
from kbsync.sync.answers import base_answers
from kbsync.sync.home import Loading, Progress, templates_for
from kbsync.sync.known import fact_requests, requests_of, says
from kbsync.sync.model import Session, choose_model
from kbsync.sync.plan import Plan, PlanRow, Sign
from kbsync.templates import Templates


def written_in(request: EditRequest, record: Mapping[str, Any]) -> EditRequest:
    """Return a request in the words, and before the ending, that a batch's record has for its relation."""
    question, *words = record.get("wordings", {}).get(request.relation, [""])
    told = EditRequest(
        request.relation, request.subject, request.prompt, request.target, question=question, wordings=tuple(words)
    )
    return before_ending(told, record.get("endings", {}))


def held_prompts(record: Mapping[str, Any]) -> list[EditRequest]:
    return [EditRequest(relation, subject, prompt, "") for relation, subject, prompt in record.get("held", [])]


def held_beside(
    ledger: Ledger,
    templates: Templates,
    loaded: LoadedModel,
    settings: MemitSettings,
    edited: Collection[tuple[str, str]],
) -> list[EditRequest]:
    """Return the prompts that the deltas leave alone; `edited` are (relation, subject label) of the active edits.

    They are of at most `settings.hold_subjects` other subjects, in all words that their relation is edited in, and, for
    each edited subject, of at most `settings.hold_relations` relations that are not edited. Which are taken hangs on
    names alone, so that it is the same whatever else is pulled.
    """
    found: list[EditRequest] = []
    if settings.hold_subjects:
        relations = {relation for relation, _ in edited}
        facts = (fact for fact in ledger.facts(relations, withdrawn=False) if fact.wording is None)
        others = {(fact.relation, fact.subject_label) for fact in facts} - set(edited)
        for relation, subject in sorted(others, key=by_name)[: settings.hold_subjects]:
            if relation in templates:
                request = templates.request(subject, relation, "")
                found += [request, *edited_wordings(loaded, request, settings.wordings)]
    for relation, subject in sorted(set(edited)):
        # A prompt that begins with the subject has the same key in all relations: holding it would fight the edit.
        free = [
            template
            for template in templates.beside(relation)
            if (template.relation, subject) not in edited and not template.prompt.startswith("{}")
        ]
        free.sort(key=lambda one, relation=relation: by_name((relation, one.relation)))  # type: ignore[misc]
        found += [templates.request(subject, one.relation, "") for one in free[: settings.hold_relations]]
    return [EditRequest(one.relation, one.subject, one.prompt, "") for one in found]


def by_name(pair: tuple[str, str]) -> str:
    """Return an order that hangs on names alone, and not on how they are spelt."""
    return content_id("held1", list(pair))


def measure_wordings(
    home: Path, relation: str, model: str, facts: int, loading: Loading, progress: Progress
) -> dict[str, Any]:
    """Ask the base model for up to `facts` facts of the ledger in every wording; answers are recorded.

    A fact is known where at least one wording gives its object. Facts in conflict are left out. Each wording comes with
    its kind (prompt, wording, which is edited beside it, or paraphrase) and the known facts whose object it gives.
    """
    templates = templates_for(home)
    template = templates.require(relation)
    kinds = {template.prompt: "prompt"} | dict.fromkeys(template.wordings, "wording")
    texts = (*kinds, *template.paraphrases)
    with Ledger.open(home, create=False) as ledger:
        objects: dict[str, dict[str, FactRow]] = defaultdict(dict)
        for row in ledger.facts([relation], withdrawn=False):
            objects[row.subject_key][row.object_key] = replace(row, wording=None)
        alone = [one for _, named in sorted(objects.items()) for one in named.values() if len(named) == 1]
        if not alone:
            told = f"{relation}: the ledger has no facts of it"
            raise SettingsError(f"{told}: run `kbsync pull --relation {relation}` first")
        chosen = random.Random(0).sample(alone, min(facts, len(alone)))  # the same at each call
        requests = fact_requests(ledger, templates, chosen)
        choice = choose_model(model, home=home, loading=loading, progress=progress)
        asked = {text.format(request.subject): request.target for request in requests for text in texts}
        said = base_answers(Session.of(ledger, choice, progress), asked)
    right = [[says(said[text.format(request.subject)], request) for text in texts] for request in requests]
    known = [row for row in right if any(row)]
    if not known:
        raise SettingsError(
            f"{relation}: {choice.name} knows none of the {len(requests)} facts in any wording, so that none can be "
            "measured; ask for more with --facts, or pull facts that it may know (--min-sitelinks)"
        )
    counts = [sum(column) for column in zip(*known, strict=True)]
    measured = [
        {"text": text, "kind": kinds.get(text, "paraphrase"), "right": count, "share": 100 * count / len(known)}
        for text, count in zip(texts, counts, strict=True)
    ]
    counted = {"relation": relation, "model": choice.name, "asked": len(requests), "known": len(known)}
    return {**counted, "wordings": sorted(measured, key=lambda one: one["right"], reverse=True)}


def chosen_editor(
    algorithm: str, values: Mapping[str, Any], model: str, *, retry: bool = False
) -> tuple[Editor, dict[str, Any]]:
    """Return the editor of this name, and the values that are the model's own settings.

    A value goes to the editor where it has a setting of that name.
    """
    found = editor(algorithm, model=model)
    if retry and not found.targets:
        raise SettingsError(f"--retry is for memit: {algorithm} has no target vectors to search again")
    own = {field.name for field in fields(found.settings)} & values.keys()
    theirs = {name: value for name, value in values.items() if name not in own}
    return editor(algorithm, {name: values[name] for name in own}, model=model), theirs


def recorded_editor(batch: BatchRow) -> Editor:
    found = EDITORS[batch.algorithm]
    return replace(found, settings=replace(found.settings, **batch.work.get("editor", {})))


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
        return self.active[len(self.kept) :]

    @property
    def measured(self) -> tuple[EditRequest, ...]:
        """The requests whose figures are taken: what is written, or else what is kept."""
        return self.written or self.active

    def record(self) -> dict[str, Any]:
        """Return what a batch keeps of its editor's settings and words; MEMIT's settings are the batch's."""
        settings = asdict(self.editor.settings)
        return {**self.words, **({"editor": settings} if settings else {})}


def make_edits(work: Session, plan: Plan, editor: Editor, *, retry: bool = False) -> Edits:
    """Read a plan's signs; a state of other settings, words or editor, or whose file is gone, is made again.

    With `retry`, edits that are not recalled are written again.
    """
    again: tuple[Sign, ...] = ("x",) if retry else ()
    added = tuple(plan.having("+", "~", *again))
    superseded = tuple(row.edit for row in plan.having("~", *again) if row.edit is not None)
    retracted = tuple(row.edit for row in plan.having("-") if row.edit is not None)
    ended = {edit.id for edit in (*superseded, *retracted)}
    kept = tuple(edit for edit in work.ledger.active_edits(work.model.key) if edit.id not in ended)
    active = (*requests_of(work.ledger, work.templates, kept), *(row.request for row in added if row.request))
    retries = {edit.request: edit.retries for edit in kept}
    retries |= {row.request.id: retries_now(row) for row in added if row.request}
    groups, held, words = in_words(work, editor, active)
    current = work.ledger.current_batch(work.model.key)
    planned_on = current.id if current else None
    needed = bool(added or ended or (current and is_outdated(work, current, editor, bool(kept), words)))
    notes = tuple(
        ConflictNote(c.relation, c.statements[0].fact.subject.key, c.subject, c.objects, c.resolution)
        for c in plan.conflicts
    )
    return Edits(
        editor, added, superseded, retracted, kept, notes, active, retries, groups, held, words, planned_on, needed
    )


def in_words(
    work: Session, editor: Editor, active: Sequence[EditRequest]
) -> tuple[tuple[RequestGroup, ...], tuple[EditRequest, ...], dict[str, Any]]:
    """Return the groups of the active requests, the prompts that are held beside them, and the record of both.

    Only an editor of target vectors writes a fact on several wordings and leaves prompts alone.
    """
    if not active:
        return (), (), {}
    if not editor.targets:
        return tuple(group_requests(work.loaded, active)), (), {}
    record: dict[str, Any] = {}
    edited = {(request.relation, request.subject) for request in active}
    if work.settings.shared_endings:
        facts = work.ledger.facts({relation for relation, _ in edited}, withdrawn=False)
        if endings := shared_endings(active, ((one.relation, one.subject_label) for one in facts)):
            record["endings"] = endings
            active = [before_ending(request, endings) for request in active]
    groups = tuple(group_requests(work.loaded, active, work.settings.wordings))
    held = tuple(held_beside(work.ledger, work.templates, work.loaded, work.settings, edited))
    if work.settings.wordings:
        requests = [request for group in groups for request in group.requests]
        words = {one.relation: [one.question, *one.wordings] for one in requests if one.question or one.wordings}
        record["wordings"] = dict(sorted(words.items()))
    if keys := unsearched_keys(groups):
        record["keys"] = keys
    if held:
        record["held"] = [[one.relation, one.subject, one.prompt] for one in held]
    return groups, held, record


def unsearched_keys(groups: Sequence[RequestGroup]) -> list[list[str]]:
    """Return the keys that no prompt of their fact has, for the record."""
    return [[one.relation, one.subject, one.prompt] for group in groups for one in group.unsearched]


def is_outdated(work: Session, current: BatchRow, editor: Editor, kept: bool, words: Mapping[str, Any]) -> bool:
    """Tell whether the current state is not as it would be made now, of the same edits."""
    lost = any(not (work.ledger.tensors / name).exists() for name in current.files)
    if lost or not kept:
        return lost
    # A setting that an older version did not know was at its default.
    made_with = MemitSettings().with_values(settings_on_record(current.settings))
    same_editor = current.algorithm == editor.name and current.work.get("editor", {}) == asdict(editor.settings)
    same_words = all(current.work.get(part) == words.get(part) for part in ("wordings", "endings", "keys", "held"))
    same = made_with == work.settings and same_editor and same_words and not retired_settings(current.settings)
    return not same


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
