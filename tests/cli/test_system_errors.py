"""What the system refuses is told in one line, whatever command meets it, and whenever."""

import builtins
import errno
import io
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Run

FACTS = "P36: {France: Paris, Norway: Oslo}\n"
COMMANDS = {
    "pull": ["pull", "--relation", "P36", "--source", "facts.yaml"],
    "plan": ["plan", "--model", "practice"],
    "status": ["status"],
    "log": ["log", "--fact", "France P36"],
    "verify": ["verify"],
    "templates check": ["templates", "check", "facts.yaml"],
    "retract": ["retract", "--subject", "France", "--relation", "P36", "--yes"],
    "rollback": ["rollback", "--yes"],
}
REFUSALS = (errno.EACCES, errno.ENOSPC)


def refusing(real: Callable[..., Any], number: int, below: Path) -> Callable[..., Any]:
    """Return `real` as it is where the system refuses it for all files in a folder."""

    def call(where: Any, *rest: Any, **named: Any) -> Any:
        named_there = isinstance(where, str | os.PathLike) and Path(where).absolute().is_relative_to(below)
        if named_there or real is os.fsync:
            raise OSError(number, os.strerror(number), *([os.fspath(where)] if named_there else []))
        return real(where, *rest, **named)

    return call


@contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """Let the system itself refuse to write beyond `size` bytes of a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def check(ran: Any) -> None:
    assert "has a bug" not in ran.err, ran.err
    assert ran.code in (0, 1, 3), ran.err
    if ran.code == 1:
        assert any(line.startswith("Error: ") for line in ran.err.splitlines()), ran.err


@pytest.fixture
def pulled(run: Run, tmp_path: Path) -> Path:
    (tmp_path / "facts.yaml").write_text(FACTS, encoding="utf-8")
    assert run("pull", "--relation", "P36", "--source", "facts.yaml", "--home", "home").code == 0
    return tmp_path


@pytest.mark.parametrize("call", ["open", "fsync", "replace", "mkdir"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_refusal_is_told(command: str, call: str, run: Run, pulled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in REFUSALS:
        with monkeypatch.context() as patched:
            for module in (builtins, io) if call == "open" else (os,):
                patched.setattr(module, call, refusing(getattr(module, call), number, pulled))
            ran = run(*COMMANDS[command], "--home", "home")
        check(ran)


@pytest.mark.parametrize("size", [0, 9000])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_limit_on_the_size_of_files_is_told(command: str, size: int, run: Run, pulled: Path) -> None:
    with files_no_longer_than(size):
        ran = run(*COMMANDS[command], "--home", "home")
    check(ran)
