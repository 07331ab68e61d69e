"""Target vectors of groups: those on record are used again, the others searched and recorded as they are found."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from kbsync.errors import LedgerError
from kbsync.facts import content_id
from kbsync.ledger import Ledger, ModelRow, TargetRow, read_metadata, read_tensors, write_tensors
from kbsync.memit import MemitSettings, RequestGroup, Target
from kbsync.workflows.choice import ModelChoice
from kbsync.workflows.crew import together
from kbsync.workflows.progress import Progress

__all__ = ["Targets", "cached_targets"]

DEPENDS_ON = ("steps", "lr", "clamp_norm_factor", "weight_decay", "kl_factor")
"""settings that a target vector depends on, beside the last edited layer and the contexts"""


@dataclass(frozen=True, slots=True)
class Targets:
    """Target vectors z [u, d] in the groups' order, and the cache key that each request's vector lies under."""

    z: torch.Tensor
    keys: dict[str, str]
    optimised: int
    from_cache: int


def target_key(model: ModelRow, settings: MemitSettings, contexts: Sequence[str], group: RequestGroup) -> str:
    """Return the content id of everything that a group's target vector depends on."""
    values = [getattr(settings, name) for name in DEPENDS_ON]
    if group.others:
        values.append(settings.coupling)
    return content_id("target1", [model.key, settings.layers[-1], values, list(contexts), group.id])


def cached_targets(
    ledger: Ledger,
    model: ModelRow,
    choice: ModelChoice,
    groups: Sequence[RequestGroup],
    contexts: Sequence[str],
    progress: Progress,
) -> Targets:
    """Return the target vector of each group; each batch of new ones is on record before the next is begun."""
    keys = [target_key(model, choice.settings, contexts, group) for group in groups]
    on_record = ledger.find_targets(keys)
    found = read_rows(ledger, list(on_record.values()))
    missing = [place for place, key in enumerate(keys) if key not in found]

    def record(finished: list[tuple[int, Target]]) -> None:
        file, _ = write_tensors(
            ledger.tensors,
            {"z": torch.stack([target.z for _, target in finished])},
            {"model": model.key, "keys": " ".join(keys[missing[index]] for index, _ in finished)},
        )
        rows = []
        for row, (index, target) in enumerate(finished):
            key = keys[missing[index]]
            found[key] = target.z
            rows.append((key, row, len(target.losses), target.losses[-1]))
        ledger.record_targets(model.key, file, rows)

    if missing:
        wanted = [groups[place] for place in missing]
        together(choice, "targets", wanted, contexts, choice.settings, on_done=record, progress=progress)
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
