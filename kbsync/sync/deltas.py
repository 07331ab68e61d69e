"""The deltas that hold all active facts: the editor, target vectors on record or searched, and the same again.

The sync is the same whatever the algorithm: each batch is made from the base for all active facts.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from kbsync.editors import EDITORS, Editor, Task, editor
from kbsync.errors import LedgerError, SettingsError
from kbsync.facts import EditRequest, content_id
from kbsync.ledger import BatchRow, Ledger, ModelRow, TargetRow, read_metadata, read_tensors, write_tensors
from kbsync.memit import MemitSettings, RequestGroup, Target, WeightDelta, group_requests, spread
from kbsync.memit.settings import settings_on_record
from kbsync.models.identity import model_hash
from kbsync.sync.covariances import covariances_for, with_text
from kbsync.sync.history import model_meant
from kbsync.sync.home import Loading, Progress
from kbsync.sync.mend import mend_network
from kbsync.sync.model import ModelChoice, choose_model, current_deltas, is_model_of, model_contexts
from kbsync.sync.team import together
from kbsync.sync.wordings import held_prompts, written_in

MEMIT = "memit"


def chosen_editor(
    algorithm: str, values: Mapping[str, Any], model: str, *, retry: bool = False
) -> tuple[Editor | None, dict[str, Any]]:
    """Return the editor of this name (None for MEMIT itself), and the values that are the model's own settings.

    A value goes to the editor where it has a setting of that name. Raises SettingsError for an algorithm that does not
    exist, and for what only MEMIT can do.
    """
    if algorithm == MEMIT:
        return None, dict(values)
    own = {field.name for field in fields(editor(algorithm, model=model).settings)}
    if retry:
        raise SettingsError(f"--retry is for {MEMIT}: {algorithm} has no target vectors to search again")
    theirs = {name: value for name, value in values.items() if name not in own}
    return editor(algorithm, {name: values[name] for name in own & values.keys()}, model=model), theirs


def editor_record(one: Editor | None) -> dict[str, Any]:
    """Return what a batch keeps of its editor's settings; {} for MEMIT, whose settings are the batch's."""
    return {} if one is None else {"editor": asdict(one.settings)}


def same_editor(batch: BatchRow, one: Editor | None) -> bool:
    """Tell whether a batch was made by this editor with these settings."""
    name = MEMIT if one is None else one.name
    return batch.algorithm == name and batch.work.get("editor", {}) == editor_record(one).get("editor", {})


def recorded_editor(batch: BatchRow) -> Editor | None:
    """Return the editor that made a batch; None for MEMIT."""
    if batch.algorithm == MEMIT:
        return None
    return EDITORS[batch.algorithm](replace(EDITORS[batch.algorithm]().settings, **batch.work.get("editor", {})))


def deltas_of(
    one: Editor,
    ledger: Ledger,
    choice: ModelChoice,
    groups: Sequence[RequestGroup],
    contexts: Sequence[str],
    progress: Progress,
    covariances_of: Callable[[ModelChoice], Mapping[int, torch.Tensor]],
) -> dict[int, WeightDelta | torch.Tensor]:
    """Return the editor's delta of each layer that holds all groups, from the base.

    Raises EditError where it cannot be found or a network is missing, SettingsError where there is no corpus for a
    covariance that the editor needs.
    """

    def covariances(layers: Sequence[int]) -> Mapping[int, torch.Tensor]:
        here = replace(choice, settings=replace(choice.settings, layers=tuple(sorted(layers))))
        return covariances_of(here)

    task = Task(
        choice.loaded,
        groups,
        contexts,
        choice.settings,
        covariances=covariances,
        network=lambda: mend_network(ledger.tensors, choice.loaded),
        progress=progress,
    )
    return dict(one.edit(task))


MORE_STEPS, MORE_CLAMP = 2, 1.5
"""factors of a target that is searched again since the model did not recall its edit"""
DEPENDS_ON = ("steps", "lr", "clamp_norm_factor", "weight_decay", "kl_factor", "search_dtype")
"""settings that a target vector depends on, beside the last edited layer and the contexts"""


@dataclass(frozen=True, slots=True)
class Targets:
    """Target vectors z [u, d] in the groups' order, and the cache key that each request's vector lies under."""

    z: torch.Tensor
    keys: dict[str, str]
    optimised: int
    from_cache: int


NO_TARGETS = Targets(torch.empty(0, 0), {}, 0, 0)
"""of a way to edit that keeps no target vectors"""


def target_key(model: ModelRow, settings: MemitSettings, contexts: Sequence[str], group: RequestGroup) -> str:
    """Return the content id of everything that a group's target vector depends on, `group` being as it is searched."""
    values = [getattr(settings, name) for name in DEPENDS_ON]
    if group.others:  # which its id names: they are searched together
        values.append(settings.coupling)
    return content_id("target1", [model.key, settings.layers[-1], values, list(contexts), group.id])


