"""Checks of editors' settings, and what is known to suit a model."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from kbsync.errors import SettingsError

__all__ = ["check", "known_values"]

PRESETS = Path(__file__).resolve().parent / "presets"


def check(settings: object, wanted: str, good: Callable[[Any], bool], *names: str) -> None:
    """Raise SettingsError unless each named field is `good` (told as `wanted`), finite, or None."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and (not good(value) or not math.isfinite(value)):
            raise SettingsError(f"{name}: {value} is not {wanted}")


def known_values(model: str | None, editor: str) -> dict[str, Any]:
    """Return the settings of an editor that were measured for a model of this name; {} where none were."""
    files = {path.stem: path for path in PRESETS.glob("*.yaml")}
    if model not in files:
        return {}
    content: dict[str, dict[str, Any]] = yaml.safe_load(files[model].read_text(encoding="utf-8"))
    return content.get(editor, {})
