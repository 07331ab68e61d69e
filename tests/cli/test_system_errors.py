"""What the system refuses is told in one line, whatever command meets it, whenever, and whatever the reason.

Every command is tried with every kind of refusal: of each call another few kinds, so that all have been met in the end.
Commands that need a model are tried where they begin, but for the two that write most; what else they write is in
tests/e2e/test_faults_disk.py.
"""

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

from tests.cli.test_help import COMMANDS as ALL
from tests.conftest import Run
from tests.homes import SWAPPED, TEMPLATES, Editable, make_home

FACTS = "P36: {France: Paris, Norway: Oslo}\n"
MODEL = ("--model", "model")
LIGHT = {
    "init": ["--source", "facts.yaml", "--relation", "P36", "--model", "practice"],
    "sync": ["--dry-run"],
    "pull": ["--relation", "P36", "--source", "facts.yaml"],
    "plan": ["--model", "practice"],
    "status": ["--format", "html", "--to", "status.html"],
    "log": ["--fact", "France P36"],
    "history": [],
    "verify": [],
    "prune": [],
    "rollback": ["--yes"],
    "retract": ["--subject", "France", "--relation", "P36", "--yes"],
    "relations": ["--discover", "--source", "facts.yaml"],
    "publish": ["export", "--to", "served"],
    "audit": ["export"],
    "stats import": ["covariance.safetensors"],
    "templates list": [],
    "templates show": ["P36"],
    "templates check": ["facts.yaml"],
    "templates new": ["capital", "--predicate", "dbo:capital", "--source", "facts.ttl"],
    "config show": [],
    "config check": [],
    "config schema": [],
}
HEAVY = {
    "apply": [*MODEL, "--yes"],
    "bisect": [*MODEL],
    "watch": [],
    "ask": [*MODEL, "France is"],
    "export": [*MODEL, "--to", "out"],
    "eval": [*MODEL],
    "explain": ["France P36", *MODEL],
    "calibrate": [*MODEL],
    "trace": [*MODEL],
    "doctor": [*MODEL],
    "demo": [*MODEL],
    "practice datasets": ["--to", "made"],
    "mend train": [*MODEL],
    "stats collect": [*MODEL, "--corpus", "text.txt"],
    "stats export": ["out.safetensors", *MODEL],
    "templates test": ["P36", *MODEL],
    "bench sync": [*MODEL],
    "bench speed": [*MODEL],
    "bench groups": [*MODEL],
    "bench ledger": ["--facts", "10", "--edits", "1"],
    "bench pull": ["--facts", "10"],
    "bench paper": [*MODEL, "--to", "paper"],
}
LONG = {"practice train", "bench gpu", "bench dump"}
"""before the first file is opened they learn for a minute, make billions of numbers, or half a million lines"""
KINDS = (
    *(errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENOSPC, errno.EDQUOT, errno.EROFS),
    *(errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENAMETOOLONG, errno.ELOOP, errno.EBUSY, errno.ENOMEM),
)
CALLS = {
    "open": ((builtins, "open"), (io, "open"), (os, "open")),
    "write": ((builtins, "open"), (io, "open")),
    "fsync": ((os, "fsync"),),
    "rename": ((os, "rename"), (os, "replace")),
    "mkdir": ((os, "mkdir"),),
}


class Refusing:
    """A file that cannot be written to."""

    def __init__(self, opened: Any, number: int) -> None:
        self._opened, self._number = opened, number

    def write(self, *_: object) -> None:
        raise OSError(self._number, os.strerror(self._number))

    def __getattr__(self, name: str) -> Any:
        return self.write if name == "writelines" else getattr(self._opened, name)

    def __enter__(self) -> "Refusing":
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()


def refusing(real: Callable[..., Any], number: int, below: Path, call: str) -> Callable[..., Any]:
    """Return `real` as it is where the system refuses `call` for all files in a folder."""

    def refused(where: Any, *rest: Any, **named: Any) -> Any:
        named_there = isinstance(where, str | os.PathLike) and Path(where).absolute().is_relative_to(below)
        if call == "write":
            mode = str(named.get("mode", rest[0] if rest else "r"))
            opened = real(where, *rest, **named)
            return Refusing(opened, number) if named_there and set(mode) & set("wax+") else opened
        if named_there or call == "fsync":
            raise OSError(number, os.strerror(number), *([os.fspath(where)] if named_there else []))
        return real(where, *rest, **named)

    return refused


