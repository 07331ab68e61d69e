"""What every workflow takes: a home's templates, a model's name and how it is loaded, who hears of progress.

Loads no torch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from kbsync.errors import KbsyncError
from kbsync.resources import preset_file, templates_folder
from kbsync.templates import Template, Templates, check_file, load_templates

Progress = Callable[[str, int, int], None]
"""``progress(phase, done, total)``"""


def silent(phase: str, done: int, total: int) -> None:
    """Tell nothing."""


@dataclass(frozen=True, slots=True)
class Loading:
    """Where a model goes and in what form."""

    device: str | None = None
    """cuda, mps, cpu, or auto for all there are; None is the best one there is"""
    dtype: str | None = None
    """float32, float16 or bfloat16; None is float32 on a CPU, else as stored"""
    max_memory: Mapping[int | str, str] | None = None
    """bounds under ``auto``: GPU number, or cpu, -> size such as 20GiB"""
    experimental: bool = False
    """read a model of an unknown family by its structure"""
    revision: str | None = None
    """branch, tag or commit of a hub repository; None is its main branch"""


AS_STORED = Loading()


def model_name(name: str, home: Path | None = None) -> str:
    """Return a preset's name (of `home` or kbsync's own) or hub id as it is, and a directory or file resolved."""
    if not name.strip():
        raise KbsyncError("the model's name is empty: name a preset, a hub id, a directory or a GGUF file")
    if preset_file(name, home) is not None:
        return name
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() else name


def templates_for(home: Path) -> Templates:
    """Return the templates of ``home/templates`` and, for all other relations, kbsync's own."""
    return load_templates(home / "templates", own_templates())


@cache
def own_templates() -> Templates:
    """Return kbsync's own templates, which stay the same while it runs."""
    return load_templates(templates_folder())


def check_templates(home: Path, file: Path) -> list[Template]:
    """Return the templates of `file`; raise TemplateError where it could not be used in `home`."""
    return check_file(file, beside=templates_for(home))
