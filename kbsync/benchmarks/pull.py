"""How long a pull over HTTP takes, beside a bare SPARQLWrapper loop over the same pages.

Made-up facts are served on loopback by Oxigraph. The pull is that of `kbsync pull`, into a new home, recording
included. The bare loop sends the very queries of the pull, one by one, and parses their JSON with
`queryAndConvert()`; it makes nothing of the rows. A first reading, which is not timed, notes the queries and warms
the server. The two ways take turns, and the faster of two rounds of each counts, so that other work on the machine
weighs less.

``kbsync bench dump``: two relations read from a dump, beside Oxigraph's load of the same file.

kbsync passes the dump through and keeps what is asked for; Oxigraph keeps all of it, in memory or on disk, which is
what a query over the dump would need. Each is a process of its own whose memory is taken.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyoxigraph import RdfFormat, Store
from SPARQLWrapper import JSON, POST, SPARQLWrapper

from kbsync.benchmarks.measured import ASKED, FACTS_PER_SUBJECT, dump_lines, run_process, write_facts
from kbsync.errors import KbsyncError, SourceError
from kbsync.files import writing
from kbsync.report.console import Parts, table
from kbsync.sources import Ask, open_endpoint, open_source
from kbsync.sources.base import Access
from kbsync.sources.loopback import serve
from kbsync.sync.home import Progress, silent
from kbsync.sync.pull import pull
from kbsync.sync.reading import make_asks

RELATIONS = ("P36", "P37", "P38", "P30", "P6")
assert len(RELATIONS) == FACTS_PER_SUBJECT
ROUNDS = 2


@dataclass
class _Noted:
    queries: list[str] = field(default_factory=list)
    size: int = 0

    def find(self, query: str) -> bytes | None:
        return None

    def keep(self, query: str, body: bytes) -> None:
        self.queries.append(query)
        self.size += len(body)


def bench_pull(facts: int, *, seed: int = 0, progress: Progress = silent) -> dict[str, float]:
    """Serve about `facts` facts of five relations, and time both ways over the same pages.

    Return how many facts were recorded, the pages and their MB of JSON, the seconds of both ways, and the ratio of
    kbsync's to the bare loop's.
    """
    with tempfile.TemporaryDirectory(prefix="kbsync-") as folder:
        file = Path(folder) / "facts.nt"
        progress("the facts", 0, 0)
        write_facts(file, facts, RELATIONS, seed=seed)
        with serve(file) as url:
            asks = make_asks(RELATIONS, url)
            noted = _note(url, asks, progress)
            bare, pulled = [], []
            for number in range(ROUNDS):
                bare.append(_bare(url, noted.queries, progress))
                started = time.perf_counter()
                pulls = pull(Path(folder) / f"home{number}", asks, url, progress)
                pulled.append(time.perf_counter() - started)
    made = {"facts": sum(one.new for one in pulls), "pages": len(noted.queries), "megabytes": noted.size / 2**20}
    return {**made, "kbsync": min(pulled), "bare": min(bare), "ratio": min(pulled) / min(bare)}


def _note(url: str, asks: list[Ask], progress: Progress) -> _Noted:
    noted = _Noted()
    endpoint = open_endpoint(url, Access(pages=noted))
    for done, ask in enumerate(asks):
        progress("noting the queries", done, len(asks))
        endpoint.read(ask)
    return noted


def _bare(url: str, queries: list[str], progress: Progress) -> float:
    started = time.perf_counter()
    for done, query in enumerate(queries):
        progress("the bare loop", done, len(queries))
        wrapper = SPARQLWrapper(url, returnFormat=JSON)
        wrapper.setMethod(POST)
        wrapper.setQuery(query)
        wrapper.queryAndConvert()
    return time.perf_counter() - started


def pull_view(bench: dict[str, float]) -> Parts:
    rows = [("kbsync pull", f"{bench['kbsync']:.1f}"), ("bare SPARQLWrapper loop", f"{bench['bare']:.1f}")]
    title = "{facts:,} facts in {pages:,} pages, {megabytes:.0f} MB".format(**bench)
    yield table(("", "seconds"), rows, title=title)
    yield f"ratio {bench['ratio']:.2f}"


def bench_dump(triples: int, *, progress: Progress = silent) -> dict[str, Any]:
    """Make a dump of `triples` statements (N-Triples, not compressed), and read it each way.

    Return what each of `WAYS` took for it, and the ratio of kbsync's speed to Oxigraph's.
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
    speed = ways["kbsync"]["triples_per_second"]
    ratio = {way: speed / ways[way]["triples_per_second"] for way in ("memory", "disk")}
    return {"triples": triples, "megabytes": megabytes, "ways": ways, "ratio": ratio}


def read_dump(way: str, file: Path, triples: int) -> dict[str, float]:
    """Read the dump one way, in a process of its own; its start is not in the seconds.

    `found` are the facts or statements that it found.
    """
    with tempfile.TemporaryDirectory(prefix="kbsync-") as folder:
        try:
            took, out = run_process(["-m", "kbsync.benchmarks.pull", way, str(file), folder])
        except KbsyncError as error:
            raise SourceError(
                f"reading the dump failed ({way}): {error}; see that memory and disk suffice, or ask for less"
            ) from error
    told: dict[str, float] = json.loads(out)
    return {**told, "triples_per_second": triples / told["seconds"], "peak_mb": took["peak_mb"]}


def dump_view(bench: dict[str, Any]) -> Parts:
    forms = {"found": ",", "seconds": ".1f", "triples_per_second": ",.0f", "peak_mb": ",.0f"}
    rows = [
        (WAYS[name][0], *(f"{way[key]:{form}}" for key, form in forms.items())) for name, way in bench["ways"].items()
    ]
    title = "{triples:,} triples, {megabytes:.0f} MB".format(**bench)
    yield table(("", "found", "seconds", "triples/s", "peak MB"), rows, title=title)
    yield "ratio {memory:.2f} to the load into memory, {disk:.2f} to that onto disk".format(**bench["ratio"])


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