def stronger(settings: MemitSettings, retries: int) -> MemitSettings:
    """Return the settings of a target that was not enough so many times: each time more steps and a larger clamp."""
    return replace(
        settings,
        steps=settings.steps * MORE_STEPS**retries,
        clamp_norm_factor=settings.clamp_norm_factor * MORE_CLAMP**retries,
    )


def retries_of(group: RequestGroup, retries: Mapping[str, int]) -> int:
    """Return how often a group is tried again: as often as that of its requests that needs it most.

    Groups that are searched together are tried again together.
    """
    return max(retries.get(request.id, 0) for request in (*group.requests, *group.others))


def target_keys(
    model: ModelRow,
    settings: MemitSettings,
    contexts: Sequence[str],
    groups: Sequence[RequestGroup],
    retries: Mapping[str, int],
) -> list[str]:
    """Return each group's key; `retries` maps the ids of requests that were not recalled to how often."""
    searched = [group.as_searched(settings.coupling) for group in groups]
    return [target_key(model, stronger(settings, retries_of(one, retries)), contexts, one) for one in searched]


def cached_targets(
    ledger: Ledger,
    model: ModelRow,
    choice: ModelChoice,
    groups: Sequence[RequestGroup],
    contexts: Sequence[str],
    progress: Progress,
    retries: Mapping[str, int] = MappingProxyType({}),
) -> Targets:
    """Return the target vector of each group; each batch of new ones is on record before the next is begun.

    What is searched together depends on the groups alone, whatever is on record: where one target of a subject's
    coupled groups is missing, all of them are searched.
    """
    keys = target_keys(model, choice.settings, contexts, groups, retries)
    on_record = ledger.find_targets(keys)
    found = read_rows(ledger, list(on_record.values()))
    searched = [group.as_searched(choice.settings.coupling) for group in groups]
    lacking = {group.subject_id for group, key in zip(searched, keys, strict=True) if key not in found}
    missing = [place for place, group in enumerate(searched) if group.subject_id in lacking]

    def record(places: Sequence[int], finished: list[tuple[int, Target]]) -> None:
        file, _ = write_tensors(
            ledger.tensors,
            {"z": torch.stack([target.z for _, target in finished])},
            {"model": model.key, "keys": " ".join(keys[places[index]] for index, _ in finished)},
        )
        rows = []
        for row, (index, target) in enumerate(finished):
            key = keys[places[index]]
            found[key] = target.z
            rows.append((key, row, len(target.losses), target.losses[-1]))
        ledger.record_targets(model.key, file, rows)

    alike: dict[int, list[int]] = defaultdict(list)
    for place in missing:
        alike[retries_of(searched[place], retries)].append(place)
    for times, places in sorted(alike.items()):
        settings = stronger(choice.settings, times)
        wanted = [groups[place] for place in places]
        on_done = partial(record, places)
        together(choice, "targets", wanted, contexts, settings, on_done=on_done, progress=progress)
    by_request = {request.id: key for group, key in zip(groups, keys, strict=True) for request in group.requests}
    z = torch.stack([found[key] for key in keys]) if keys else torch.empty(0, 0)
    return Targets(z, by_request, len(missing), len(keys) - len(missing))


