"""The editors by name. A new one is a file of its own, a line here, and its test."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from kbsync.editors.alphaedit import AlphaEdit
from kbsync.editors.editor import Editor
from kbsync.editors.ft import FineTuning
from kbsync.editors.memit import Memit
from kbsync.editors.mend import Mend
from kbsync.editors.none import NoEditor
from kbsync.editors.rome import Rome
from kbsync.editors.settings import known_values
from kbsync.errors import SettingsError
from kbsync.memit.settings import changed

__all__ = ["EDITORS", "editor"]

EDITORS: dict[str, Callable[..., Editor]] = {
    "memit": Memit,
    "rome": Rome,
    "ft": FineTuning,
    "mend": Mend,
    "alphaedit": AlphaEdit,
    "none": NoEditor,
}
"""in the order of tables"""


def editor(name: str, values: Mapping[str, Any] = MappingProxyType({}), *, model: str | None = None) -> Editor:
    """Return the editor of this name, with its paper's settings changed by what is known of `model`, then by `values`.

    `values` may be command-line text. Raises SettingsError for a name or setting that does not exist.
    """
    if name not in EDITORS:
        raise SettingsError(f"there is no editor {name!r}; there are {', '.join(EDITORS)}")
    make = EDITORS[name]
    return make(changed(changed(make().settings, known_values(model, name)), values))