@contextmanager
def refused(call: str, number: int, below: Path) -> Iterator[None]:
    """Have the system refuse `call` below a folder."""
    with pytest.MonkeyPatch.context() as patched:
        for module, name in CALLS[call]:
            patched.setattr(module, name, refusing(getattr(module, name), number, below, call))
        yield


@contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """Let the system itself refuse to write beyond `size` bytes of a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def check(ran: Any, *, shows: bool = False) -> None:
    """Whether what went wrong is told; a command that `shows` it does so in its result."""
    assert "has a bug" not in ran.err, ran.err
    assert "Traceback" not in ran.err, ran.err
    assert ran.code in (0, 1, 3), ran.err
    if ran.code == 1 and not shows:
        assert any(line.startswith("Error: ") for line in ran.err.splitlines()), ran.err


def kinds_of(command: str, call: str, number: int) -> list[int]:
    """Return `number` kinds of refusal: other ones for each call, and for each command."""
    first = number * list(CALLS).index(call) + sorted(LIGHT | HEAVY).index(command)
    return [KINDS[(first + more) % len(KINDS)] for more in range(number)]


@pytest.fixture
def pulled(run: Run, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A folder with a home and what commands may ask for."""
    (tmp_path / "facts.yaml").write_text(FACTS, encoding="utf-8")
    (tmp_path / "facts.ttl").write_text('<http://a/b> <http://dbpedia.org/ontology/capital> "x" .', encoding="utf-8")
    (tmp_path / "text.txt").write_text("Some text.\n", encoding="utf-8")
    (tmp_path / "covariance.safetensors").write_bytes(b"no tensors")
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "config.json").write_text("{}", encoding="utf-8")
    assert run("pull", "--relation", "P36", "--source", "facts.yaml", "--home", "home").code == 0
    return tmp_path


def test_no_command_is_left_out() -> None:
    assert {f"kbsync {command}" for command in (LIGHT | HEAVY).keys() | LONG} == set(ALL)
    for command in LIGHT:
        assert {kind for call in CALLS for kind in kinds_of(command, call, 3)} == set(KINDS)


@pytest.mark.parametrize("command", LIGHT)
def test_a_refusal_is_told(command: str, run: Run, pulled: Path) -> None:
    if command in ("sync", "config show", "config check"):
        assert run("init", "--source", "facts.yaml", "--relation", "P36", "--model", "practice").code == 0
    for call in CALLS:
        for number in kinds_of(command, call, 3):
            with refused(call, number, pulled):
                ran = run(*command.split(), *LIGHT[command], "--home", "home")
            check(ran)


@pytest.mark.parametrize("command", HEAVY)
def test_a_file_that_cannot_be_opened_is_told(command: str, run: Run, pulled: Path) -> None:
    (pulled / "model").mkdir()
    (pulled / "model" / "config.json").write_text('{"model_type": "gptj"}', encoding="utf-8")
    for number in kinds_of(command, "open", 2):
        with refused("open", number, pulled):
            ran = run(*command.split(), *HEAVY[command], "--home", "home")
        check(ran, shows=command == "doctor")


@pytest.mark.parametrize("call", ["write", "fsync", "rename", "mkdir"])
def test_what_an_apply_and_an_export_cannot_write_is_told(
    call: str, run: Run, small: Editable, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = make_home(tmp_path / "home", TEMPLATES, P36={"France": SWAPPED["France"]})
    for number in kinds_of("apply", call, 2):
        with refused(call, number, tmp_path):
            ran = run("apply", *small.arguments, "--yes", "--home", home)
        check(ran)
        assert ran.code == 1 or call not in ("fsync", "rename")  # tensors are written by no call of Python's
    small.apply(home)
    for number in kinds_of("export", call, 2):
        with refused(call, number, tmp_path):
            ran = run("export", *small.model, "--to", "out", "--home", home)
        check(ran)
        assert ran.code == 0 or not [path for path in tmp_path.iterdir() if "out" in path.name]
        for path in tmp_path.glob("out*"):
            path.rename(tmp_path_factory.mktemp("away") / "out")


@pytest.mark.parametrize("size", [0, 9000])
@pytest.mark.parametrize("command", LIGHT)
def test_a_limit_on_the_size_of_files_is_told(command: str, size: int, run: Run, pulled: Path) -> None:
    with files_no_longer_than(size):
        ran = run(*command.split(), *LIGHT[command], "--home", "home")
    check(ran)
