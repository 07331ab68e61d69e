"""One way of reading a dump, timed as a process of its own, so that its memory is its own.

    python -m kbsync.benchmarks.dump_way WAY FILE FOLDER

prints the seconds of the reading (imports apart), the most memory that the process held, and what came out, as JSON.
FOLDER is empty, for a store on disk.
"""

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pyoxigraph import RdfFormat, Store

from kbsync.benchmarks.generated_dump import ASKED
from kbsync.sources import Ask, open_source

__all__ = ["WAYS"]

STATUS = Path("/proc/self/status")


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
