"""What every workflow takes: a home's templates, a model's name and how it is loaded, who hears of progress.

Loads no torch.

Which values hold in a project, and where each comes from.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from kbsync.errors import KbsyncError
from kbsync.project import Project
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


@dataclass(frozen=True, slots=True)
class Value:
    """A value, and whether a flag, the environment, the file, the model's preset or a default gave it."""

    name: str
    value: Any
    origin: str


def origins(project: Project | None, home: Path | None, *, flag: bool) -> Iterator[Value]:
    """Yield the values of a project: its home (`home` is a flag's or the environment's), model, sources, settings."""
    from kbsync.memit.settings import MemitSettings, load_preset

    if home is not None:
        yield Value("home", str(home), "flag" if flag else "environment (KBSYNC_HOME)")
    else:
        yield Value(
            "home", str(project.home if project else Path(".kbsync").absolute()), "file" if project else "default"
        )
    if project is None:
        return
    preset = load_preset(project.model, home or project.home) if project.model else None
    yield Value("model", project.model, "file" if project.model else "default")
    for place, source in enumerate(project.sources):
        told = {"relations": list(source.relations), **source.options}
        told |= {"name": source.name} if source.name else {}
        told |= {"priority": source.priority} if source.priority else {}
        told |= {"stream": source.stream} if source.stream else {}
        yield Value(f"sources.{place}", f"{source.source}: " + ", ".join(f"{k} {v}" for k, v in told.items()), "file")
    corpus = project.corpus or (preset.corpus if preset else None)
    yield Value("corpus", corpus and str(corpus), "file" if project.corpus else "preset" if corpus else "default")
    if project.canaries is not None:
        yield Value("canaries", str(project.canaries), "file")
    if project.inverse is not None:
        yield Value("compile_inverse", project.inverse, "file")
    if project.tasks:
        yield Value("tasks", ", ".join(project.tasks), "file")
    for name, bound in project.bounds.items():
        yield Value(f"bounds.{name}", bound, "file")
    for name, value in project.watch.items():
        yield Value(f"watch.{name}", value, "file")
    plain = MemitSettings().as_dict()
    base = preset.settings if preset else MemitSettings()
    held = base.with_values(project.settings).as_dict()
    for name, value in held.items():
        by_preset = preset is not None and value != plain[name]
        yield Value(
            f"settings.{name}", value, "file" if name in project.settings else "preset" if by_preset else "default"
        )
    if project.export is not None:
        yield Value("export.to", str(project.export), "file")
        for name, value in project.form.items():
            yield Value(f"export.{name}", value, "file")
