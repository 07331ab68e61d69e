"""The deltas that hold a set of facts: made from the base by an editor, and made again to verify those on record.

Target vectors of groups: those on record are used again, the others searched and recorded as they are found.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any

import torch

from kbsync.editors import Deltas, Editor, Task
from kbsync.errors import LedgerError
from kbsync.facts import EditRequest, content_id
from kbsync.ledger import BatchRow, Ledger, TargetRow, read_metadata, read_tensors, write_tensors
from kbsync.memit import MemitSettings, RequestGroup, Target, group_requests, matrices, optimise_targets
from kbsync.memit.settings import retired_settings, settings_on_record
from kbsync.models import ALONE, LoadedModel, Team
from kbsync.models.checkpoint import model_hash
from kbsync.sync.covariances import Covariances, covariances_for, with_text
from kbsync.sync.edits import held_prompts, recorded_editor, unsearched_keys, written_in
from kbsync.sync.history import model_meant
from kbsync.sync.home import Loading, Progress, templates_for
from kbsync.sync.model import Session, choose_model, current_deltas, is_model_of, together
from kbsync.sync.practice import mend_network

MORE_STEPS, MORE_CLAMP = 2, 1.5
"""factors of a target that is searched again since the model did not recall its edit"""
DEPENDS_ON = ("steps", "lr", "clamp_norm_factor", "weight_decay", "kl_factor", "search_dtype")
"""settings that a target vector depends on, beside two that came later, the last edited layer and the contexts"""


@dataclass(frozen=True, slots=True)
class Targets:
    """Target vectors z [u, d] in the groups' order, and the cache key that each request's vector lies under."""

    z: torch.Tensor
    keys: dict[str, str]
    optimised: int
    from_cache: int


NO_TARGETS = Targets(torch.empty(0, 0), {}, 0, 0)
"""of a way to edit that keeps no target vectors"""


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


def target_keys(work: Session, groups: Sequence[RequestGroup], retries: Mapping[str, int]) -> list[str]:
    """Return the content id of everything that each group's target vector depends on.

    `retries` maps the ids of requests that were not recalled to how often.
    """
    keys = []
    for group in groups:
        own = stronger(work.settings, retries_of(group, retries))
        values = [getattr(own, name) for name in DEPENDS_ON]
        values += [own.stop_weight] if own.stop_weight else []  # without these, keys are those of earlier versions
        values += [f"{own.minibatches} mini-batches"] if own.minibatches > 1 else []
        keys.append(content_id("target1", [work.model.key, own.layers[-1], values, list(work.contexts), group.id]))
    return keys


def cached_targets(
    work: Session, groups: Sequence[RequestGroup], retries: Mapping[str, int] = MappingProxyType({})
) -> Targets:
    """Return the target vector of each group; each batch of new ones is on record before the next is begun."""
    ledger, keys = work.ledger, target_keys(work, groups, retries)
    found = read_targets(ledger, keys)
    missing = [place for place, key in enumerate(keys) if key not in found]

    def record(places: Sequence[int], finished: list[tuple[int, Target]]) -> None:
        new = {keys[places[index]]: target for index, target in finished}
        z = torch.stack([target.z for target in new.values()])
        file, _ = write_tensors(ledger.tensors, {"z": z}, {"model": work.model.key, "keys": " ".join(new)})
        found.update({key: target.z for key, target in new.items()})
        last = {key: one.losses[-work.settings.minibatches :] for key, one in new.items()}
        rows = [(key, row, len(one.losses), fmean(last[key])) for row, (key, one) in enumerate(new.items())]
        ledger.record_targets(work.model.key, file, rows)

    alike: dict[int, list[int]] = defaultdict(list)
    for place in missing:
        alike[retries_of(groups[place], retries)].append(place)
    for times, places in sorted(alike.items()):
        shared = ([groups[place] for place in places], work.contexts, stronger(work.settings, times))
        own = {"on_done": partial(record, places), "progress": work.progress}
        together(work.choice.team, optimise_targets, work.loaded, *shared, **own)
    by_request = {request.id: key for group, key in zip(groups, keys, strict=True) for request in group.requests}
    z = torch.stack([found[key] for key in keys]) if keys else torch.empty(0, 0)
    return Targets(z, by_request, len(missing), len(keys) - len(missing))


def read_targets(ledger: Ledger, keys: Sequence[str]) -> dict[str, torch.Tensor]:
    """Return key -> z of those on record, each file read once; a file that is gone counts as not on record."""
    found: dict[str, torch.Tensor] = {}
    files: dict[str, list[TargetRow]] = defaultdict(list)
    for row in ledger.find_targets(keys).values():
        files[row.file].append(row)
    for file, rows in files.items():
        path = ledger.tensors / file
        if path.exists():
            z = read_tensors(path)["z"]
            named = read_metadata(path).get("keys", "").split()  # files of earlier versions name none
            if any(named[row.row : row.row + 1] != [row.key] for row in rows if named):
                raise LedgerError(
                    f"{ledger.path} and {path} disagree on whose target vectors these are: restore a copy of the"
                    " ledger, or delete the tensor file and run `kbsync apply` to make it again"
                )
            found |= {row.key: z[row.row] for row in rows}
    return found


def make_deltas(
    work: Session,
    editor: Editor,
    groups: Sequence[RequestGroup],
    z: torch.Tensor | None,
    held: Sequence[EditRequest],
    files: dict[str, str] | None = None,
    **reports: Any,
) -> Deltas:
    """Return the editor's delta of each layer that holds all groups, from the base; none where there are no groups.

    `z` [u, d] are the groups' target vectors, where the editor takes them. The covariances that it asks for are noted
    in `files`, name -> hash; `reports` are parts of its Task.
    """
    if not groups:
        return {}
    tensors, settings = work.ledger.tensors, work.settings

    def covariances(layers: Sequence[int]) -> Covariances:
        here = replace(work.choice, settings=replace(settings, layers=tuple(sorted(layers))))
        found = covariances_for(tensors, here, work.progress)
        if files is not None:
            files.update(found.contents())
        return found

    own = {
        "covariances": covariances,
        "network": lambda: mend_network(tensors, work.loaded),
        "progress": work.progress,
        **reports,
    }
    team = work.choice.team if editor.targets else ALONE
    deltas: Deltas = together(team, edit, work.loaded, editor, groups, work.contexts, settings, z, held, **own)
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
    """Return 100 |delta| / |W| of each layer."""
    return {
        layer: 100 * float(delta.norm()) / float(loaded.weight(layer).float().norm())
        for layer, delta in sorted(matrices(deltas).items())
    }


TOLERANCE = 1e-4
"""largest relative Frobenius difference of a layer's delta, as between one batch and many"""