def read_rows(ledger: Ledger, rows: Sequence[TargetRow]) -> dict[str, torch.Tensor]:
    """Return key -> z of rows on record, each file read once; a file that is gone counts as not on record.

    Raises LedgerError where a file is damaged, or says that a row is of another key than the ledger has for it.
    """
    found: dict[str, torch.Tensor] = {}
    for file in {row.file for row in rows}:
        path = ledger.tensors / file
        if path.exists():
            z = read_tensors(path)["z"]
            own = [row for row in rows if row.file == file]
            keys = read_metadata(path).get("keys", "").split()  # files of earlier versions name none
            if any(keys[row.row : row.row + 1] != [row.key] for row in own if keys):
                raise LedgerError(f"{ledger.path} and {path} disagree on whose target vectors these are: {_REMEDY}")
            found |= {row.key: z[row.row] for row in own}
    return found


_REMEDY = "put back a copy of the ledger, or delete the tensor file and run `kbsync apply` to make it again"

TOLERANCE = 1e-4
"""largest relative Frobenius difference of a layer's delta, as between one batch and many"""

Found = tuple[str, int, list[str]]
"""name of a check, over how many things, faults"""


def model_checks(
    ledger: Ledger, model: str, corpus: Path | None, loading: Loading, progress: Progress
) -> Iterator[Found]:
    """Yield the check of the base model, and that of the deltas where the model is right and there are edits.

    Writes nothing but, where it is not in the cache, the covariance. Raises as `apply` does.
    """
    known = model_meant(ledger, model)
    current = ledger.current_batch(known.key)
    values = settings_on_record(current.settings) if current else {}
    choice = choose_model(known.name, values, home=ledger.home, loading=loading, corpus=corpus)
    sha256 = model_hash(choice.loaded)
    changed = not is_model_of(known, choice, sha256)
    yield (
        "base model",
        1,
        [
            f"{known.name} has changed: its sha256 is {sha256[:12]}, the ledger has {known.weights_sha256[:12]}; put"
            " back the weights and tokenizer (or the --dtype) that were edited"
        ]
        if changed
        else [],
    )
    if current is not None and not changed and ledger.active_edits(known.key):
        yield _deltas(ledger, known, current, choice, progress)


def _deltas(ledger: Ledger, model: ModelRow, batch: BatchRow, choice: ModelChoice, progress: Progress) -> Found:
    name = "deltas solved again"
    edits = ledger.active_edits(model.key)
    requests = [EditRequest(edit.relation, edit.subject, edit.prompt, edit.object) for edit in edits]
    contexts = model_contexts(model, choice)
    choice, editor = with_text(ledger.home, choice, progress), recorded_editor(batch)
    if editor is not None:
        groups = group_requests(choice.loaded, requests)
        made = deltas_of(
            editor,
            ledger,
            choice,
            groups,
            contexts,
            progress,
            lambda here: covariances_for(ledger.tensors, here, progress),
        )
        return compared(name, ledger, batch, made)
    worded = [written_in(request, batch.work) for request in requests]
    groups = group_requests(choice.loaded, worded, choice.settings.wordings)
    keys = target_keys(model, choice.settings, contexts, groups, {edit.request: edit.retries for edit in edits})
    found = read_rows(ledger, list(ledger.find_targets(keys).values()))
    missing = sum(key not in found for key in keys)
    if missing:
        return (
            name,
            0,
            [f"{missing} of {len(keys)} target vectors are not in the cache: the deltas cannot be solved again"],
        )
    z = torch.stack([found[key] for key in keys])
    covariances = covariances_for(ledger.tensors, choice, progress)
    held = held_prompts(batch.work)
    solved = spread(choice.loaded, groups, contexts, z, covariances, choice.settings, progress, held=held)
    return compared(name, ledger, batch, solved)


def compared(name: str, ledger: Ledger, batch: BatchRow, solved: Mapping[int, WeightDelta | torch.Tensor]) -> Found:
    """Return how the deltas on record differ from those that were made again."""
    stored = current_deltas(ledger, batch)
    faults = [] if stored.keys() == solved.keys() else [f"layers {sorted(stored)} are stored, {sorted(solved)} solved"]
    for layer in stored.keys() & solved.keys():
        made = solved[layer]
        again = (made.matrix() if isinstance(made, WeightDelta) else made).to(stored[layer])
        difference = float((again - stored[layer]).norm() / stored[layer].norm())
        if not difference <= TOLERANCE:
            faults.append(f"the delta of layer {layer} is not what its edits solve to: it differs by {difference:.1e}")
    return name, len(solved), faults
