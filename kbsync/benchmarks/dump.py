"""``kbsync bench dump``: two relations read from a dump, beside Oxigraph's load of the same file.

kbsync passes the dump through and keeps what is asked for; Oxigraph keeps all of it, in memory or on disk, which is
what a query over the dump would need. Each is a process of its own whose memory is taken.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pyoxigraph import RdfFormat, Store
from rich.console import Group, RenderableType

from kbsync.benchmarks.made_up import ASKED, dump_lines
from kbsync.benchmarks.measured import run_process
from kbsync.errors import KbsyncError, SourceError
from kbsync.files import writing
from kbsync.report.console import plain, table
from kbsync.sources import Ask, open_source
from kbsync.sync.home import Progress, silent


@dataclass(frozen=True, slots=True)
class Reading:
    """What one way took for the dump, without the start of its process, and the facts or statements that it found."""

    seconds: float
    triples_per_second: float
    peak_mb: float
    found: int


@dataclass(frozen=True, slots=True)
class DumpBench:
    """The dump, and what each of `WAYS` took for it; `ratio` is kbsync's speed over Oxigraph's."""

    triples: int
    megabytes: float
    ways: dict[str, Reading]
    ratio: dict[str, float]


def bench_dump(triples: int, *, progress: Progress = silent) -> DumpBench:
    """Make a dump of `triples` statements (N-Triples, not compressed), and read it each way.

    Raises SourceError, with what it said, where a way fails.
    """
    with tempfile.TemporaryDirectory(prefix="kbsync-") as folder:
        file = Path(folder) / "dump.nt"
        progress("making the dump", 0, 0)
        with writing(file), file.open("w", encoding="ascii") as out:
            out.writelines(dump_lines(triples))
        ways = {}
        for done, way in enumerate(WAYS):
            progress(f"reading: {way}", done, len(WAYS))
            ways[way] = read_dump(way, file, triples)
        megabytes = file.stat().st_size / 2**20
    speed = ways["kbsync"].triples_per_second
    ratio = {way: speed / ways[way].triples_per_second for way in ("memory", "disk")}
    return DumpBench(triples, megabytes, ways, ratio)


def read_dump(way: str, file: Path, triples: int) -> Reading:
    """Read the dump one way, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="kbsync-") as folder:
        try:
            took, out = run_process(["-m", "kbsync.benchmarks.dump", way, str(file), folder])
        except KbsyncError as error:
            raise SourceError(
                f"reading the dump failed ({way}): {error}; see that memory and disk suffice, or ask for less"
            ) from error
    told = json.loads(out)
    return Reading(told["seconds"], triples / told["seconds"], took.peak_mb, told["found"])


def dump_view(bench: DumpBench) -> RenderableType:
    """Return seconds, speed and memory of each way, and the ratios."""
    rows = [
        (WAYS[name][0], f"{way.found:,}", f"{way.seconds:.1f}", f"{way.triples_per_second:,.0f}", f"{way.peak_mb:,.0f}")
        for name, way in bench.ways.items()
    ]
    title = f"{bench.triples:,} triples, {bench.megabytes:.0f} MB"
    ratios = f"ratio {bench.ratio['memory']:.2f} to the load into memory, {bench.ratio['disk']:.2f} to that onto disk"
    return Group(table(("", "found", "seconds", "triples/s", "peak MB"), rows, title=title), plain(ratios))


def read_relations(file: Path, folder: Path) -> int:
    """Read two relations as `kbsync pull` does; return how many facts they have."""
    asks = [Ask(relation) for relation in ASKED]
    source = open_source(str(file), asks=asks)
    return sum(len(source.read(ask).facts) for ask in asks)


def load(store: Store, file: Path) -> int:
    """Load the file into one of Oxigraph's stores; return how many statements it holds."""
    store.bulk_load(path=file, format=RdfFormat.N_TRIPLES)
    return len(store)


WAYS: dict[str, tuple[str, Callable[[Path, Path], int]]] = {
    "kbsync": ("kbsync, facts of two relations", read_relations),
    "memory": ("Oxigraph's load into memory", lambda file, folder: load(Store(), file)),
    "disk": ("Oxigraph's load onto disk", lambda file, folder: load(Store(folder), file)),
}


if __name__ == "__main__":
    way, file, folder = sys.argv[1:]
    began = time.perf_counter()
    count = WAYS[way][1](Path(file), Path(folder))
    print(json.dumps({"seconds": time.perf_counter() - began, "found": count}))
