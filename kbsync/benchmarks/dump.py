"""How fast two relations are had from a dump, beside Oxigraph's load of the same file.

kbsync passes the dump through and keeps what is asked for; Oxigraph keeps all of it, in memory or on disk, which is
what a query over the dump would need. Each is a process of its own whose time and memory are taken.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pyoxigraph import RdfFormat, Store
from rich.console import Group, RenderableType

from kbsync.benchmarks.made_up import ASKED, dump_lines
from kbsync.errors import SourceError
from kbsync.report.tables import plain, table
from kbsync.sources import Ask, open_source
from kbsync.sync.home import Progress, silent

__all__ = ["WAYS", "DumpBench", "Reading", "bench_dump", "dump_view"]

STATUS = Path("/proc/self/status")


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
        command = [sys.executable, "-m", "kbsync.benchmarks.dump", way, str(file), folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise SourceError(f"reading the dump failed ({way}): {said}; see that memory and disk suffice, or ask for less")
    told = json.loads(done.stdout)
    peak = None if told["peak"] is None else told["peak"] / 2**20
    return Reading(told["seconds"], triples / told["seconds"], peak), told["found"]


def dump_view(bench: DumpBench) -> RenderableType:
    """Return seconds, speed and memory of each way, and the ratios."""
    ways = {
        f"kbsync, {bench.facts:,} facts": bench.kbsync,
        "Oxigraph's load into memory": bench.oxigraph_memory,
        "Oxigraph's load onto disk": bench.oxigraph_disk,
    }
    rows = [
        (name, f"{way.seconds:.1f}", f"{way.triples_per_second:,.0f}", way.peak_mb and f"{way.peak_mb:,.0f}")
        for name, way in ways.items()
    ]
    title = f"{bench.triples:,} triples, {bench.megabytes:.0f} MB"
    ratios = f"ratio {bench.ratio['memory']:.2f} to the load into memory, {bench.ratio['disk']:.2f} to that onto disk"
    return Group(table(("", "seconds", "triples/s", "peak MB"), rows, title=title), plain(ratios))


def _kbsync(file: Path, folder: Path) -> int:
    """Read two relations as `kbsync pull` does; return how many facts they have."""
    asks = [Ask(relation) for relation in ASKED]
    source = open_source(str(file), asks=asks)
    return sum(len(source.read(ask).facts) for ask in asks)


def _memory(file: Path, folder: Path) -> int:
    """Load the file into Oxigraph's store in memory; return how many statements it holds."""
    return _loaded(Store(), file)


def _disk(file: Path, folder: Path) -> int:
    """Load the file into Oxigraph's store on disk; return how many statements it holds."""
    return _loaded(Store(folder), file)


def _loaded(store: Store, file: Path) -> int:
    store.bulk_load(path=file, format=RdfFormat.N_TRIPLES)
    return len(store)


WAYS: dict[str, Callable[[Path, Path], int]] = {"kbsync": _kbsync, "memory": _memory, "disk": _disk}


def _peak() -> int | None:
    """Return the most bytes that this process held; getrusage would count what the parent had before it began."""
    found = re.search(r"VmHWM:\s+(\d+)", STATUS.read_text()) if STATUS.exists() else None
    return 1024 * int(found[1]) if found else None


def _main(way: str, file: str, folder: str) -> None:
    started = time.perf_counter()
    found = WAYS[way](Path(file), Path(folder))
    print(json.dumps({"seconds": time.perf_counter() - started, "found": found, "peak": _peak()}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
