"""The ``kbsync`` command, and the one place where an error becomes a message and an exit code.

Exit codes: 0 done, 1 an error in the user's input or environment (or a fault of kbsync's own), 2 wrong usage,
3 a difference that ``--check`` was asked to find, or a pull that would withdraw more than its bound, 130 interrupted.
"""

import errno
import io
import os
import re
import shutil
import sys
import traceback
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer

from kbsync import __version__
from kbsync.cli import apply, bench, evaluate, export, history, models, pull, status, sync
from kbsync.cli.choices import DIFFERENCE, option
from kbsync.cli.options import HELP_NAMES, HOME_HELP, DebugOption, JsonOption, Options, VerboseOption, project_defaults
from kbsync.errors import KbsyncError, SourceError, WithdrawalsError
from kbsync.project import find_project, read_project

INTERRUPTED = 130
WRONG_USAGE = 2
GO_ON = "nothing is left half done; run the same command to go on"

app = typer.Typer(
    name="kbsync",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    add_completion=False,
    context_settings=HELP_NAMES,
)
for family in (
    *(sync.init_app, sync.app, pull.app, status.app, apply.app, evaluate.ask_app, export.app, evaluate.app),
    *(evaluate.explain_app, history.app, models.app, pull.relations_app, models.practice_app, bench.app),
):
    app.add_typer(family)
app.add_typer(models.mend_app, name="mend")
app.add_typer(models.stats_app, name="stats")
app.add_typer(pull.templates_app, name="templates")
app.add_typer(sync.config_app, name="config")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` (default: the process's own) name, and return its exit code."""
    options = Options()
    closed = _open_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # labels have letters that not every terminal has
    given = list(sys.argv[1:] if arguments is None else arguments)
    # Bytes that are no text: Python makes lone surrogates of them.
    if wrong := next((one for one in given if re.search("[\ud800-\udfff]", one)), None):
        print(f"Error: this argument is not UTF-8: {wrong}", file=sys.stderr)
        return WRONG_USAGE
    options.arguments = tuple(given)
    try:
        _commands().main(given, prog_name="kbsync", obj=options)
        code = 0
    except KeyboardInterrupt:
        code = INTERRUPTED
    except SystemExit as leaving:  # how typer ends: after the command, after help, on wrong usage
        code = leaving.code if isinstance(leaving.code, int) else 1
    except KbsyncError as error:
        return _fail(f"Error: {error}", error, options.debug)
    except OSError as error:
        return _fail(f"Error: {_told(error)}", error, options.debug)
    except Exception as fault:
        hint = "" if options.debug else " (run again with --debug for the traceback)"
        return _fail(f"kbsync has a bug: {type(fault).__name__}: {fault}{hint}", fault, options.debug)
    if code == INTERRUPTED:
        print(f"Interrupted: {GO_ON}", file=sys.stderr)
    if code == 0 and closed:
        told = "standard output is closed, so the result could not be written; the command itself has finished"
        print(f"Error: {told}", file=sys.stderr)
        return 1
    return code


@cache
def _commands() -> Any:
    """Return all commands: to put them together takes longer than most of them."""
    return typer.main.get_command(app)


def _open_streams() -> bool:
    """Give standard streams that are closed a place to go to; tell whether standard output was.

    Otherwise the next file that is opened, such as the ledger, would take its number, and whatever is printed.
    """
    closed = sys.stdout is None
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    for place, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(place, mode, encoding="utf-8"))
    return closed


def _told(error: OSError) -> str:
    """Return what the system said, of which file, and how much room there is where that is the matter."""
    reason = error.strerror or " ".join(str(error).split())
    if error.filename is None:
        return reason
    told = f"{os.fsdecode(error.filename)}: {reason}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        place = next((one for one in Path(os.fsdecode(error.filename)).absolute().parents if one.is_dir()), Path("/"))
        told += f" ({shutil.disk_usage(place).free / 2**20:,.0f} MB free there)"
    return told


def _fail(message: str, error: Exception, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
        if isinstance(error, SourceError) and error.query:
            print(error.query, file=sys.stderr)
    # Names that nobody would read are cut.
    print(re.sub(r"\S{240,}", lambda found: f"{found[0][:60]}...{found[0][-20:]}", message), file=sys.stderr)
    return DIFFERENCE if isinstance(error, WithdrawalsError) else 1


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"kbsync {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    home: Annotated[
        Path | None,
        option("--home DIR", f"{HOME_HELP}; also after a command.", envvar="KBSYNC_HOME", show_envvar=False),
    ] = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
    debug: DebugOption = False,
    version: Annotated[bool, option("--version", "Print the version.", callback=_show_version, is_eager=True)] = False,
) -> None:
    """Keep what a language model believes in step with a knowledge base.

    kbsync pulls facts from a knowledge base into a ledger, writes them into a language model's weights with MEMIT,
    and keeps a record of every edit.
    """
    options = context.ensure_object(Options)
    options.add(home, as_json, debug, verbose)
    # Help, and what writes or describes the file, work whatever the file is.
    if context.invoked_subcommand not in (None, "init", "config") and not {"-h", "--help"} & {*options.arguments}:
        file = find_project(Path())
        if file is not None:
            options.take(read_project(file))
            assert options.project is not None
            context.default_map = project_defaults(getattr(context.command, "commands", {}), options.project)
