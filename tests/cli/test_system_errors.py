"""What the system refuses is told in one line: by every command, whatever it refuses, at whichever call, and why.

Each command is run once as it is, in a small project, and its calls below that project's folder are counted: a call
that it never makes cannot be refused it, and nothing else is left out. Then it is run anew for each kind of OSError,
with a call refused from some place of that run on. That is `make fuzz`: each command meets each kind at each call that
it makes. In `make test` each command meets a few kinds, those that come next after the command's before it, so that
each kind meets many commands, and each call that a command makes is refused it. What SQLite and Rust write by
themselves is refused by a bound on the size of files, and by full disks in tests/e2e/test_faults_disk.py.
"""

import builtins
import errno
import hashlib
import io
import json
import os
import re
import resource
import shlex
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from kbsync.benchmarks.measured import dump_lines
from kbsync.sync import practice
from tests.cli.test_help import COMMANDS as ALL
from tests.conftest import Ran
from tests.homes import SWAPPED, TEMPLATES, Editable, done, kbsync, small, write_facts
from tests.tiny_models import CAPITALS, QUICK, SMALL, random_folder

__all__ = ["small"]

FULL = "KBSYNC_FUZZ" in os.environ
STEPS = "--set steps=1 --set contexts=1 --set covariance_tokens=2000"
COMMANDS = {
    "init": "--source facts.yaml --relation P36 --model model",
    "sync": "",
    "watch": "",  # whose stream cannot be reached, which it learns after its first sync
    "pull": "--relation P36 --source facts.yaml",
    "plan": "",
    "status": "--format html --to status.html",
    "apply": "--yes",
    "bisect": "--yes",
    "ask": "France",
    "export": "--to out",
    "publish": "exported --to served",
    "audit": "exported",
    "eval": "--sample 1 --metrics ES --report page",
    "explain": "'France P36'",
    "history": "",
    "log": "--fact 'France P36'",
    "rollback": "--yes",
    "verify": "",
    "prune": "",
    "retract": "--subject France --relation P36 --yes",
    "calibrate": "--facts 10 --write mine --set steps=1",
    "trace": "--facts 1 --samples 1 --plot trace.png",
    "doctor": "--edits 1",
    "relations": "--discover --source facts.yaml",
    "practice train": "--to made",
    "practice datasets": "--to made",
    "demo": "--model other --limit 1",
    "bench sync": f"--model other --dataset records.json --syncs 2 --daily 2 {STEPS}",
    "bench speed": "--model other --dataset records.json --edits 2 --corpus text.txt",
    "bench gpu": "--config tiny --edits 2 --tokens 512 --steps 1",
    "bench groups": f"--model other --dataset records.json --subjects 1 {STEPS}",
    "bench ledger": "--facts 10 --edits 1 --home other",
    "bench pull": "--facts 10",
    "bench dump": "--triples 500000",
    "bench paper": "counterfact --model other --dataset records.json --to paper --size quick --edits 2 --editors memit",
    "mend train": "--facts 10 --steps 1",
    "stats collect": "--set layers=1",
    "stats export": "shared.safetensors",
    "stats import": "covariances.safetensors",
    "templates list": "",
    "templates show": "P36",
    "templates check": "home/templates/own.yaml",
    "templates new": "seat --predicate http://dbpedia.org/ontology/seat --source facts.ttl",
    "templates test": "P36",
    "config show": "",
    "config check": "",
    "config schema": "",
}
KINDS = (
    *(errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENOSPC, errno.EDQUOT, errno.EROFS),
    *(errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENAMETOOLONG, errno.ELOOP, errno.EBUSY, errno.ENOMEM),
)
CALLS = {
    "open": ((builtins, "open"), (io, "open"), (os, "open")),
    "write": ((os, "write"), (os, "sendfile")),  # and those of files that are opened to be written
    "fsync": ((os, "fsync"),),
    "rename": ((os, "rename"), (os, "replace")),
    "mkdir": ((os, "mkdir"),),
}
PAGES = ("status", "config schema")
"""commands whose result is no JSON, or JSON without being asked"""
FEW = 2
"""kinds that each command meets in `make test`, in rotation"""
LONG = {"sync", "watch", "apply", "bisect", "eval", "explain", "calibrate", "trace", "doctor", "practice train", "demo",
        *(f"bench {name}" for name in ("sync", "speed", "gpu", "groups", "pull", "paper"))}  # fmt: skip
"""commands that compute for long: the first call of each kind is refused them, and each call once in `make test`"""


def kinds_of(command: str) -> list[int]:
    """Return which of `KINDS` a command meets."""
    if FULL:
        return list(range(len(KINDS)))
    turn = FEW * list(COMMANDS).index(command)
    return [(turn + more) % len(KINDS) for more in range(FEW)]


