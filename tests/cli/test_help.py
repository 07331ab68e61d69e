"""Every command has help, an example that works, and the shared options; all help texts stand in help.txt.

After a change that is meant: ``python -m tests.cli.test_help > tests/cli/help.txt``.
"""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from kbsync.cli.main import app

SNAPSHOT = Path(__file__).with_name("help.txt")


def groups_and_commands(command: Any, path: str = "kbsync") -> Iterator[tuple[str, Any]]:
    """Yield (``kbsync pull``, its command) for all groups and commands, in order."""
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from groups_and_commands(below, f"{path} {name}")


ROOT = typer.main.get_command(app)
ALL = dict(groups_and_commands(ROOT))
COMMANDS = {path: command for path, command in ALL.items() if not hasattr(command, "commands")}


def help_of(path: str) -> str:
    context = ALL[path].make_context(path, ["--"], resilient_parsing=True, max_content_width=100, terminal_width=100)
    return f"$ {path} --help\n{ALL[path].get_help(context)}\n"


def examples_of(path: str) -> list[str]:
    _, _, below = (COMMANDS[path].epilog or "").partition("Example:\n")
    return [line.strip() for line in below.splitlines()]


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


def test_help_texts_are_those_on_record() -> None:
    assert "\n".join(map(help_of, ALL)) == SNAPSHOT.read_text(encoding="utf-8")


if __name__ == "__main__":
    print("\n".join(map(help_of, ALL)), end="")
