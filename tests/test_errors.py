"""Errors: every exception is caught where the command line ends, and around code that is not kbsync's; nowhere else."""

import re
from pathlib import Path

import pytest

import kbsync
from kbsync.errors import ModelError, SettingsError, foreign

CATCH_ALL = {
    "cli/main.py",  # the boundary
    "errors.py",  # `foreign`
    "models/distributed.py",  # passes on what a process raises to the others, who wait for it
}


def test_nothing_else_catches_every_exception() -> None:
    root = Path(kbsync.__file__).parent
    found = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if re.search(r"except( \(?Exception\b.*)?:", path.read_text(encoding="utf-8"))
    }
    assert found == CATCH_ALL


@pytest.mark.parametrize("raised", [RuntimeError("a\n b"), ModelError("a b"), SystemExit(3)])
def test_what_foreign_code_raises_is_one_line(raised: BaseException) -> None:
    passes = isinstance(raised, ModelError | SystemExit)
    told = foreign(lambda reason: SettingsError(f"it fails: {reason}"))
    with pytest.raises(type(raised) if passes else SettingsError) as caught, told:
        raise raised
    if isinstance(caught.value, SettingsError):
        assert str(caught.value) == "it fails: a b"
