"""Seconds and memory: of phases in this process, and of commands that are processes of their own.

Knowledge bases of any size, made up; the same numbers make the same file.

`write_facts` gives an RDF file in the shape of Wikidata's truthy dump (labels, ``wdt:`` triples). A later edition
differs from the first in a given share of the facts: of those, eight in ten have another object, one in ten is gone and
one in ten is new. `dump_lines` gives N-Triples in the shape of Wikidata's full dump, item after item: an item has
labels in twelve languages and truthy triples of many relations, of which one item in `EVERY` has P36 (with its
statement node and rank) and P30: what is asked for is a small part, as it is of a real dump.
"""

import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path
from typing import IO, TYPE_CHECKING

import psutil

from kbsync.errors import KbsyncError
from kbsync.files import writing

if TYPE_CHECKING:
    import torch

FACTS_PER_SUBJECT = 5
OBJECTS = 5_000
HOMONYMS = 0.002  # share of subjects that bear the label of the one before
CONTESTED = 0.002
"""share of facts that are a second object for the subject and relation before: conflicts (Eqn. 5)"""
LINES = 25  # statements of an item
EVERY = 40  # one item in so many has the relations `ASKED`
ASKED = ("P36", "P30")

_ENTITY = "http://www.wikidata.org/entity/Q"
_DIRECT = "http://www.wikidata.org/prop/direct/"
_LABEL = "http://www.w3.org/2000/01/rdf-schema#label"
_FIRST_SUBJECT = OBJECTS + 1
_PROP, _ONTOLOGY = "http://www.wikidata.org/prop", "http://wikiba.se/ontology"
_LANGUAGES = ("en", "de", "fr", "es", "it", "nl", "pt", "sv", "pl", "ru", "ja", "zh")


def write_facts(path: Path, facts: int, relations: Sequence[str], *, seed: int = 0, changed: float = 0.0) -> None:
    """Write `facts` facts of `relations` as N-Triples; `changed` is the share in which they differ from the first."""
    with writing(path), path.open("w", encoding="ascii") as file:
        for thing in range(1, OBJECTS + 1):
            file.write(_label(thing, f"Thing {thing}"))
        file.writelines(_subjects(facts, relations, seed, changed))


def _subjects(facts: int, relations: Sequence[str], seed: int, changed: float) -> Iterator[str]:
    """Yield the lines of one subject after the other."""
    draw, later = random.Random(seed), random.Random(seed + 1)
    for subject in range(-(-facts // FACTS_PER_SUBJECT)):
        number = _FIRST_SUBJECT + subject
        yield _label(number, f"Subject {subject - 1 if draw.random() < HOMONYMS else subject}")
        chosen = draw.sample(relations, FACTS_PER_SUBJECT)
        for place in range(min(FACTS_PER_SUBJECT, facts - subject * FACTS_PER_SUBJECT)):
            relation = chosen[place - 1 if place and draw.random() < CONTESTED else place]
            thing = draw.randint(1, OBJECTS)
            if later.random() >= changed:
                yield _fact(number, relation, thing)
                continue
            kind = later.randrange(10)
            if kind < 8:
                yield _fact(number, relation, thing % OBJECTS + 1)
            elif kind == 8:
                yield _fact(number, relation, thing)
                yield _fact(_FIRST_SUBJECT + facts + subject, relation, thing)
                yield _label(_FIRST_SUBJECT + facts + subject, f"Newcomer {subject}")


def _label(number: int, text: str) -> str:
    return f'<{_ENTITY}{number}> <{_LABEL}> "{text}"@en .\n'


def _fact(subject: int, relation: str, thing: int) -> str:
    return f"<{_ENTITY}{subject}> <{_DIRECT}{relation}> <{_ENTITY}{thing}> .\n"


def dump_lines(triples: int) -> Iterator[str]:
    """Yield `triples` lines, with their ends; the last item may be cut short."""
    return islice((line for number in count() for line in _item(number)), triples)


def _item(number: int) -> list[str]:
    item = f"<http://www.wikidata.org/entity/Q{number + 1}>"
    lines = [f'{item} <http://www.w3.org/2000/01/rdf-schema#label> "Item {number} {tag}"@{tag} .' for tag in _LANGUAGES]
    if number % EVERY == 0:
        node = f"<http://www.wikidata.org/entity/statement/Q{number + 1}-36>"
        other = f"<http://www.wikidata.org/entity/Q{number + 2}>"
        lines += [
            f"{item} <{_PROP}/P36> {node} .",
            f"{node} <{_PROP}/statement/P36> {other} .",
            f"{node} <{_ONTOLOGY}#rank> <{_ONTOLOGY}#NormalRank> .",
            f"{item} <{_PROP}/direct/P36> {other} .",
            f"{item} <{_PROP}/direct/P30> {other} .",
        ]
    lines += [f"{item} <{_PROP}/direct/P{2000 + more}> <http://a/{more}> ." for more in range(LINES - len(lines))]
    return [f"{line}\n" for line in lines]


SAMPLED_EVERY = 0.02  # seconds between two looks at the memory
END = 4096  # bytes of a process's output that are read
MAXRSS_IN_MB = 2**20 if sys.platform == "darwin" else 2**10
"""what ru_maxrss counts, in a MB"""


def synchronise(device: "torch.device | str") -> None:
    """Wait until a device has done what it was asked."""
    if str(device).startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)


class Phases:
    """Seconds and peak memory in MB of named phases, on one device.

    On CUDA the peak is the allocator's own; elsewhere it is the resident memory of the process, looked at every 20 ms,
    so that a shorter peak is missed. What lay there before counts too.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        self.peak_mb: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        with self._cuda(name) if self.device.startswith("cuda") else self._resident(name):
            began = time.perf_counter()
            yield
            synchronise(self.device)
            self.seconds[name] = round(time.perf_counter() - began, 3)

    @contextmanager
    def _cuda(self, name: str) -> Iterator[None]:
        import torch

        torch.cuda.reset_peak_memory_stats(self.device)
        yield
        self.peak_mb[name] = round(torch.cuda.max_memory_allocated(self.device) / 2**20, 1)

    @contextmanager
    def _resident(self, name: str) -> Iterator[None]:
        process, done = psutil.Process(), threading.Event()
        seen = [process.memory_info().rss]

        def watch() -> None:
            while not done.wait(SAMPLED_EVERY):
                seen[0] = max(seen[0], process.memory_info().rss)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            self.peak_mb[name] = round(max(seen[0], process.memory_info().rss) / 2**20, 1)


def run_process(arguments: Sequence[str]) -> tuple[dict[str, float], str]:
    """Run ``python`` with these arguments; return what it took, its start included, and the end of what it printed.

    `peak_mb` is the most memory that it held at once; what started it may count, until the process has more.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        process = subprocess.Popen([sys.executable, *arguments], stdout=out, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)  # of this process alone, unlike RUSAGE_CHILDREN
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            lines = end_of(said).strip().splitlines()
            raise KbsyncError(lines[-1] if lines else f"exit code {process.returncode}")
        took = {"seconds": seconds, "cpu_seconds": usage.ru_utime + usage.ru_stime}
        return {**took, "peak_mb": usage.ru_maxrss / MAXRSS_IN_MB}, end_of(out)


def end_of(file: IO[bytes]) -> str:
    file.seek(max(0, file.seek(0, os.SEEK_END) - END))
    return file.read().decode(errors="replace")
