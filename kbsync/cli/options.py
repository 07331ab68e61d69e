"""What all commands share: the options taken before or after a command's name, and how a command is registered."""

import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec

import typer
from typer.core import TyperGroup

from kbsync.cli.choices import DIFFERENCE, JUDGING_OPTIONS, LOADING_OPTIONS, Judging, option, parse_max_memory
from kbsync.errors import SettingsError
from kbsync.project import FILE_NAME, Project
from kbsync.sync.home import Loading

DEFAULT_HOME = Path(".kbsync")
HELP_NAMES = {"help_option_names": ["-h", "--help"]}

HOME_HELP = "The project's folder (else KBSYNC_HOME, else .kbsync)"

HomeOption = Annotated[Path | None, option("--home DIR", f"{HOME_HELP}.")]
JsonOption = Annotated[bool, option("--json", "Print the result as JSON.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Say on stderr how the work is done.")]
DebugOption = Annotated[bool, option("--debug", "Show the traceback of an error.")]


def _loading(max_memory: str | None, **given: Any) -> Loading:
    return Loading(max_memory=parse_max_memory(max_memory), **given)


GROUPS: dict[Any, tuple[list[inspect.Parameter], Callable[..., Any]]] = {
    Loading: (LOADING_OPTIONS, _loading),
    Judging: (JUDGING_OPTIONS, Judging.given),
}
"""types of parameters that stand for several options, and what makes them of these"""

P = ParamSpec("P")


@dataclass
class Options:
    """The shared options as given so far: what stands after the command is added to what stands before it."""

    home: Path = DEFAULT_HOME
    home_named: bool = False
    """on the command line, where a name may be mistyped"""
    json: bool = False
    debug: bool = False
    verbose: bool = False
    arguments: tuple[str, ...] = ()
    """the whole command line"""
    project: Project | None = None
    """the project file's content, where there is one"""

    def add(self, home: Path | None, as_json: bool, debug: bool, verbose: bool) -> None:
        """Take the options of one place on the command line."""
        if home is not None:
            self.home, self.home_named = home, str(home) != os.environ.get("KBSYNC_HOME")
        self.json = self.json or as_json
        self.debug = self.debug or debug
        self.verbose = self.verbose or verbose

    def take(self, project: Project) -> None:
        """Take what a project file says; the command line and KBSYNC_HOME go before it."""
        self.project = project
        if self.home is DEFAULT_HOME:
            self.home = project.home

    def require_project(self) -> Project:
        """Return the project file's content, with this command's home; SettingsError where there is none."""
        if self.project is None:
            raise SettingsError(f"no {FILE_NAME} here or in a folder above: `kbsync init` writes one")
        return replace(self.project, home=self.home)

    def require_home(self) -> None:
        """Raise SettingsError where a home was named and there is no ledger: for what can do without one."""
        if self.home_named and not (self.home / "ledger.db").exists():
            raise SettingsError(
                f"no ledger in {self.home}: name another --home, or leave the option out to work without one"
            )


def family(help_text: str | None = None, *, default: str | None = None) -> typer.Typer:
    """Return an app for one family of commands; `help_text` where it is a group (``kbsync templates``).

    `default` is the command that is meant where none is named (``kbsync stats --model M``).
    """
    return typer.Typer(
        cls=_group(default),
        help=help_text,
        rich_markup_mode=None,
        no_args_is_help=True,
        add_completion=False,
        context_settings=HELP_NAMES,
    )


def _group(default: str | None) -> type[TyperGroup]:
    """Return a group that reads options alone as the options of its default command."""

    class Group(TyperGroup):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            if default is not None and args and args[0].startswith("-") and args[0] not in ctx.help_option_names:
                args = [default, *args]
            return super().parse_args(ctx, args)

    return Group


def command(
    app: typer.Typer, name: str, *, examples: tuple[str, ...]
) -> Callable[[Callable[Concatenate[Options, P], None]], Callable[Concatenate[Options, P], None]]:
    """Register the decorated function on `app` as `name`, with the shared options behind its own.

    The function's first parameter receives the Options; its docstring is the help, with `examples` below. A parameter
    of one of the `GROUPS` stands for the options of that.
    """

    def register(body: Callable[Concatenate[Options, P], None]) -> Callable[Concatenate[Options, P], None]:
        @functools.wraps(body)
        def run(
            context: typer.Context, home: Path | None, as_json: bool, debug: bool, verbose: bool, **values: Any
        ) -> None:
            options = context.ensure_object(Options)
            options.add(home, as_json, debug, verbose)
            for parameter, (grouped, make) in groups.items():
                values[parameter] = make(**{option.name: values.pop(option.name) for option in grouped})
            body(options, **values)  # type: ignore[call-arg]

        own = inspect.signature(body)
        groups = {name: GROUPS[one.annotation] for name, one in own.parameters.items() if one.annotation in GROUPS}
        signature = _with_shared_options(own)
        run.__signature__ = signature  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
        lines = "\n".join(f"    {example}" for example in examples)
        app.command(name, epilog=f"Examples:\n\n\b\n{lines}", context_settings=HELP_NAMES)(run)
        return body

    return register


def _with_shared_options(signature: inspect.Signature) -> inspect.Signature:
    """Put the context in place of the first parameter, a group's options in its place, the shared ones at the end."""
    _, *given = signature.parameters.values()
    own = [one for parameter in given for one in GROUPS.get(parameter.annotation, ([parameter],))[0]]
    keyword = inspect.Parameter.KEYWORD_ONLY
    shared = [
        inspect.Parameter("context", keyword, annotation=typer.Context),
        *(parameter.replace(kind=keyword) for parameter in own),
        inspect.Parameter("home", keyword, default=None, annotation=HomeOption),
        inspect.Parameter("as_json", keyword, default=False, annotation=JsonOption),
        inspect.Parameter("verbose", keyword, default=False, annotation=VerboseOption),
        inspect.Parameter("debug", keyword, default=False, annotation=DebugOption),
    ]
    return signature.replace(parameters=shared, return_annotation=None)


def project_defaults(commands: Any, project: Project) -> dict[str, Any]:
    """Return, for each command that has such options, what the project file says in place of their defaults.

    What measures kbsync itself, or shows it, takes nothing from it.
    """
    values: dict[str, Any] = {
        "model": project.model,
        "corpus": project.corpus,
        "canaries": project.canaries,
        "compile_inverse": project.inverse,
        "tasks": ",".join(project.tasks) or None,
        **project.bounds,
        **project.watch,
    }
    values["setting"] = [f"{name}={_as_option(value)}" for name, value in project.settings.items()] or None
    found = {}
    for name, one in commands.items():
        if name in ("bench", "demo", "practice"):
            continue
        below = getattr(one, "commands", None)
        own = {option.name: values[option.name] for option in one.params if values.get(option.name) is not None}
        found[name] = project_defaults(below, project) if below else own
    return found


def _as_option(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else "none" if value is None else str(value)


def leave(in_sync: bool, check: bool) -> None:
    """End the command, with the exit code of a difference where ``--check`` found one."""
    if check and not in_sync:
        raise typer.Exit(DIFFERENCE)
