"""How long a pull over HTTP takes, beside a bare SPARQLWrapper loop over the same pages.

Made-up facts are served on loopback by Oxigraph. The pull is that of `kbsync pull`, into a new home, recording
included. The bare loop sends the very queries of the pull, one by one, and parses their JSON with
`queryAndConvert()`; it makes nothing of the rows. A first reading, which is not timed, notes the queries and warms
the server. The two ways take turns, and the faster of two rounds of each counts, so that other work on the machine
weighs less.
"""

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Group, RenderableType
from SPARQLWrapper import JSON, POST, SPARQLWrapper

from kbsync.benchmarks.made_up import FACTS_PER_SUBJECT, write_facts
from kbsync.report.console import plain, table
from kbsync.sources import Ask, open_endpoint
from kbsync.sources.base import Access
from kbsync.sources.loopback import serve
from kbsync.sync.home import Progress, silent
from kbsync.sync.pull import pull
from kbsync.sync.reading import make_asks

RELATIONS = ("P36", "P37", "P38", "P30", "P6")
assert len(RELATIONS) == FACTS_PER_SUBJECT
ROUNDS = 2


@dataclass(frozen=True, slots=True)
class PullBench:
    """Seconds of both ways over the same pages; `ratio` is kbsync's over the bare loop's."""

    facts: int
    """that were recorded"""
    pages: int
    megabytes: float
    """of JSON in the pages"""
    kbsync: float
    bare: float
    ratio: float


@dataclass
class _Noted:
    """The queries that a reading sends."""

    queries: list[str] = field(default_factory=list)
    size: int = 0

    def find(self, query: str) -> bytes | None:
        return None

    def keep(self, query: str, body: bytes) -> None:
        self.queries.append(query)
        self.size += len(body)


def bench_pull(facts: int, *, seed: int = 0, progress: Progress = silent) -> PullBench:
    """Serve about `facts` facts of five relations, and time both ways."""
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
    recorded = sum(one.new for one in pulls)
    fastest = (min(pulled), min(bare), min(pulled) / min(bare))
    return PullBench(recorded, len(noted.queries), noted.size / 2**20, *fastest)


def _note(url: str, asks: list[Ask], progress: Progress) -> _Noted:
    noted = _Noted()
    endpoint = open_endpoint(url, Access(pages=noted))
    for done, ask in enumerate(asks):
        progress("noting the queries", done, len(asks))
        endpoint.read(ask)
    return noted


def _bare(url: str, queries: list[str], progress: Progress) -> float:
    """Return the seconds of a loop over the queries."""
    started = time.perf_counter()
    for done, query in enumerate(queries):
        progress("the bare loop", done, len(queries))
        wrapper = SPARQLWrapper(url, returnFormat=JSON)
        wrapper.setMethod(POST)
        wrapper.setQuery(query)
        wrapper.queryAndConvert()
    return time.perf_counter() - started


def pull_view(bench: PullBench) -> RenderableType:
    """Return the seconds of both ways and their ratio."""
    rows = [("kbsync pull", f"{bench.kbsync:.1f}"), ("bare SPARQLWrapper loop", f"{bench.bare:.1f}")]
    title = f"{bench.facts:,} facts in {bench.pages:,} pages, {bench.megabytes:.0f} MB"
    return Group(table(("", "seconds"), rows, title=title), plain(f"ratio {bench.ratio:.2f}"))
