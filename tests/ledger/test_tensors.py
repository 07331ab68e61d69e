"""Tensor files appear whole, are named by a hash, and are never overwritten with other content."""

import hashlib
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kbsync.errors import LedgerError, WriteError
from kbsync.ledger import read_metadata, read_tensors, write_tensors
from kbsync.ledger.tensors import sweep
from tests.ledger.helpers import ROOT

METADATA = {name: name.upper() for name in "abcdefgh"}


def tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    stacked = torch.randn(3, 4, generator=generator)
    return {"row": stacked[1], "turned": stacked.T, "half": stacked.to(torch.bfloat16), "count": torch.tensor(7)}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    given = tensors()
    given["learnt"] = torch.ones(2, requires_grad=True)
    name, sha256 = write_tensors(tmp_path / "new" / "folder", given, METADATA)
    path = tmp_path / "new" / "folder" / name
    assert name == f"{sha256}.safetensors"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    found = read_tensors(path, sha256)
    assert found.keys() == given.keys()
    for key, tensor in found.items():
        assert tensor.dtype == given[key].dtype
        assert torch.equal(tensor, given[key])
    assert read_metadata(path) == METADATA


def test_equal_content_is_one_file(tmp_path: Path) -> None:
    written = {write_tensors(tmp_path, tensors(), METADATA) for _ in range(5)}
    assert len(written) == 1
    assert [path.name for path in tmp_path.iterdir()] == [next(iter(written))[0]]


def test_a_given_name_and_other_content(tmp_path: Path) -> None:
    name, sha256 = write_tensors(tmp_path, tensors(), {}, "z:0123")
    assert name == "z-0123.safetensors"
    assert write_tensors(tmp_path, tensors(), {}, "z:0123") == (name, sha256)
    other, other_sha256 = write_tensors(tmp_path, tensors(1), {}, "z:0123")
    assert other == f"z-0123-{other_sha256}.safetensors"
    assert torch.equal(read_tensors(tmp_path / name, sha256)["row"], tensors()["row"])
    assert torch.equal(read_tensors(tmp_path / other)["row"], tensors(1)["row"])
    assert len(list(tmp_path.iterdir())) == 2


def damaged(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
    elif how == "cut":
        path.write_bytes(content[:-9])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "changed":
        content[-1] ^= 1
        path.write_bytes(content)
    elif how == "a folder":
        path.unlink()
        path.mkdir()


DAMAGE = {
    "missing": "is missing: restore a copy, or run `kbsync apply`",
    "cut": "restore a copy, or delete it",
    "empty": "restore a copy, or delete it",
    "a folder": "cannot read",
    "changed": "not what kbsync wrote .* delete it",
}


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("how", DAMAGE)
def test_a_file_that_is_not_as_it_was(tmp_path: Path, how: str, checked: bool) -> None:
    name, sha256 = write_tensors(tmp_path, tensors(), {})
    damaged(tmp_path / name, how)
    with pytest.raises(LedgerError, match=DAMAGE[how]) as caught:
        read_tensors(tmp_path / name, sha256 if checked else None)
    assert str(tmp_path / name) in str(caught.value)


def test_a_flipped_bit_anywhere_is_told_or_does_no_harm(tmp_path: Path) -> None:
    given = {"z": torch.arange(6.0).reshape(2, 3)}
    name, _ = write_tensors(tmp_path, given, {"model": "m"})
    path = tmp_path / name
    content, told = path.read_bytes(), 0
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << (place % 8)
        path.write_bytes(flipped)
        with suppress(LedgerError):
            found = read_tensors(path)
            assert found.keys() == given.keys()
            assert torch.equal(found["z"], given["z"])
            continue
        told += 1
    # Not told are those that hide the hash (in the names of its entries), and so can have changed nothing else.
    assert told >= len(content) - len("__metadata__kbsynccontent") - 8


def test_a_file_of_another_program_is_read_as_it_is(tmp_path: Path) -> None:
    save_file({"x": torch.ones(2)}, tmp_path / "theirs.safetensors")
    assert torch.equal(read_tensors(tmp_path / "theirs.safetensors")["x"], torch.ones(2))
    assert read_metadata(tmp_path / "theirs.safetensors") == {}


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(WriteError, match=r"cannot write .*file: File exists \("):
        write_tensors(tmp_path / "file", tensors(), {})
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, signal, torch, resource\nfrom kbsync.errors import WriteError\n"
        "from kbsync.ledger import write_tensors\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: write_tensors(pathlib.Path(sys.argv[1]), {'a': torch.zeros(100_000)}, {})\n"
        "except WriteError as error: print(error)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert f"cannot write {tmp_path}: " in done.stdout, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_unfinished_files_of_the_dead_are_swept(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead, living = f".{ended.pid}-0a.partial", f".{os.getpid()}-0b.partial"
    name, _ = write_tensors(tmp_path, tensors(), {})
    for unfinished in (dead, living, ".notes.partial"):
        (tmp_path / unfinished).write_text("half")
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {living, ".notes.partial", name}
    sweep(tmp_path / "no such folder")