def model_checks(
    ledger: Ledger, model: str, corpus: Path | None, loading: Loading, progress: Progress
) -> Iterator[tuple[str, int, list[str]]]:
    """Yield the check of the base model, and that of the deltas where the model is right and there are edits.

    Of each its name, over how many things it is, and what is wrong.
    Writes nothing but, where it is not in the cache, the covariance.
    """
    known = model_meant(ledger, model)
    current = ledger.current_batch(known.key)
    values = settings_on_record(current.settings) if current else {}
    choice = choose_model(known.name, values, home=ledger.home, loading=loading, corpus=corpus)
    sha256 = model_hash(choice.loaded)
    changed = not is_model_of(known, choice, sha256)
    told = (
        f"{known.name} has changed: its sha256 is {sha256[:12]}, the ledger has {known.weights_sha256[:12]}; put back"
        " the weights and tokenizer (or the --dtype) that were edited"
    )
    yield "base model", 1, [told] if changed else []
    if current is not None and not changed and ledger.active_edits(known.key):
        checked, faults = _solved_again(Session(ledger, templates_for(ledger.home), choice, known, progress), current)
        yield "deltas solved again", checked, faults


def _solved_again(work: Session, batch: BatchRow) -> tuple[int, list[str]]:
    """Return how many layers' deltas were made again, and how those on record differ from them."""
    edits, editor = work.ledger.active_edits(work.model.key), recorded_editor(batch)
    requests = [written_in(edit.as_request, batch.work) for edit in edits]
    groups = group_requests(work.loaded, requests, work.settings.wordings if editor.targets else 0)
    z = None
    if editor.targets:
        if retired := retired_settings(batch.settings):
            return 0, [f"they were written with {', '.join(retired)}, which kbsync no longer has: run `kbsync apply`"]
        if unsearched_keys(groups) != batch.work.get("keys", []):
            return 0, ["some of their facts had no key for prompts of another kind yet: run `kbsync apply`"]
        keys = target_keys(work, groups, {edit.request: edit.retries for edit in edits})
        found = read_targets(work.ledger, keys)
        if missing := sum(key not in found for key in keys):
            told = f"{missing} of {len(keys)} target vectors are missing from the cache"
            return 0, [f"{told}: the deltas cannot be solved again"]
        z = torch.stack([found[key] for key in keys])
    work = replace(work, choice=with_text(work.ledger.home, work.choice, work.progress))
    solved = matrices(make_deltas(work, editor, groups, z, held_prompts(batch.work)))
    stored = current_deltas(work.ledger, batch)
    faults = [] if stored.keys() == solved.keys() else [f"layers {sorted(stored)} are stored, {sorted(solved)} solved"]
    for layer in stored.keys() & solved.keys():
        again = solved[layer].to(stored[layer])
        difference = float((again - stored[layer]).norm() / stored[layer].norm())
        if not difference <= TOLERANCE:
            faults.append(f"the delta of layer {layer} is not what its edits solve to: it differs by {difference:.1e}")
    return len(solved), faults
