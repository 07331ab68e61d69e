"""MEMIT and its baselines behind one interface: requests in, weight deltas out (`Editor`, `Task`).

Each follows its own paper, with its own settings; `editor` finds it by name. A new one is a file of its own, a line
in `EDITORS`, and its test. `Memit` itself, which is no more than targets of groups, spread over R, is here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import torch
import yaml

from kbsync.editors.alphaedit import AlphaEdit, Nas
from kbsync.editors.editor import NO_SETTINGS, Deltas, Editor, NoSettings, Task
from kbsync.editors.ft import FineTuning, LocFineTuning
from kbsync.editors.mend import Mend
from kbsync.editors.rome import Rome, RomePublished
from kbsync.errors import SettingsError
from kbsync.memit import optimise_targets, spread
from kbsync.memit.settings import changed


@dataclass(frozen=True, slots=True)
class Memit:
    """MEMIT with the model's own settings."""

    name: ClassVar[str] = "memit"
    targets: ClassVar[bool] = True
    covariance: ClassVar[bool] = True
    settings: NoSettings = NO_SETTINGS

    def edit(self, task: Task) -> Deltas:
        """Return the delta of each layer of R; target vectors that the task has are not searched again."""
        z = task.z
        if z is None:
            found = optimise_targets(task.loaded, task.groups, task.contexts, task.settings, progress=task.progress)
            z = torch.stack([target.z for target in found])
        with task.phase("covariance"):
            covariances = task.covariances(task.settings.layers) if task.team.leads else {}
        given = task.groups, task.contexts, z, covariances, task.settings, task.progress
        return spread(task.loaded, *given, task.phase, task.remark, task.team, task.held)


PRESETS = Path(__file__).resolve().parent / "presets"


@dataclass(frozen=True, slots=True)
class NoEditor:
    """No edit at all: what every table compares with."""

    name: ClassVar[str] = "none"
    targets: ClassVar[bool] = False
    covariance: ClassVar[bool] = False
    settings: NoSettings = NO_SETTINGS

    def edit(self, task: Task) -> Deltas:
        return {}


EDITORS: dict[str, Callable[..., Editor]] = {
    "memit": Memit,
    "rome": Rome,
    "rome-published": RomePublished,
    "ft": FineTuning,
    "mend": Mend,
    "alphaedit": AlphaEdit,
    "nas": Nas,
    "locft": LocFineTuning,
    "none": NoEditor,
}
"""in the order of tables"""


def editor(name: str, values: Mapping[str, Any] = MappingProxyType({}), *, model: str | None = None) -> Editor:
    """Return the editor of this name, with its paper's settings changed by what is known of `model`, then by `values`.

    `values` may be command-line text. Raises SettingsError for a name or setting that does not exist.
    """
    if name not in EDITORS:
        raise SettingsError(f"unknown editor {name!r}; known: {', '.join(EDITORS)}")
    make = EDITORS[name]
    return make(changed(changed(make().settings, known_values(model, name)), values))


def known_values(model: str | None, editor: str) -> dict[str, Any]:
    """Return the settings of an editor that were measured for a model of this name; {} where none were."""
    files = {path.stem: path for path in PRESETS.glob("*.yaml")}
    if model not in files:
        return {}
    content: dict[str, dict[str, Any]] = yaml.safe_load(files[model].read_text(encoding="utf-8"))
    return content.get(editor, {})
