"""Errors: every exception is caught where the command line ends, and around code that is not kbsync's; nowhere else."""

import ast
from pathlib import Path

import pytest

import kbsync
from kbsync.errors import ModelError, SettingsError, foreign

CATCH_ALL = {
    "cli/main.py",  # the boundary
    "errors.py",  # `foreign`
    "models/devices.py",  # passes on what a process raises to the others, who wait for it
    "sources/endpoint.py",  # passes on what a thread raises to the one that waits for it
}
ALL = {"Exception", "BaseException"}


def catches_all(node: ast.AST) -> bool:
    """Whether a handler or a call of suppress takes whatever is raised, and does not raise it again."""
    if isinstance(node, ast.Call):
        told, end = node.args if isinstance(node.func, ast.Name) and node.func.id == "suppress" else [], None
    elif isinstance(node, ast.ExceptHandler):
        told = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type or ast.Name("Exception")]
        end = node.body[-1]
    else:
        return False
    everything = any(isinstance(one, ast.Name) and one.id in ALL for one in told)
    return everything and not (isinstance(end, ast.Raise) and end.exc is None)


def test_nothing_else_catches_every_exception() -> None:
    root = Path(kbsync.__file__).parent
    found = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if any(map(catches_all, ast.walk(ast.parse(path.read_text(encoding="utf-8")))))
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
