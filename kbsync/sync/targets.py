"""Target vectors of groups: those on record are used again, the others searched and recorded as they are found."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

import torch

from kbsync.errors import LedgerError
from kbsync.facts import content_id
from kbsync.ledger import Ledger, ModelRow, TargetRow, read_metadata, read_tensors, write_tensors
from kbsync.memit import MemitSettings, RequestGroup, Target, optimise_targets
from kbsync.sync.home import Progress
from kbsync.sync.model import ModelChoice
from kbsync.sync.team import together

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


_REMEDY = "restore a copy of the ledger, or delete the tensor file and run `kbsync apply` to make it again"
