"""A disk that is full, or cannot be written: told with what to do, and the same command goes on when there is room."""

import gzip
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.commands import run
from tests.homes import SWAPPED, Editable, batches, deltas_of, difference, kbsync, make_home, pull, snapshot

BEFORE = {country: SWAPPED[country] for country in ("France", "Norway")}
AFTER = {country: SWAPPED[country] for country in ("France", "Norway", "Japan", "Egypt", "Peru", "Cuba", "Greece")}


@pytest.fixture(scope="module")
def kept(small: Editable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two edits, and five facts that are still to be applied."""
    home = make_home(tmp_path_factory.mktemp("full") / "home", P36=BEFORE)
    small.apply(home)
    pull(home, P36=AFTER)
    return home


@pytest.fixture(scope="module")
def calm(kept: Path, small: Editable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What it becomes without faults."""
    home = Path(shutil.copytree(kept, tmp_path_factory.mktemp("calm") / "home"))
    small.apply(home)
    return home


@pytest.fixture
def home(kept: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(kept, tmp_path / "home"))


def shown(home: Path, small: Editable) -> Any:
    told = kbsync("status", "--home", home, *small.model, "--json").json
    return {name: value for name, value in told.items() if name != "notes"}  # of an apply whose end was not recorded


def goes_on(home: Path, calm: Path, small: Editable) -> None:
    """The same command, with room, makes what it makes without faults."""
    assert small.apply(home)["edits"] == len(AFTER)
    assert difference(deltas_of(home), deltas_of(calm)) < 1e-4
    assert shown(home, small)["facts"] == shown(calm, small)["facts"]


# The first write of all, that of the target vectors found, and the one that makes the new state current.
@pytest.mark.parametrize("room", [8, 32, 48])
def test_no_room_in_the_ledger(room: int, home: Path, calm: Path, small: Editable, tmp_path: Path) -> None:
    before = shown(home, small)
    ran = run(tmp_path, "apply", *small.arguments, "--yes", "--home", home, file_size=room * 1024)
    assert ran.code == 1
    error = ran.err.splitlines()[-1]
    assert error.startswith(f"Error: cannot use the ledger {home / 'ledger.db'}: ")
    assert "check that the disk has room" in error
    assert shown(home, small) == before
    goes_on(home, calm, small)


def test_no_room_for_a_pull(small: Editable, home: Path, tmp_path: Path) -> None:
    before = snapshot(home)
    many = "P36:\n" + "".join(f"  Land {number}: Town {number}\n" for number in range(2000))
    (tmp_path / "facts.yaml").write_text(many, encoding="utf-8")
    arguments = ("pull", "--home", home, "--relation", "P36", "--source", tmp_path / "facts.yaml")
    ran = run(tmp_path, *arguments, file_size=32 * 1024)
    assert ran.code == 1
    assert "check that the disk has room" in ran.err.splitlines()[-1]
    assert snapshot(home) == before
    assert run(tmp_path, *arguments).code == 0


def test_no_room_for_temporary_files(tmp_path: Path) -> None:
    """A packed file is unpacked on disk while it is read."""
    wd, label = "http://www.wikidata.org/entity/", "http://www.w3.org/2000/01/rdf-schema#label"
    lines = [
        f'<{wd}Q{n}> <http://www.wikidata.org/prop/direct/P36> <{wd}Q1> .\n<{wd}Q{n}> <{label}> "A{n}"@en .\n'
        for n in range(1, 2000)
    ]
    (tmp_path / "facts.nt.gz").write_bytes(gzip.compress("".join(lines).encode()))
    arguments = ("pull", "--home", tmp_path / "home", "--relation", "P36", "--source", tmp_path / "facts.nt.gz")
    ran = run(tmp_path, *arguments, file_size=32 * 1024)
    assert (ran.code, ran.out) == (1, "")
    assert re.fullmatch(
        r"Error: cannot write \S+: File too large \([\d,]+ MB are free in \S+\)", ran.err.splitlines()[-1]
    )
    assert run(tmp_path, *arguments).code == 0


# A disk for the tensors alone: too small for target vectors, for covariances, for the batch's own file.
@pytest.mark.parametrize(("room", "done"), [("8k", set()), ("200k", {"targets"}), ("544k", {"targets", "solve"})])
def test_no_room_for_tensors(
    room: str, done: set[str], home: Path, calm: Path, small: Editable, tmp_path: Path
) -> None:
    before = shown(home, small)
    mount = ("mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(home / "tensors"))
    ran = run(tmp_path, "apply", *small.arguments, "--yes", "--home", home, mount=mount)
    assert ran.code == 1
    error = ran.err.splitlines()[-1]
    assert error.startswith(f"Error: cannot write {home / 'tensors'}: ")
    assert "No space left on device" in error  # in the words of safetensors, too
    assert error.endswith(f" MB are free in {home / 'tensors'})")
    batch = batches(home)[-1]
    assert batch.state == "failed"
    assert batch.reason is not None
    assert "No space left on device" in batch.reason
    assert done <= batch.seconds.keys()
    assert ("solve" in batch.seconds) == ("solve" in done)
    assert shown(home, small) == before
    goes_on(home, calm, small)


@pytest.mark.parametrize("how", ["a disk of its own", "a bound for each file"])
def test_no_room_for_an_export(how: str, home: Path, small: Editable, tmp_path: Path) -> None:
    target = tmp_path / "disk" / "out"
    target.parent.mkdir()
    mount = (
        ("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(target.parent)) if how == "a disk of its own" else ()
    )
    arguments = ("export", "--model", small.name, "--home", home, "--to", target)
    ran = run(tmp_path, *arguments, mount=mount, file_size=None if mount else 32 * 1024)
    assert ran.code == 1
    why = "No space left on device" if mount else "File too large"
    assert ran.err.splitlines()[-1].startswith(f"Error: cannot write {target}: {why} (")
    assert ran.err.splitlines()[-1].endswith(f" MB are free in {target.parent})")
    assert list(target.parent.iterdir()) == []


def test_a_full_disk_is_read(home: Path, tmp_path: Path) -> None:
    told = {name: kbsync(name, "--home", home, "--json").out for name in ("status", "history", "verify")}
    for name, said in told.items():
        ran = run(tmp_path, name, "--home", home, "--json", file_size=16 * 1024)  # SQLite needs 32 for what it shares
        assert (ran.code, ran.out) == (0, said), ran.err


@pytest.mark.parametrize("command", ["apply", "pull", "rollback"])
def test_a_home_that_is_read_only(command: str, home: Path, small: Editable, tmp_path: Path) -> None:
    before = snapshot(home)
    source = home / "facts.yaml"
    arguments = {
        "apply": ("apply", *small.arguments, "--yes"),
        "pull": ("pull", "--relation", "P36", "--source", source),
        "rollback": ("rollback", "0", "--yes"),
    }[command]
    mount = ("sh", "-c", 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0"', str(home))
    ran = run(tmp_path, *arguments, "--home", home, mount=mount)
    assert ran.code == 1
    error = ran.err.splitlines()[-1]
    assert error.startswith("Error: cannot ")
    assert str(home) in error
    assert error.endswith("choose another --home")
    assert snapshot(home) == before
