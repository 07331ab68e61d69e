"""Explain: where an active edit stands or is lost, by wording, and what to do about it. Writes nothing."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch.nn.functional import cosine_similarity

from kbsync.errors import EditError, SettingsError
from kbsync.facts import EditRequest, content_id, is_inverse, normalise_label
from kbsync.ledger import BatchRow, EditRow, Ledger, ModelRow
from kbsync.ledger.facts import aliases
from kbsync.memit import MemitSettings, RequestGroup, group_requests
from kbsync.memit.extensions.explain import Reading, at_subject, delivered, read_ways
from kbsync.memit.extensions.groups import edited_wordings
from kbsync.memit.settings import settings_on_record
from kbsync.models import LoadedModel
from kbsync.models.scoring import question_prompt
from kbsync.sync.deltas import read_targets, target_keys
from kbsync.sync.edits import recorded_editor, written_in
from kbsync.sync.history import facts_meant, model_meant
from kbsync.sync.home import AS_STORED, Loading, templates_for
from kbsync.sync.known import begins_with, is_called, requests_of
from kbsync.sync.model import Session, choose_model, current_deltas, known_model

MOST_COMPARED = 300
"""other facts whose keys are compared, those of the same subject first"""
ALIKE = 0.95
"""cosine from which two keys cannot well hold unlike values"""


@dataclass(frozen=True, slots=True)
class ExplainedWording:
    """A wording, what each way says to it (see `read_ways`), and the share of z - h that each layer brings."""

    kind: str
    """prompt, question, wording or paraphrase"""
    edited: bool
    """whether the fact is written on it"""
    text: str
    readings: Mapping[str, Reading]
    delivered: Mapping[int, float]

    @property
    def lost_at(self) -> str | None:
        """What fails first on the way back from the edited model: rest, keys or target; None where it recalls."""
        right = {way: reading.recall for way, reading in self.readings.items()}
        return None if right["model"] else "rest" if right["subject"] else "keys" if right["target"] else "target"


@dataclass(frozen=True, slots=True)
class Near:
    """The active fact with another object whose key is nearest; `shared` where both have one delta."""

    subject: str
    relation: str
    object: str
    cosine: float
    shared: bool


def explain(home: Path, subject: str, relation: str, model: str, *, loading: Loading = AS_STORED) -> dict[str, Any]:
    """Explain the active edit of a fact, by the state that is current in `home`; the keys are those of the JSON."""
    with Ledger.open(home, create=False) as ledger:
        known = model_meant(ledger, model)
        edit, batch = edit_meant(ledger, known, subject, relation)
        (request,) = requests_of(ledger, templates_for(home), [edit])
        choice = choose_model(known.name, settings_on_record(batch.settings), home=home, loading=loading)
        loaded, settings, layer = choice.loaded, choice.settings, choice.settings.layers[-1]
        known_model(ledger, choice)  # raises where it is another one now
        active = {one.request: one for one in ledger.active_edits(known.key)}
        written = [written_in(one.as_request, batch.work) for one in active.values()]
        groups = group_requests(loaded, written, settings.wordings)
        group = next(one for one in groups if request.id in {member.id for member in one.requests})
        work = Session(ledger, templates_for(home), choice, known)
        keys = target_keys(work, [group], {one.request: one.retries for one in active.values()})
        z = read_targets(ledger, keys).get(keys[0])
        if z is None:
            raise EditError(
                f"the target vector of {relation} of {edit.subject} is not in {ledger.tensors}: restore a copy of that"
                " folder"
            )
        deltas = current_deltas(ledger, batch)
    shift = z - at_subject(loaded, group.requests[:1], layer)[1][0].float()
    own = next(one for one in written if one.id == request.id)
    request = replace(request, ending=own.ending)
    asked = wordings_of(loaded, request, edited_wordings(loaded, own, settings.wordings))
    texts = [one for one, _, _ in asked]
    ways = read_ways(loaded, texts, shift, deltas, layer)
    shares = delivered(loaded, texts, shift, deltas, layer)
    found = []
    for (one, kind, written_on), readings, of_row in zip(asked, ways, shares, strict=True):
        # Of a question the text is shown without the words of a chat's template.
        text = (one.question if kind == "question" else one.prompt).replace("{}", one.subject)
        right = {  # in another name of the object, too
            way: replace(said, recall=said.recall or any(begins_with(said.answer, name) for name in request.aliases))
            for way, said in readings.items()
        }
        found.append(ExplainedWording(kind, written_on, text, right, of_row))
    near = nearest(loaded, layer, request, group, written)
    about = {"subject": edit.subject, "relation": relation, "object": edit.object, "model": choice.name}
    shown = {"batch": batch.id, "wordings": found, "nearest": near}
    return {**about, **shown, "hint": hint(found, settings, near)}


def edit_meant(ledger: Ledger, model: ModelRow, subject: str, relation: str) -> tuple[EditRow, BatchRow]:
    """Return the active edit that is meant, of a fact or of its inverse, and the current batch."""
    edits = [one for one in ledger.active_edits(model.key) if one.relation == relation]
    if is_inverse(relation):  # its subject need not be that of any fact
        names = aliases(ledger, {one.subject_key for one in edits})
        edits = [
            one for one in edits if is_called(subject, one.subject, one.subject_key, names.get(one.subject_key, ()))
        ]
    else:
        subjects = {row.subject_key for row in facts_meant(ledger, subject, relation)}
        edits = [one for one in edits if one.subject_key in subjects]
    batch = ledger.current_batch(model.key)
    if not edits or batch is None:
        why = f"`kbsync plan --model {model.name}` says why"
        raise SettingsError(f"{relation} of {subject} is not written into {model.name}: {why}")
    if len(edits) > 1:
        raise SettingsError(f"{subject!r} means {' and '.join(one.subject_key for one in edits)}: give its id")
    if not recorded_editor(batch).targets:
        raise SettingsError(f"the edits are by {batch.algorithm}, which keeps no target vectors: only memit does")
    return edits[0], batch


def wordings_of(
    loaded: LoadedModel, request: EditRequest, further: Sequence[EditRequest]
) -> list[tuple[EditRequest, str, bool]]:
    """Return (request in those words, kind, is it edited) of each wording, the edited ones first."""
    question = question_prompt(loaded.tokenizer, request.question) if request.question else None
    edited = dict.fromkeys([request.prompt, *(one.prompt for one in further)])
    kinds = dict.fromkeys(edited, "wording") | {one: "paraphrase" for one in request.paraphrases if one not in edited}
    kinds |= {request.prompt: "prompt"} | ({question: "question"} if question else {})
    return [(replace(request, prompt=prompt), kind, prompt in edited) for prompt, kind in kinds.items()]


def nearest(
    loaded: LoadedModel, layer: int, request: EditRequest, group: RequestGroup, active: Sequence[EditRequest]
) -> Near | None:
    """Return the fact of the same subject or relation, with another object, whose key is nearest in `layer`."""
    shared = {one.id for one in group.requests}
    others = [
        one
        for one in active
        if normalise_label(one.target) != normalise_label(request.target)
        and (one.id in shared or one.subject == request.subject or one.relation == request.relation)
    ]
    others.sort(key=lambda one: (one.id not in shared, one.subject != request.subject, content_id("near1", [one.id])))
    if not others:
        return None
    keys, _ = at_subject(loaded, [request, *others[:MOST_COMPARED]], layer)
    cosines = cosine_similarity(keys[:1], keys[1:])
    one = others[int(cosines.argmax())]
    return Near(one.subject, one.relation, one.target, float(cosines.max()), one.id in shared)


def hint(found: Sequence[ExplainedWording], settings: MemitSettings, near: Near | None) -> str:
    """Return the one thing to do that follows from where the edit is lost; edited wordings come first."""
    lost = [one for one in found if one.lost_at and one.edited] or [one for one in found if one.lost_at]
    if not lost:
        return "it holds on every wording: nothing to do"
    gates = Counter(one.lost_at for one in lost)
    gate = max(("target", "keys", "rest"), key=lambda name: gates[name])
    said = {normalise_label(one.readings["model"].answer) for one in lost}
    alike = near and (near.shared or near.cosine >= ALIKE or normalise_label(near.object) in said)
    if gate == "rest":
        more = f"--set rest_weight={2 * settings.rest_weight or 1:g}"
        return f"the weights give it at the subject, but other tokens lose it: preserve the rest of the prompt ({more})"
    if near and alike and (gate == "keys" or near.shared):
        why = "they share one delta" if near.shared else f"cosine of their keys {near.cosine:.2f}"
        return f"conflicts with {near.relation} of {near.subject} ({near.object}): {why}"
    if not lost[0].edited:
        more = f"--set wordings={settings.wordings + 2}"
        return f"it holds on the edited wordings, but not on others: edit more wordings ({more})"
    if gate == "target":
        more = f"`kbsync apply --retry`, or --set steps={2 * settings.steps}"
        return f"the target itself does not give it: use more steps ({more})"
    more = f"--set lambda={settings.lambda_ / 3:.3g}, or --set sweeps={settings.sweeps + 1}"
    return f"the target gives it, but the weights fall short of it: use a smaller lambda or more sweeps ({more})"
