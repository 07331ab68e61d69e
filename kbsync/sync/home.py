"""What every workflow takes: a home's templates, a model's name and how it is loaded, who hears of progress; and which
values hold in a project. Loads no torch.
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


def origins(project: Project | None, home: Path | None, *, flag: bool) -> Iterator[tuple[str, Any, str]]:
    """Yield the values of a project: its home (`home` is a flag's or the environment's), model, sources, settings.

    Each with its name, and whether a flag, the environment, the file, the model's preset or a default gave it.
    """
    from kbsync.memit.settings import MemitSettings, load_preset

    if home is not None:
        yield ("home", str(home), "flag" if flag else "environment (KBSYNC_HOME)")
    elif project is not None:
        yield ("home", str(project.home), "file")
    else:
        yield ("home", str(Path(".kbsync").absolute()), "default")
    if project is None:
        return
    preset = load_preset(project.model, home or project.home) if project.model else None
    yield ("model", project.model, "file" if project.model else "default")
    for place, source in enumerate(project.sources):
        told = {"relations": list(source.relations), **source.options}
        told |= {name: one for name in ("name", "priority", "stream") if (one := getattr(source, name))}
        yield (f"sources.{place}", f"{source.source}: " + ", ".join(f"{k} {v}" for k, v in told.items()), "file")
    corpus = project.corpus or (preset.corpus if preset else None)
    yield ("corpus", corpus and str(corpus), "file" if project.corpus else "preset" if corpus else "default")
    given: dict[str, Any] = {"canaries": project.canaries and str(project.canaries), "compile_inverse": project.inverse}
    given["tasks"] = ", ".join(project.tasks) or None
    for part, values in (("bounds", project.bounds), ("watch", project.watch)):
        given |= {f"{part}.{name}": value for name, value in values.items()}
    yield from ((name, value, "file") for name, value in given.items() if value is not None)
    plain = MemitSettings().as_dict()
    base = preset.settings if preset else MemitSettings()
    for name, value in base.with_values(project.settings).as_dict().items():
        origin = "preset" if preset is not None and value != plain[name] else "default"
        yield (f"settings.{name}", value, "file" if name in project.settings else origin)
    if project.export is not None:
        yield ("export.to", str(project.export), "file")
        for name, value in project.form.items():
            yield (f"export.{name}", value, "file")
