"""The command line in processes of its own that can be killed, limited or interrupted.

Each is forked from a server that has imported torch already: importing it takes seconds, and a kill that falls into
them says nothing about what kbsync writes.
"""

import contextlib
import ctypes
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPTJForCausalLM, PreTrainedTokenizerFast

import kbsync.sources.sparql
import kbsync.sync.answers
import kbsync.sync.export
import kbsync.sync.pull
from kbsync.cli.main import main
from kbsync.memit import targets
from tests.conftest import Ran

__all__ = ["Running", "context", "run", "start"]

LOADED = (AutoModelForCausalLM, AutoTokenizer, GPTJForCausalLM, PreTrainedTokenizerFast, kbsync)
"""what the commands import late, and the server has at hand"""
TARGET_TOKENS = 400
"""of one batch of the search for targets: few, so that a search has several batches and can be cut between them"""
PATIENCE = 300.0
"""seconds"""
CLONE_NEWNS = 0x20000
NO_MOUNTS = 77

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload([__name__, "tests.e2e.story"])


@dataclass(frozen=True, slots=True)
class Running:
    """A command at work; what it prints goes to two files."""

    process: BaseProcess
    out: Path
    err: Path

    @property
    def said(self) -> list[str]:
        """Its lines on stderr so far: the phases that it has begun."""
        return self.err.read_text(encoding="utf-8").splitlines() if self.err.exists() else []

    def wait_for(self, ready: Callable[[], bool]) -> bool:
        """Wait until `ready`; false where the command ended before."""
        until = time.monotonic() + PATIENCE
        while not ready():
            if not self.process.is_alive():
                return False
            assert time.monotonic() < until, self.said
            self.process.join(0.005)
        return True

    def send(self, number: int) -> None:
        """Send it a signal."""
        assert self.process.pid is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, number)

    def end(self) -> Ran:
        """Wait for its end; a code below 0 is the signal that ended it."""
        self.process.join(PATIENCE)
        assert self.process.exitcode is not None, self.said
        return Ran(self.process.exitcode, self.out.read_text(encoding="utf-8"), "\n".join(self.said))


def start(
    folder: Path,
    *arguments: object,
    cwd: Path | None = None,
    file_size: int | None = None,
    mount: Sequence[str] = (),
) -> Running:
    """Start a command, in the folder `cwd` where there is one, and return when it has begun; `folder` gets its output.

    `file_size` bounds (in bytes) what it may write into one file. `mount` is a mount command that holds for it alone.
    """
    os.environ["OMP_NUM_THREADS"] = "1"  # for the server, if it is not yet there
    folder.mkdir(parents=True, exist_ok=True)
    out, err = folder / "stdout", folder / "stderr"
    err.unlink(missing_ok=True)
    texts = [str(argument) for argument in arguments]
    process = context.Process(target=_run, args=(texts, out, err, cwd, file_size, mount), daemon=True)
    process.start()
    running = Running(process, out, err)
    running.wait_for(err.exists)
    return running


def run(folder: Path, *arguments: object, file_size: int | None = None, mount: Sequence[str] = ()) -> Ran:
    """Run a command to its end; the test is skipped where nothing can be mounted."""
    ran = start(folder, *arguments, file_size=file_size, mount=mount).end()
    if ran.code == NO_MOUNTS:
        pytest.skip("mounting a file system takes root and its rights here")
    return ran


def _run(
    arguments: list[str], out: Path, err: Path, cwd: Path | None, file_size: int | None, mount: Sequence[str]
) -> None:
    for path, stream in ((out, sys.stdout), (err, sys.stderr)):
        with path.open("w", encoding="utf-8") as file:
            os.dup2(file.fileno(), stream.fileno())
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the server ignores it
    torch.set_num_threads(1)
    if cwd:
        os.chdir(cwd)
    targets.TOKEN_BUDGET["cpu"] = TARGET_TOKENS
    if mount:
        _mount(mount)
    if file_size is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    sys.exit(main(arguments))


def _mount(command: Sequence[str]) -> None:
    """Run a mount command in a mount namespace of this process's own."""
    private = ["mount", "--make-rprivate", "/"]
    if ctypes.CDLL(None).unshare(CLONE_NEWNS) or any(subprocess.run(part).returncode for part in (private, command)):
        sys.exit(NO_MOUNTS)