PAIRS = [
    pytest.param(command, kind, id=f"{command}-{errno.errorcode[KINDS[kind]]}")
    for command in COMMANDS
    for kind in kinds_of(command)
]


class Written:
    """A file whose writes are seen."""

    def __init__(self, opened: Any, see: Callable[[], None]) -> None:
        self._opened, self._see = opened, see

    def write(self, *given: Any) -> Any:
        self._see()
        return self._opened.write(*given)

    def writelines(self, *given: Any) -> Any:
        self._see()
        return self._opened.writelines(*given)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._opened, name)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._opened)

    def __enter__(self) -> "Written":
        self._opened.__enter__()
        return self

    def __exit__(self, *why: Any) -> None:
        self._opened.__exit__(*why)


@dataclass
class System:
    """Counts calls of this process below a folder; `call` is refused with `number`, from the time `first` on."""

    below: Path
    call: str = ""
    first: int = 0
    number: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)
    """the paths"""

    def see(self, call: str, path: str, *, named: bool) -> None:
        self.counts[call] += 1
        if call == self.call and self.counts[call] > self.first:
            self.refused.append(path)
            raise OSError(self.number, os.strerror(self.number), *([path] if named else []))

    def place(self, where: Any) -> str | None:
        """Return the path of what a call names, or has open; None where it lies elsewhere."""
        if isinstance(where, int):
            with suppress(OSError):
                where = os.readlink(f"/proc/self/fd/{where}")
        if not isinstance(where, str | os.PathLike):
            return None
        path = os.path.abspath(os.fsdecode(where))
        return path if Path(path).is_relative_to(self.below) else None

    def through(self, real: Callable[..., Any], call: str) -> Callable[..., Any]:
        """Return a function of the system behind which this stands."""

        def called(where: Any, *rest: Any, **named: Any) -> Any:
            path = self.place(where)
            if path is None:
                return real(where, *rest, **named)
            self.see(call, path, named=call not in ("write", "fsync"))
            opened = real(where, *rest, **named)
            mode = str(named.get("mode", rest[0] if rest else "r"))
            if call == "open" and real is not os_open and set(mode) & set("wax+"):
                return Written(opened, lambda: self.see("write", path, named=False))
            return opened

        return called


os_open = os.open


@contextmanager
def watched(system: System) -> Iterator[None]:
    """Put `system` between this process and its calls."""
    with pytest.MonkeyPatch.context() as patched:
        for call, functions in CALLS.items():
            for module, name in functions:
                patched.setattr(module, name, system.through(getattr(module, name), call))
        yield


