"""A preset that was found for a model, to be written among a home's own."""

import re
from dataclasses import replace
from pathlib import Path

from kbsync.errors import SettingsError
from kbsync.memit import MemitSettings, Preset, load_preset
from kbsync.memit.settings import BOUNDS
from kbsync.sync.choice import ModelChoice

__all__ = ["new_preset", "preset_file_for"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


def preset_file_for(home: Path, name: str | None, option: str = "--write") -> Path | None:
    """Return where the preset that `option` names will be written, None where it names none.

    Raises SettingsError for a name that cannot be one, or is taken.
    """
    if name is None:
        return None
    if not NAME.match(name):
        raise SettingsError(f"{option} {name!r}: a preset's name has letters, digits and .-_ after a letter or digit")
    file = home / "presets" / f"{name}.yaml"
    if file.exists():
        raise SettingsError(f"{file} exists already: choose another name for {option}, or delete it")
    return file


def new_preset(
    home: Path, name: str, model: str, choice: ModelChoice, settings: MemitSettings, corpus: Path | None = None
) -> Preset:
    """Return the preset of `settings` for what the user calls `model`; `corpus` is the one that the user named.

    Paths are made absolute, but for what travels with kbsync. Bounds are those of the model's preset, if it has one.
    """
    known = load_preset(model, home)
    where = known.model if known else choice.name
    travels = known.corpus if known and corpus is None else None
    text = travels or (str(choice.corpus.resolve()) if choice.corpus else None)
    own = Preset(name, where, settings, text)
    if known is None:
        return own
    bounds = {bound: getattr(known, bound) for bound in BOUNDS}
    return replace(own, package=known.package, **bounds)
