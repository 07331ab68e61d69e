"""Which values hold in a project, and where each comes from."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kbsync.project import Project


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
