"""MEMIT and its baselines behind one interface: requests in, weight deltas out (`Editor`, `Task`).

Each follows its own paper, with its own settings; `editor` finds it by name. A new one is a file of its own, a line
in `EDITORS`, and its test.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import yaml

from kbsync.editors.alphaedit import AlphaEdit, Nas
from kbsync.editors.editor import NO_SETTINGS, Deltas, Editor, NoSettings, Task
from kbsync.editors.ft import FineTuning, LocFineTuning
from kbsync.editors.memit import Memit
from kbsync.editors.mend import Mend
from kbsync.editors.rome import Rome, RomePublished
from kbsync.errors import SettingsError
from kbsync.memit.settings import changed

__all__ = ["EDITORS", "Deltas", "Editor", "Task", "editor"]


PRESETS = Path(__file__).resolve().parent / "presets"


@dataclass(frozen=True, slots=True)
class NoEditor:
    """No edit at all: what every table compares with."""

    name: ClassVar[str] = "none"
    targets: ClassVar[bool] = False
    covariance: ClassVar[bool] = False
    settings: NoSettings = NO_SETTINGS

    def edit(self, task: Task) -> Deltas:
        """Return no deltas."""
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