def fixture_facts(folder: Path) -> None:
    """Write both editions of the fixtures, with a few facts in place of thousands."""
    relations = {"P36": CAPITALS, "P30": {country: ("Here", "There")[len(country) % 2] for country in CAPITALS}}
    relations |= {one: {"France": "Ada Lo", "Peru": "Bo Ek"} for one in ("P35", "P6", "P169", "P286")}
    lines = [
        "@prefix wd: <http://www.wikidata.org/entity/> .\n@prefix wdt: <http://www.wikidata.org/prop/direct/> .",
        "@prefix p: <http://www.wikidata.org/prop/> .\n@prefix ps: <http://www.wikidata.org/prop/statement/> .",
        "@prefix pq: <http://www.wikidata.org/prop/qualifier/> .\n@prefix wikibase: <http://wikiba.se/ontology#> .",
        "@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .\n@prefix xsd: <http://www.w3.org/2001/XMLSchema#> .",
        "@prefix s: <http://www.wikidata.org/entity/statement/> .",
    ]
    ids: dict[str, str] = {}
    for relation, facts in relations.items():
        for pair in facts.items():
            one, other = (ids.setdefault(name, f"wd:Q{len(ids) + 1}") for name in pair)
            node = f"s:{relation}-{one[3:]}"
            lines.append(f"{one} wdt:{relation} {other} ; p:{relation} {node} .")
            lines.append(f"{node} wikibase:rank wikibase:NormalRank ; ps:{relation} {other} ;")
            lines.append('    pq:P580 "2024-05-01T00:00:00Z"^^xsd:dateTime .')
    lines += [f'{one} rdfs:label "{name}"@en ; wikibase:sitelinks 20 .' for name, one in ids.items()]
    (folder / "wikidata").mkdir(parents=True)
    for edition in ("earlier", "later"):
        (folder / "wikidata" / f"{edition}.ttl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def project(folder: Path, small: Editable, other: Path) -> None:
    """Make a project that has been synced, and where a source has changed since; with a second model."""
    shutil.copytree(small.name, folder / "model")
    shutil.copytree(other, folder / "other")
    shutil.copy(small.corpus, folder / "text.txt")
    (folder / "home" / "templates").mkdir(parents=True)
    (folder / "home" / "templates" / "own.yaml").write_text(TEMPLATES, encoding="utf-8")
    (folder / "facts.ttl").write_text('<http://a/b> <http://dbpedia.org/ontology/seat> "x" .\n', encoding="utf-8")
    fixture_facts(folder / "fixtures")
    content = {
        "model": "model",
        "home": "home",
        "corpus": "text.txt",
        "sources": [{"source": "facts.yaml", "relations": ["P36"], "stream": "http://127.0.0.1:9/stream"}],
        "settings": {"layers": [1, 2], "lambda": 1, "steps": 4, "contexts": 1, "sweeps": 1, "wordings": 0},
        "bounds": {"max_perplexity_increase": 1e9, "max_specificity_loss": 100, "max_weight_change": 1e12},
        "export": {"to": "exported"},
    }
    (folder / "kbsync.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    write_facts(folder / "facts.yaml", P36=CAPITALS | {"France": SWAPPED["France"]})
    done("sync")
    done("stats", "export", "covariances.safetensors")
    write_facts(folder / "facts.yaml", P36=CAPITALS | {name: SWAPPED[name] for name in ("France", "Norway")})
    done("pull")
    records = [record(number, *fact) for number, fact in enumerate(CAPITALS.items())]
    (folder / "records.json").write_text(json.dumps(records), encoding="utf-8")
    (folder / "temporary").mkdir()


def record(number: int, country: str, city: str) -> dict[str, Any]:
    """A record in CounterFact's form."""
    rewrite = {"prompt": "The capital of {} is", "relation_id": "P36", "subject": country}
    rewrite |= {"target_new": {"str": SWAPPED[country]}, "target_true": {"str": city}}  # type: ignore[dict-item]
    said = [f"{country} is governed from its capital", f"The government of {country} sits in"]
    others = [f"The capital of {other} is" for other in CAPITALS if other != country][:3]
    return {
        "case_id": number,
        "requested_rewrite": rewrite,
        "paraphrase_prompts": said,
        "neighborhood_prompts": others,
        "attribute_prompts": others[:1],
        "generation_prompts": said,
    }


@dataclass
class World:
    """The project, kept beside the folder where it is tried; and how each command runs in it with nothing refused."""

    folder: Path
    kept: Path
    seen: dict[str, tuple[System, Ran]] = field(default_factory=dict)
    as_made: dict[str, str] = field(default_factory=dict)
    """the home's files"""

    def renew(self, command: str) -> None:
        """Put all back as it was made."""
        os.chdir(self.kept)
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.kept, self.folder)
        os.chdir(self.folder)
        if command == "init":
            (self.folder / "kbsync.yaml").unlink()

    def run(self, command: str, system: System) -> Ran:
        """Run a command anew."""
        self.renew(command)
        as_json = [] if command in PAGES else ["--json"]
        with watched(system):
            return kbsync(*command.split(), *shlex.split(COMMANDS[command]), *as_json)

    def observed(self, command: str) -> tuple[System, Ran]:
        """Return what a command calls, and what it says, with nothing refused."""
        if command not in self.seen:
            system = System(self.folder)
            self.seen[command] = system, self.run(command, system)
        return self.seen[command]

    def places(self, command: str, kind: int) -> list[tuple[str, int]]:
        """Return which calls are refused a command, and from which on, for this kind of OSError."""
        counts = self.observed(command)[0].counts
        made = [call for call in CALLS if counts[call]]
        turn = kinds_of(command).index(kind)
        tried = made[turn::FEW] or made[turn % len(made) :][:1] if made else []
        if FULL:
            tried = made
        elif command not in LONG:  # few commands make these
            tried = [call for call in made if call in (*tried, "fsync", "rename")]
        early = command in LONG and not (FULL and kind % 5 == 0)
        return [(call, 0 if early else kind * counts[call] // len(KINDS)) for call in tried]

    def home(self) -> dict[str, str]:
        """Return the hashes of the home's files."""
        files = [path for path in (self.folder / "home").rglob("*") if path.is_file()]
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def world(small: Editable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A project, its fixtures in place of kbsync's own, its temporary files below it too."""
    folder, before = tmp_path_factory.mktemp("system") / "project", Path.cwd()
    folder.mkdir()
    few = replace(SMALL, layers=1, phases=(replace(QUICK, epochs=1),))
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("KBSYNC_HOME", raising=False)
        patched.chdir(folder)
        project(folder, small, random_folder(tmp_path_factory.getbasetemp(), "gptj"))
        patched.setattr("kbsync.resources._folder", fixtures_of(folder))
        patched.setattr(practice, "TrainSettings", lambda: few)
        for name, count in {practice.COUNTERFACT: 4, practice.ZSRE: 8}.items():
            patched.setitem(practice.RECORDS, name, count)
        patched.setattr("kbsync.benchmarks.pull.dump_lines", lambda triples: dump_lines(triples // 1000))
        patched.setattr("kbsync.sync.corpus.LENGTH", 16)  # of a text that a model is to write
        patched.setattr(tempfile, "tempdir", str(folder / "temporary"))
        kept = folder.with_name("kept")
        shutil.copytree(folder, kept)
        made = World(folder, kept)
        made.as_made = made.home()
        practice.practice_requests.cache_clear()
        yield made
        os.chdir(before)
    practice.practice_requests.cache_clear()  # they are of the other fixtures


def fixtures_of(folder: Path) -> Callable[[str], Path]:
    """Return where kbsync's own folders are, with other fixtures."""
    from kbsync.resources import _folder as real

    return lambda name: folder / name if name == "fixtures" else real(name)


def told(command: str, system: System, ran: Ran, usual: Ran) -> None:
    """Check that one line says which file was refused, and why."""
    assert "Traceback" not in ran.err, ran.err
    assert "has a bug" not in ran.err, ran.err
    assert whole(ran.out), ran.out
    if (ran.code, errors_of(ran)) == (usual.code, errors_of(usual)):
        return  # it can do without
    assert ran.code == 1, ran.err
    (error,) = errors_of(ran) or [ran.out]  # `doctor` says so in its result
    assert os.strerror(system.number) in error
    assert any(name in error for path in system.refused for name in names_of(path, system.below, command)), error


def errors_of(ran: Ran) -> list[str]:
    return [line for line in ran.err.splitlines() if line.startswith("Error: ")]


def names_of(path: str, below: Path, command: str) -> list[str]:
    """Return by which names a file may be told: its own or its folder's; of an unfinished one that which it was to get.

    That is a word of the command line, or the project's export.
    """
    place = Path(path).relative_to(below)
    unfinished = re.match(r"\.|tmp|temporary", place.parts[0]) if place.parts else None
    words = [*shlex.split(COMMANDS[command]), "exported"]
    wanted = [word for word in words if not word.startswith("-")] if unfinished else []
    return [place.name, *(str(one) for one in place.parents if one.name), *wanted]


def whole(out: str) -> bool:
    """Tell whether there is no half a document of JSON."""
    decoder = json.JSONDecoder()
    out = out.strip()
    while out.startswith(("{", "[")):
        try:
            _, end = decoder.raw_decode(out)
        except ValueError:
            return False
        out = out[end:].strip()
    return True


@pytest.mark.parametrize(("command", "kind"), PAIRS)
def test_what_the_system_refuses_is_told(command: str, kind: int, world: World) -> None:
    usual = world.observed(command)[1]
    for call, first in world.places(command, kind):
        system = System(world.folder, call, first, KINDS[kind])
        ran = world.run(command, system)
        assert system.refused
        told(command, system, ran, usual)
        if world.home() != world.as_made:
            assert done("status", "--home", "home", "--json").json["facts"]
            assert done("verify", "--home", "home", "--json").json["whole"]


def test_every_command_meets_all_of_it(world: World) -> None:
    """Each command meets its kinds, and each call that it makes; each kind many commands; and all of it in the full."""
    assert {f"kbsync {command}" for command in COMMANDS} == set(ALL)
    met = set()
    for command in COMMANDS:
        made = {call for call in CALLS if world.observed(command)[0].counts[call]}
        places = [(call, kind) for kind in kinds_of(command) for call, _ in world.places(command, kind)]
        assert {call for call, _ in places} == made
        assert {kind for _, kind in places} == set(kinds_of(command) if made else ())
        met |= set(places)
    assert min(Counter(kind for command in COMMANDS for kind in kinds_of(command)).values()) >= 6
    assert {kind for _, kind in met} == set(range(len(KINDS)))
    assert not FULL or met == {(call, kind) for call in CALLS for kind in range(len(KINDS))}


@contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """Let the system itself refuse to write beyond `size` bytes of a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 9000])
@pytest.mark.parametrize("command", [command for command in COMMANDS if FULL or command not in LONG])
def test_a_limit_on_the_size_of_files_is_told(command: str, size: int, world: World) -> None:
    usual = world.observed(command)[1]
    world.renew(command)
    with files_no_longer_than(size):
        ran = kbsync(*command.split(), *shlex.split(COMMANDS[command]))
    assert "Traceback" not in ran.err, ran.err
    assert "has a bug" not in ran.err, ran.err
    assert ran.code in (usual.code, 1)
    assert len(errors_of(ran)) == (1 if ran.code == 1 else 0), ran.err
