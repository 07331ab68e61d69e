"""Finished measurements as JSON lines, so that a killed run goes on with what is missing."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kbsync.errors import SettingsError
from kbsync.facts import content_id

__all__ = ["Measurements"]


class Measurements:
    """What a file keeps of earlier runs; `made` counts what this one added."""

    def __init__(self, file: Path) -> None:
        """Read the file; SettingsError where it cannot be read, or holds something else."""
        self.file, self.made = file, 0
        try:
            whole, _, cut = (file.read_bytes() if file.exists() else b"").rpartition(b"\n")
            self.values = {line["key"]: line["value"] for line in map(json.loads, whole.splitlines())}
            if cut:  # what a killed run was writing
                os.truncate(file, file.stat().st_size - len(cut))
        except OSError as error:
            raise SettingsError(f"{file} cannot be read and written: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise SettingsError(f"{file} is not as bench paper wrote it: delete it and run again") from error

    def get(self, about: Mapping[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the measurement that depends on all of `about`: the kept one, or one made now."""
        kept = self.find(about)
        return self.add(about, make()) if kept is None else kept

    def find(self, about: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the kept measurement, or None."""
        return self.values.get(content_id("unit1", about))

    def add(self, about: Mapping[str, Any], value: Mapping[str, Any]) -> dict[str, Any]:
        """Keep a measurement, in the place of an earlier one; it is on the disk when this returns, as JSON gives it."""
        key = content_id("unit1", about)
        kept: dict[str, Any] = json.loads(json.dumps(value))
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a", encoding="utf-8") as opened:
                line = {"key": key, "about": dict(about), "value": kept}
                opened.write(json.dumps(line, ensure_ascii=False) + "\n")
                opened.flush()
                os.fsync(opened.fileno())
        except OSError as error:
            raise SettingsError(f"{self.file} cannot be written: {error.strerror or error}") from error
        self.values[key] = kept
        self.made += 1
        return kept
