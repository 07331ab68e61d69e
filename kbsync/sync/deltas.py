"""The deltas that hold a set of facts: made from the base by an editor, and made again to verify those on record.

Target vectors of groups: those on record are used again, the others searched and recorded as they are found.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from kbsync.editors import Deltas, Editor, Task
from kbsync.errors import LedgerError
from kbsync.facts import EditRequest, content_id
from kbsync.ledger import BatchRow, Ledger, ModelRow, TargetRow, read_metadata, read_tensors, write_tensors
from kbsync.memit import MemitSettings, RequestGroup, Target, WeightDelta, group_requests, optimise_targets
from kbsync.memit.settings import retired_settings, settings_on_record
from kbsync.models import ALONE, LoadedModel, Team
from kbsync.models.checkpoint import model_hash
from kbsync.sync.covariances import Covariances, covariances_for, with_text
from kbsync.sync.edits import held_prompts, recorded_editor, written_in
from kbsync.sync.history import model_meant
from kbsync.sync.home import Loading, Progress, silent
from kbsync.sync.model import ModelChoice, choose_model, current_deltas, is_model_of, model_contexts, together
from kbsync.sync.practice import mend_network

MORE_STEPS, MORE_CLAMP = 2, 1.5
"""factors of a target that is searched again since the model did not recall its edit"""
DEPENDS_ON = ("steps", "lr", "clamp_norm_factor", "weight_decay", "kl_factor", "search_dtype")
"""settings that a target vector depends on, beside `stop_weight`, the last edited layer and the contexts"""


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
    """Return the content id of everything that a group's target vector depends on."""
    values = [getattr(settings, name) for name in DEPENDS_ON]
    values += [settings.stop_weight] if settings.stop_weight else []  # without it, keys are those of earlier versions
    return content_id("target1", [model.key, settings.layers[-1], values, list(contexts), group.id])


def stronger(settings: MemitSettings, retries: int) -> MemitSettings:
    """Return the settings of a target that was not enough so many times: each time more steps and a larger clamp."""
    return replace(
        settings,
        steps=settings.steps * MORE_STEPS**retries,
        clamp_norm_factor=settings.clamp_norm_factor * MORE_CLAMP**retries,
    )


def retries_of(group: RequestGroup, retries: Mapping[str, int]) -> int:
    """Return how often a group is tried again: as often as that of its requests that needs it most."""
    return max(retries.get(request.id, 0) for request in group.requests)


def target_keys(
    model: ModelRow,
    settings: MemitSettings,
    contexts: Sequence[str],
    groups: Sequence[RequestGroup],
    retries: Mapping[str, int],
) -> list[str]:
    """Return each group's key; `retries` maps the ids of requests that were not recalled to how often."""
    return [target_key(model, stronger(settings, retries_of(one, retries)), contexts, one) for one in groups]


def cached_targets(
    ledger: Ledger,
    model: ModelRow,
    choice: ModelChoice,
    groups: Sequence[RequestGroup],
    contexts: Sequence[str],
    progress: Progress,
    retries: Mapping[str, int] = MappingProxyType({}),
) -> Targets:
    """Return the target vector of each group; each batch of new ones is on record before the next is begun."""
    keys = target_keys(model, choice.settings, contexts, groups, retries)
    on_record = ledger.find_targets(keys)
    found = read_rows(ledger, list(on_record.values()))
    missing = [place for place, key in enumerate(keys) if key not in found]

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
        alike[retries_of(groups[place], retries)].append(place)
    for times, places in sorted(alike.items()):
        settings = stronger(choice.settings, times)
        wanted = [groups[place] for place in places]
        on_done = partial(record, places)
        together(
            choice.team, optimise_targets, choice.loaded, wanted, contexts, settings, on_done=on_done, progress=progress
        )
    by_request = {request.id: key for group, key in zip(groups, keys, strict=True) for request in group.requests}
    z = torch.stack([found[key] for key in keys]) if keys else torch.empty(0, 0)
    return Targets(z, by_request, len(missing), len(keys) - len(missing))


def read_rows(ledger: Ledger, rows: Sequence[TargetRow]) -> dict[str, torch.Tensor]:
    """Return key -> z of rows on record, each file read once; a file that is gone counts as not on record."""
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


_REMEDY = "restore a copy of the ledger, or delete the tensor file and run `kbsync apply` to make it again"


