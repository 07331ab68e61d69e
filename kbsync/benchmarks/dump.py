"""How fast two relations are had from a dump, beside Oxigraph's load of the same file.

kbsync passes the dump through and keeps what is asked for; Oxigraph keeps all of it, in memory or on disk, which is
what a query over the dump would need. Each is a process of its own whose time and memory are taken.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from kbsync.benchmarks.generated_dump import dump_lines
from kbsync.errors import SourceError
from kbsync.workflows.progress import Progress, silent

__all__ = ["DumpBench", "Reading", "bench_dump"]


@dataclass(frozen=True, slots=True)
class Reading:
    """What one way took for the dump."""

    seconds: float
    triples_per_second: float
    peak_mb: float | None
    """most memory that its process held at once; None where the system does not tell"""


@dataclass(frozen=True, slots=True)
class DumpBench:
    """The dump, and what each way took for it."""

    triples: int
    megabytes: float
    facts: int
    """that kbsync read"""
    kbsync: Reading
    oxigraph_memory: Reading
    oxigraph_disk: Reading
    ratio: dict[str, float]
    """kbsync's triples a second over Oxigraph's, by where its store lies: ``memory`` and ``disk``"""


def bench_dump(triples: int, *, progress: Progress = silent) -> DumpBench:
    """Make a dump of `triples` statements (N-Triples, not compressed), and read it three ways.

    Raises SourceError, with what it said, where a way fails.
    """
    with tempfile.TemporaryDirectory(prefix="kbsync-") as folder:
        file = Path(folder) / "dump.nt"
        progress("making the dump", 0, 0)
        with file.open("w", encoding="ascii") as out:
            out.writelines(dump_lines(triples))
        readings, found = {}, {}
        for done, way in enumerate(("kbsync", "memory", "disk")):
            progress(f"reading: {way}", done, 3)
            readings[way], found[way] = _read(way, file, triples)
        progress("reading: done", 3, 3)
        megabytes = file.stat().st_size / 2**20
    speed = readings["kbsync"].triples_per_second
    ratio = {way: speed / readings[way].triples_per_second for way in ("memory", "disk")}
    return DumpBench(
        triples, megabytes, found["kbsync"], readings["kbsync"], readings["memory"], readings["disk"], ratio
    )


def _read(way: str, file: Path, triples: int) -> tuple[Reading, int]:
    """Return what a way took, and the number of facts or statements that it found."""
    with tempfile.TemporaryDirectory(prefix="kbsync-") as folder:
        command = [sys.executable, "-m", "kbsync.benchmarks.dump_way", way, str(file), folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise SourceError(f"reading the dump failed ({way}): {said}; see that memory and disk suffice, or ask for less")
    told = json.loads(done.stdout)
    peak = None if told["peak"] is None else told["peak"] / 2**20
    return Reading(told["seconds"], triples / told["seconds"], peak), told["found"]
