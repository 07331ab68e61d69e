"""Where output goes: results to stdout, everything else to stderr."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date
from pathlib import PurePath
from typing import TypeVar

from rich.console import Console, RenderableType

__all__ = ["emit", "log_console", "result_console", "show", "to_plain"]

_PIPE_WIDTH = 200  # columns where no terminal says how many there are: tables are read by programs then, so not cut

Result = TypeVar("Result")


def result_console() -> Console:
    """Return a console on stdout, for results."""
    return _console(stderr=False)


def log_console() -> Console:
    """Return a console on stderr, for progress and remarks."""
    return _console(stderr=True)


def emit(result: Result, view: Callable[[Result], RenderableType], *, as_json: bool) -> None:
    """Print `result` on stdout: as JSON, or as what `view` makes of it."""
    if as_json:
        # Escapes where the terminal's encoding cannot show every letter, so that the JSON stays whole.
        ascii_only = not (sys.stdout.encoding or "").lower().startswith("utf")
        print(json.dumps(to_plain(result), ensure_ascii=ascii_only, indent=2))
    else:
        result_console().print(view(result))
    sys.stdout.flush()  # a closed pipe shows here, where it is dealt with, and not when Python exits


def show(
    result: Result, view: Callable[[Result], RenderableType], plain_form: Callable[[Result], object], *, as_json: bool
) -> None:
    """Print `result` as `emit` does, where its JSON is not its fields but what `plain_form` makes of it."""
    if as_json:
        emit(plain_form(result), lambda _: "", as_json=True)
    else:
        emit(result, view, as_json=False)


def to_plain(value: object) -> object:
    """Turn dataclasses, paths, dates and collections into what JSON has; raise TypeError for anything else."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, PurePath | date):
        return str(value)
    if isinstance(value, Iterable):
        return [to_plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _console(*, stderr: bool) -> Console:
    if (sys.stderr if stderr else sys.stdout).isatty():
        return Console(stderr=stderr, highlight=False)
    # soft_wrap leaves a line of text whole, so that `| grep` finds what stands in it; a table's cells still fold.
    return Console(stderr=stderr, highlight=False, width=_PIPE_WIDTH, soft_wrap=True)