def make_deltas(
    editor: Editor,
    ledger: Ledger,
    choice: ModelChoice,
    groups: Sequence[RequestGroup],
    contexts: Sequence[str],
    z: torch.Tensor | None,
    held: Sequence[EditRequest],
    files: dict[str, str],
    progress: Progress = silent,
    **reports: Any,
) -> Deltas:
    """Return the editor's delta of each layer that holds all groups, from the base; none where there are no groups.

    `z` [u, d] are the groups' target vectors, where the editor takes them. The covariances that it asks for are noted
    in `files`, name -> hash; `reports` are a Task's `phase` and `remark`. Raises EditError where the deltas cannot be
    found or a network is missing, SettingsError where there is no text for a covariance.
    """
    if not groups:
        return {}

    def covariances(layers: Sequence[int]) -> Covariances:
        here = replace(choice, settings=replace(choice.settings, layers=tuple(sorted(layers))))
        found = covariances_for(ledger.tensors, here, progress)
        files.update(found.contents())
        return found

    own = {
        "covariances": covariances,
        "network": lambda: mend_network(ledger.tensors, choice.loaded),
        "progress": progress,
        **reports,
    }
    team = choice.team if editor.targets else ALONE
    deltas: Deltas = together(team, edit, choice.loaded, editor, groups, contexts, choice.settings, z, held, **own)
    return deltas


def edit(
    loaded: LoadedModel,
    editor: Editor,
    groups: Sequence[RequestGroup],
    contexts: Sequence[str],
    settings: MemitSettings,
    z: torch.Tensor | None,
    held: Sequence[EditRequest],
    *,
    team: Team,
    **own: Any,
) -> Deltas:
    """Let the editor write the groups; `own` are the rest of the leader's Task."""
    return editor.edit(Task(loaded, groups, contexts, settings, z=z, held=held, team=team, **own))


def weight_changes(loaded: LoadedModel, deltas: Deltas) -> dict[int, float]:
    """Return 100 |delta| / |W| of each layer, in Frobenius norms."""
    return {
        layer: 100 * float(whole(delta).norm()) / float(loaded.weight(layer).float().norm())
        for layer, delta in sorted(deltas.items())
    }


def whole(delta: WeightDelta | torch.Tensor) -> torch.Tensor:
    """Return a delta [d, m], multiplied out."""
    return delta.matrix() if isinstance(delta, WeightDelta) else delta


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
    edits, editor = ledger.active_edits(model.key), recorded_editor(batch)
    requests = [
        written_in(EditRequest(edit.relation, edit.subject, edit.prompt, edit.object), batch.work) for edit in edits
    ]
    contexts = model_contexts(model, choice)
    groups = group_requests(choice.loaded, requests, choice.settings.wordings if editor.targets else 0)
    z = None
    if editor.targets:
        if retired := retired_settings(batch.settings):
            told = f"they were written with {', '.join(retired)}, which kbsync no longer has: run `kbsync apply`"
            return name, 0, [told]
        keys = target_keys(model, choice.settings, contexts, groups, {edit.request: edit.retries for edit in edits})
        found = read_rows(ledger, list(ledger.find_targets(keys).values()))
        if missing := sum(key not in found for key in keys):
            told = (
                f"{missing} of {len(keys)} target vectors are missing from the cache: the deltas cannot be solved again"
            )
            return name, 0, [told]
        z = torch.stack([found[key] for key in keys])
    choice = with_text(ledger.home, choice, progress)
    held = held_prompts(batch.work)
    return compared(name, ledger, batch, make_deltas(editor, ledger, choice, groups, contexts, z, held, {}, progress))


def compared(name: str, ledger: Ledger, batch: BatchRow, solved: Mapping[int, WeightDelta | torch.Tensor]) -> Found:
    """Return how the deltas on record differ from those that were made again."""
    stored = current_deltas(ledger, batch)
    faults = [] if stored.keys() == solved.keys() else [f"layers {sorted(stored)} are stored, {sorted(solved)} solved"]
    for layer in stored.keys() & solved.keys():
        again = whole(solved[layer]).to(stored[layer])
        difference = float((again - stored[layer]).norm() / stored[layer].norm())
        if not difference <= TOLERANCE:
            faults.append(f"the delta of layer {layer} is not what its edits solve to: it differs by {difference:.1e}")
    return name, len(solved), faults
