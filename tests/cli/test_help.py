"""Every command has help, an example that works, and the shared options; docs/commands.md has all help texts.

After a change that is meant: ``make commands``.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.cli import get_docs_for_click

from kbsync.cli.main import app

REFERENCE = Path(__file__).parents[2] / "docs" / "commands.md"


def groups_and_commands(command: Any, path: str = "kbsync") -> Iterator[tuple[str, Any]]:
    """Yield (``kbsync pull``, its command) for all groups and commands, in order."""
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from groups_and_commands(below, f"{path} {name}")


ROOT = typer.main.get_command(app)
ALL = dict(groups_and_commands(ROOT))
COMMANDS = {path: command for path, command in ALL.items() if not hasattr(command, "commands")}


def reference() -> str:
    """The page of all commands."""
    context: Any = ROOT.make_context("kbsync", ["--"], resilient_parsing=True)
    text = get_docs_for_click(obj=ROOT, ctx=context, name="kbsync", title="Commands")
    return re.sub(r"\n{3,}", "\n\n", text.replace("\b\n", "")).strip() + "\n"  # \b: click leaves the lines as they are


def examples_of(path: str) -> list[str]:
    return [line.strip() for line in (COMMANDS[path].epilog or "").splitlines() if line.startswith("    ")]


@pytest.mark.parametrize("path", ALL)
def test_there_is_help(path: str) -> None:
    assert ALL[path].help


@pytest.mark.parametrize("path", COMMANDS)
def test_its_examples_are_right(path: str) -> None:
    examples = examples_of(path)
    assert examples
    for example in examples:
        assert example.startswith(f"{path}"), example
        arguments = shlex.split(example.removeprefix(path))
        COMMANDS[path].make_context(path, arguments).close()  # parses, and raises for what it does not know


@pytest.mark.parametrize("path", COMMANDS)
def test_it_takes_the_shared_options(path: str) -> None:
    options = {option for parameter in COMMANDS[path].params for option in parameter.opts}
    assert {"--home", "--json", "--debug"} <= options


def test_the_reference_is_current() -> None:
    assert reference() == REFERENCE.read_text(encoding="utf-8"), "run make commands"


if __name__ == "__main__":
    print(reference(), end="")
