"""What `make test-oldest` installs is what pyproject.toml allows at the least."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
TOOLS = {
    *(
        "kbsync",
        "build",
        "check-jsonschema",
        "mkdocs",
        "mypy",
        "peft",
        "psycopg",
        "pytest-xdist",
        "ruff",
        "selenium",
        "sqlalchemy",
    ),
    *("types-jsonschema", "types-pyyaml", "xllamacpp"),
}
"""of developers, which the tests there do without"""


def test_the_oldest_versions_are_the_lower_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [text for texts in project["optional-dependencies"].values() for text in texts]
    allowed = {}
    for text in (*project["dependencies"], *extras):
        requirement = Requirement(text)
        if canonicalize_name(requirement.name) not in TOOLS:
            (lowest,) = (bound.version for bound in requirement.specifier if bound.operator == ">=")
            allowed[canonicalize_name(requirement.name)] = [int(part) for part in lowest.split(".")]
    lines = (ROOT / ".ci" / "oldest.txt").read_text(encoding="utf-8").splitlines()
    pins = {
        canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines) if version
    }
    assert pins.keys() == allowed.keys()
    for name, version in pins.items():
        parts = [int(part) for part in version.split(".")]
        assert parts[: len(allowed[name])] == allowed[name]
        assert not any(parts[len(allowed[name]) :])
