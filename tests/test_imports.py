"""Imports go down only: cli -> sync, report -> domain parts -> facts, errors. The sources are parsed for it."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "kbsync"
EVERYONES = {"", "errors", "facts", "files", "shapes"}  # "" is kbsync itself: its version
DOMAIN = {
    *("conflicts", "datasets", "editors", "ledger", "memit"),
    *("metrics", "models", "practice", "sources", "templates"),
}

# What each part may import of kbsync, beside itself and EVERYONES.
MAY_IMPORT: dict[str, set[str]] = {
    "": set(),
    "__main__": {"cli"},
    "cli": {"benchmarks", "project", "report", "sync"},
    "report": set(),
    "benchmarks": DOMAIN | {"report", "resources", "sync"},
    "sync": DOMAIN | {"project", "resources"},
    "editors": {"memit", "models"},
    "memit": {"models", "resources"},
    "datasets": set(),
    "sources": {"datasets"},
    "metrics": {"models"},
    "practice": {"models"},
    **{part: set() for part in ("conflicts", "ledger", "models", "project", "resources", "templates")},
    **{part: set() for part in EVERYONES - {""}},
}

USES_TORCH = (
    "benchmarks/",
    "editors/",
    "ledger/tensors.py",
    "memit/",
    "metrics/",
    "models/",
    "practice/",
    "sync/",
)

# Where each library may be imported, by path prefix.
ONLY_IN = {
    "typer": ("cli/", "report/"),
    "rich": ("benchmarks/", "cli/", "report/"),
    "jinja2": ("benchmarks/", "report/"),
    "jsonschema": ("project.py",),
    "ijson": ("datasets/", "sources/results.py"),
    "matplotlib": ("benchmarks/", "report/"),
    "SPARQLWrapper": ("sources/", "benchmarks/pull.py"),
    "pyoxigraph": ("sources/", "benchmarks/pull.py"),
    "sqlalchemy": ("sources/table_file.py",),
    "sqlite_utils": ("ledger/",),
    "torch": USES_TORCH,
    "transformers": USES_TORCH,
}
STANDARD_ONLY = ("errors.py", "facts.py", "files.py", "resources.py", "shapes.py")


@dataclass(frozen=True, slots=True)
class Import:
    """One import: `path` is the importing file's, `types_only` says that it stands under ``if TYPE_CHECKING``."""

    path: str
    line: int
    module: str
    types_only: bool

    @property
    def part(self) -> str:
        """The part of kbsync that imports."""
        return _part(f"kbsync.{self.path.removesuffix('.py').replace('/', '.')}")

    def __str__(self) -> str:
        return f"kbsync/{self.path}:{self.line} imports {self.module}"


def _part(module: str) -> str:
    part = module.split(".")[1] if "." in module else ""
    return "" if part == "__init__" else part


def _imports(path: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guarded = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for statement in node.body
        for child in ast.walk(statement)
    }
    name = path.relative_to(PACKAGE).as_posix()
    for node in ast.walk(tree):
        for module in _modules(node):
            yield Import(name, getattr(node, "lineno", 0), module, node in guarded)


def _modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    assert node.level == 0, "imports inside kbsync are absolute"
    if node.module == "kbsync":
        return ["kbsync" if alias.name.startswith("__") else f"kbsync.{alias.name}" for alias in node.names]
    module = node.module or ""
    names = [f"{module}.{alias.name}" for alias in node.names]
    others = [module] if any(name not in MODULES for name in names) else []
    return [*others, *(name for name in names if name in MODULES)]


def _module(path: str) -> str:
    """The name of a file, which lies below the package, as others import it."""
    return f"kbsync.{path.removesuffix('.py').replace('/', '.')}".removesuffix(".__init__")


MODULES = {_module(path.relative_to(PACKAGE).as_posix()) for path in PACKAGE.rglob("*.py")}


@cache
def everything() -> tuple[Import, ...]:
    return tuple(found for path in sorted(PACKAGE.rglob("*.py")) for found in _imports(path))


def test_parts_import_only_what_lies_below_them() -> None:
    wrong = [
        str(found)
        for found in everything()
        if found.module.split(".")[0] == "kbsync"
        and _part(found.module) not in {found.part, *EVERYONES, *MAY_IMPORT[found.part]}
        and not (found.part == "report" and found.types_only)  # report knows results by their types alone
    ]
    assert wrong == []


def _reached(name: str, needs: dict[str, set[str]]) -> set[str]:
    """All modules that a module imports, and those that these import."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        new = needs[waiting.pop()] - seen
        seen |= new
        waiting += new
    return seen


def test_no_module_imports_one_that_imports_it() -> None:
    """Not for its types either: a circle is two files that are one idea, or one that holds two."""
    needs: dict[str, set[str]] = {name: set() for name in MODULES}
    for found in everything():
        if found.module in MODULES:
            needs[_module(found.path)].add(found.module)
    assert [name for name in MODULES if name in _reached(name, needs)] == []


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_imported_only_where_it_belongs(library: str) -> None:
    users = [found for found in everything() if found.module.split(".")[0] == library]
    wrong = [str(found) for found in users if not found.path.startswith(ONLY_IN[library])]
    assert wrong == []


def test_values_and_errors_use_the_standard_library_alone() -> None:
    allowed = {*sys.stdlib_module_names, "kbsync"}
    of_values = [found for found in everything() if found.path in STANDARD_ONLY]
    assert [str(found) for found in of_values if found.module.split(".")[0] not in allowed] == []


def test_the_parser_sees_imports_inside_functions() -> None:
    found = {(imported.path, imported.module) for imported in everything()}
    assert ("cli/pull.py", "kbsync.sync.pull") in found
