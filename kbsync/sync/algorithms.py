"""Apply with another algorithm than MEMIT: its editor, its settings, and the deltas that it gives for all active facts.

The sync is the same: each batch is made from the base for all active facts, whatever the algorithm. What is MEMIT's
alone (the cache of target vectors, retries, the team) the others go without.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

import torch

from kbsync.editors import EDITORS, Editor, Task, editor
from kbsync.errors import SettingsError
from kbsync.ledger import BatchRow, Ledger
from kbsync.memit import RequestGroup, WeightDelta
from kbsync.sync.choice import ModelChoice
from kbsync.sync.mend import mend_network
from kbsync.sync.progress import Progress

__all__ = ["MEMIT", "chosen_editor", "deltas_of", "editor_record", "recorded_editor", "same_editor"]

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
