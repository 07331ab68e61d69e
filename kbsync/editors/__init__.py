"""MEMIT and its baselines behind one interface: requests in, weight deltas out (`Editor`, `Task`).

Each follows its own paper, with its own settings; `editor` finds it by name. A new one is a file of its own, a line
in `EDITORS`, and its test. MEMIT itself, which is no more than targets of groups, spread over R, is here.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import yaml

from kbsync.editors.alphaedit import AlphaEditSettings, NasSettings, write_alphaedit, write_nas
from kbsync.editors.editor import Deltas, Editor, NoSettings, Task
from kbsync.editors.ft import LLAMA3_SHARE, LOCFT, FineTuningSettings, fine_tune
from kbsync.editors.mend import write_mend
from kbsync.editors.rome import RomeSettings, write_rome
from kbsync.errors import SettingsError
from kbsync.memit import optimise_targets, spread
from kbsync.memit.settings import changed

PRESETS = Path(__file__).resolve().parent / "presets"


def write_memit(task: Task, _: NoSettings) -> Deltas:
    """Return the delta of each layer of R; target vectors that the task has are not searched again."""
    z = task.z
    if z is None:
        found = optimise_targets(task.loaded, task.groups, task.contexts, task.settings, progress=task.progress)
        z = torch.stack([target.z for target in found])
    with task.phase("covariance"):
        covariances = task.covariances(task.settings.layers) if task.team.leads else {}
    given = task.groups, task.contexts, z, covariances, task.settings, task.progress
    return spread(task.loaded, *given, task.phase, task.remark, task.team, task.held)


EDITORS = {
    one.name: one
    for one in (
        Editor("memit", write_memit, targets=True, covariance=True),
        Editor("rome", write_rome, RomeSettings(), covariance=True),
        Editor("rome-published", partial(write_rome, bare=True), RomeSettings(), covariance=True),
        Editor("ft", fine_tune, FineTuningSettings()),
        Editor("mend", write_mend),
        Editor("alphaedit", write_alphaedit, AlphaEditSettings(), covariance=True),
        Editor("nas", write_nas, NasSettings(), covariance=True),
        Editor("locft", partial(fine_tune, share=LLAMA3_SHARE), LOCFT),
        Editor("none", lambda task, settings: {}),  # what every table compares with
    )
}
"""in the order of tables"""


def editor(name: str, values: Mapping[str, Any] = MappingProxyType({}), *, model: str | None = None) -> Editor:
    """Return the editor of this name, with its paper's settings changed by what is known of `model`, then by `values`.

    `values` may be command-line text. Raises SettingsError for a name or setting that does not exist.
    """
    if name not in EDITORS:
        raise SettingsError(f"unknown editor {name!r}; known: {', '.join(EDITORS)}")
    found = EDITORS[name]
    return replace(found, settings=changed(changed(found.settings, known_values(model, name)), values))


def known_values(model: str | None, editor: str) -> dict[str, Any]:
    """Return the settings of an editor that were measured for a model of this name; {} where none were."""
    files = {path.stem: path for path in PRESETS.glob("*.yaml")}
    if model not in files:
        return {}
    content: dict[str, dict[str, Any]] = yaml.safe_load(files[model].read_text(encoding="utf-8"))
    return content.get(editor, {})
