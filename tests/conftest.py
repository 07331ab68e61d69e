"""What tests of several parts share."""

import copy
import gc
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from filelock import FileLock

from kbsync.cli.main import app, main

gc.disable()  # until all is imported: little of that is ever garbage, and a fifth of the time would go into seeing so


@dataclass(frozen=True, slots=True)
class Ran:
    """A command's exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What stdout holds, parsed."""
        return json.loads(self.out)


Run = Callable[..., Ran]


def pytest_collection_finish() -> None:
    gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why tests were skipped, each reason once, next to the summary line."""
    skipped = Counter(str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", []))
    for reason, count in skipped.items():
        terminalreporter.write_line(f"{count} skipped: {reason.removeprefix('Skipped: ')}")


def run_folder(base: Path) -> Path:
    """Return the folder that all processes of a run share; `base` is this one's own."""
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def made_once(base: Path, name: str, make: Callable[[Path], object], made_of: str = "") -> Path:
    """Return what `make` writes to a path, made by one process of a run for all.

    What is long to make says what it is `made_of`: it stays in pytest's folder for later runs.
    """
    folder = run_folder(base)
    if made_of and folder.parent.name.startswith("pytest-of-"):
        folder = folder.parent / f"{name}-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}"
        folder.mkdir(exist_ok=True)
    path = folder / name
    with FileLock(path.with_name(f"{name}.lock")):
        if not path.exists():
            unfinished = path.with_name(f"{name}.unfinished")
            make(unfinished)
            unfinished.rename(path)
    return path


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Leave the user's cache alone; the processes of one run share theirs."""
    os.environ["KBSYNC_CACHE"] = str(run_folder(tmp_path_factory.getbasetemp()) / "kbsync-cache")


@pytest.fixture(autouse=True, scope="session")
def one_command_line() -> Iterator[None]:
    """Have kbsync's commands built once for all tests of a process: that takes longer than most of them."""
    build, groups, whole = typer.main.get_command, list(app.registered_groups), typer.main.get_command(app)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "typer.main.get_command",
            lambda one: whole if one is app and app.registered_groups == groups else build(one),
        )
        yield


KEPT = ("tiny-known", "practice-model")
"""folders of the two models that most tests load"""
ANSWER, TEXT = 12, 40
"""tokens of what a model is heard to say, for the objects of the tests are no longer; and of a generated text"""


@pytest.fixture(autouse=True, scope="session")
def read_once() -> Iterator[None]:
    """Have the weights in `KEPT` read once in a process, and a copy of its own given to whoever loads them."""
    if "kbsync.models" not in sys.modules:  # no test here loads a model
        yield
        return
    from kbsync.models import load
    from kbsync.models.checkpoint import Checkpoint

    opened: dict[str, Any] = {}
    from_files = load.open_weights

    def open_weights(checkpoint: Checkpoint, **arguments: Any) -> Any:
        folder = Path(checkpoint.place)
        if folder.name not in KEPT or checkpoint.gguf or "device_map" in arguments:
            return from_files(checkpoint, **arguments)
        files = sorted((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in folder.iterdir())
        key = f"{files} {sorted((name, str(value)) for name, value in arguments.items() if name != 'config')}"
        if key not in opened:
            opened[key] = from_files(checkpoint, **arguments)
        return copy.deepcopy(opened[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "open_weights", open_weights)
        patch.setattr("kbsync.metrics.registry.ANSWER", ANSWER)
        patch.setattr("kbsync.metrics.registry.TEXT_LENGTH", TEXT)
        yield


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run kbsync as from a shell, in this process, in an empty folder and with no home set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KBSYNC_HOME", raising=False)

    def run(*arguments: object) -> Ran:
        code = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Ran(code, printed.out, printed.err)

    return run
