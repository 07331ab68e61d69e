"""A second process that measures a part of the editors, where the model runs on a processor.

A small model does not keep several cores busy, and ROME's edits and MEND's training come one after another. The
editors that share MEMIT's target vectors stay in the first process, the others go to the second; what it has measured
is then taken over. Where it ends early, whatever the reason, the first process makes what is missing.
"""

import os
import signal
import sys
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from kbsync.benchmarks.paper.bench import REUSES_TARGETS, PaperBench
from kbsync.benchmarks.paper.options import PaperOptions, chosen_experiments, make_bench
from kbsync.benchmarks.paper.registry import EXPERIMENTS
from kbsync.benchmarks.paper.units import Units
from kbsync.errors import KbsyncError
from kbsync.ledger import Ledger
from kbsync.models import list_devices
from kbsync.workflows.choice import choose_model
from kbsync.workflows.loading import Loading

__all__ = ["SecondProcess", "second_process"]

BASE = "none"
TOLD_BYTES = 200


@dataclass(frozen=True, slots=True)
class Job:
    """What the second process needs to know."""

    home: Path
    model: str
    options: PaperOptions
    """experiments and editors are those of the second process"""
    loading: Loading
    known: Path
    """units that are measured already"""
    found: Path
    """where its own units go"""
    threads: int
    parent: int
    """process that it works for"""


class SecondProcess:
    """A process that runs between `with` and the end of its block, or until it is done."""

    def __init__(self, job: Job) -> None:
        self.job, self.threads = job, torch.get_num_threads()
        context = get_context("spawn")  # a fork would share the locks of torch's threads
        self.told: Any = context.Array("c", TOLD_BYTES)
        self.process = context.Process(target=measure, args=(job, self.told), daemon=True)

    @property
    def editors(self) -> tuple[str, ...]:
        """The editors that it measures."""
        return self.job.options.editors

    def __enter__(self) -> Self:
        """Begin; the threads are shared out."""
        torch.set_num_threads(self.threads - self.job.threads)
        self.process.start()
        return self

    def share(self) -> None:
        """Take its threads back where it has ended."""
        if not self.process.is_alive():
            torch.set_num_threads(self.threads)

    def join(self, bench: PaperBench) -> None:
        """Wait for it, and take over what it has measured."""
        while self.process.is_alive():
            self.process.join(1)
            bench.progress(f"second process: {self.told.value.decode(errors='ignore')}", 0, 0)
        bench.units.take(self.job.found)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it where it still runs; all threads are the first process's again."""
        if self.process.is_alive():
            self.process.terminate()
        self.process.join()
        torch.set_num_threads(self.threads)


def second_process(bench: PaperBench, model: str, options: PaperOptions, loading: Loading) -> SecondProcess | None:
    """Return a process that is yet to begin; None where it would have nothing to do, no core or no memory."""
    aside = tuple(name for name in bench.editors if name not in (*REUSES_TARGETS, BASE))
    shared = tuple(name for name in options.experiments if EXPERIMENTS[name].of_editors)
    threads = torch.get_num_threads() // 2
    here = len(aside) < len(bench.editors)
    if bench.loaded.device.type != "cpu" or not (threads and aside and shared and here and room_for_another(bench)):
        return None
    bench.units.take(found := bench.units.file.with_suffix(".second.jsonl"))  # what a killed run left
    its_own = replace(options, experiments=shared, editors=aside)
    home = bench.ledger.home
    return SecondProcess(Job(home, model, its_own, loading, bench.units.file, found, threads, os.getpid()))


def room_for_another(bench: PaperBench) -> bool:
    """Return whether the memory holds the model once more, with as much again to work in."""
    size = sum(parameter.nbytes for parameter in bench.loaded.model.parameters())
    return 2 * size < list_devices()[-1].free  # the CPU is the last of them


def measure(job: Job, told: Any) -> None:
    """Run the job's experiments for their measurements; the second process's own work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends this one
    torch.set_num_threads(job.threads)

    def progress(phase: str, done: int, total: int) -> None:
        if os.getppid() != job.parent:
            sys.exit("the process that this one worked for is gone")
        told.value = f"{phase} {done} of {total}".encode()[: TOLD_BYTES - 1]

    try:
        with Ledger.open(job.home) as ledger:
            options = job.options
            choice = choose_model(job.model, options.values, home=job.home, loading=job.loading, corpus=options.corpus)
            bench = make_bench(ledger, choice, options, Units(job.found, job.known), progress)
            for experiment in chosen_experiments(options.experiments):
                experiment.run(bench)
    except KbsyncError:
        sys.exit(1)  # the first process comes to the same, and tells it
