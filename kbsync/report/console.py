"""Where output goes: results to stdout, everything else to stderr."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from rich.console import Console, RenderableType

from kbsync.errors import KbsyncError
from kbsync.files import writing
from kbsync.report.json_text import json_text
from kbsync.report.tables import plain

_PIPE_WIDTH = 200  # columns where no terminal says how many there are: tables are read by programs then, so not cut

Result = TypeVar("Result")


def result_console() -> Console:
    """Return a console on stdout, for results."""
    return _console(stderr=False)


def log_console() -> Console:
    """Return a console on stderr, for progress and remarks."""
    return _console(stderr=True)


def emit(result: Result, view: Callable[[Result], RenderableType], *, as_json: bool) -> None:
    """Print `result` on stdout: as JSON, or as what `view` makes of it.

    Raises KbsyncError where stdout takes no more (a full disk); a reader that went away stays a BrokenPipeError.
    """
    try:
        if as_json:
            # Escapes where the terminal's encoding cannot show every letter, so that the JSON stays whole.
            ascii_only = not (sys.stdout.encoding or "").lower().startswith("utf")
            sys.stdout.writelines(json_text(result, ascii_only=ascii_only))
        else:
            result_console().print(view(result))
        sys.stdout.flush()  # a closed pipe shows here, where it is dealt with, and not when Python exits
    except BrokenPipeError:
        raise
    except OSError as error:
        _let_go()
        reason = error.strerror or error
        raise KbsyncError(
            f"the result cannot be written to standard output ({reason}); the command itself has finished"
        ) from None


def emit_text(text: str, to: Path | None) -> None:
    """Write a page to a file, whole or not at all, or to stdout; raises WriteError where it cannot be written."""
    if to is None:
        emit(text, plain, as_json=False)
        return
    new = to.with_name(f".{to.name}.{os.getpid()}")
    with writing(to):
        try:
            new.write_text(text, encoding="utf-8")
            new.replace(to)
        finally:
            new.unlink(missing_ok=True)


def _let_go() -> None:
    """Let what is still to be written to stdout go nowhere, or Python would try again as it exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def show(
    result: Result, view: Callable[[Result], RenderableType], plain_form: Callable[[Result], object], *, as_json: bool
) -> None:
    """Print `result` as `emit` does, where its JSON is not its fields but what `plain_form` makes of it."""
    if as_json:
        emit(plain_form(result), lambda _: "", as_json=True)
    else:
        emit(result, view, as_json=False)


def _console(*, stderr: bool) -> Console:
    if (sys.stderr if stderr else sys.stdout).isatty():
        return Console(stderr=stderr, highlight=False)
    # soft_wrap leaves a line of text whole, so that `| grep` finds what stands in it; a table's cells still fold.
    return Console(stderr=stderr, highlight=False, width=_PIPE_WIDTH, soft_wrap=True)
