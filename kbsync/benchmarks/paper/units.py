"""Finished units of work as JSON lines, so that a killed run goes on with what is missing."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kbsync.errors import SettingsError
from kbsync.facts import content_id

__all__ = ["Units"]


class Units:
    """What a file keeps of earlier runs; `made` counts what this one added."""

    def __init__(self, file: Path) -> None:
        """Read the file; SettingsError where it cannot be read, or is no file of units."""
        found, cut = lines(file)
        self.file, self.made = file, 0
        self.values = {line["key"]: line["value"] for line in found}
        if cut:  # what a killed run was writing
            try:
                os.truncate(file, file.stat().st_size - cut)
            except OSError as error:
                raise SettingsError(f"{file} cannot be written: {error.strerror or error}") from error

    def get(self, about: Mapping[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the unit that is told by `about`, everything that it depends on: the kept one, or one made now."""
        kept = self.find(about)
        return self.add(about, make()) if kept is None else kept

    def find(self, about: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the kept unit, or None."""
        return self.values.get(content_id("unit1", about))

    def add(self, about: Mapping[str, Any], value: Mapping[str, Any]) -> dict[str, Any]:
        """Keep a unit, in the place of an earlier one, and return it as it is read again."""
        key = content_id("unit1", about)
        kept: dict[str, Any] = json.loads(json.dumps(value))
        self.values[key] = kept
        self.made += 1
        self.keep({"key": key, "about": dict(about), "value": kept})
        return kept

    def keep(self, line: Mapping[str, Any]) -> None:
        """Add a line to the file; it is on the disk when this returns."""
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a", encoding="utf-8") as opened:
                opened.write(json.dumps(line, ensure_ascii=False) + "\n")
                opened.flush()
                os.fsync(opened.fileno())
        except OSError as error:
            raise SettingsError(f"{self.file} cannot be written: {error.strerror or error}") from error


def lines(file: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the whole lines of a file of units, and how many bytes of an unfinished one stand behind them.

    Raises SettingsError where it cannot be read, or is no file of units.
    """
    try:
        whole, _, cut = (file.read_bytes() if file.exists() else b"").rpartition(b"\n")
        found = [json.loads(line) for line in whole.splitlines()]
        return [{"key": one["key"], "about": one["about"], "value": one["value"]} for one in found], len(cut)
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"{file} is not as bench paper wrote it: delete it and run again") from error
