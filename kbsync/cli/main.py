"""The ``kbsync`` command, and the one place where an error becomes a message and an exit code.

Exit codes: 0 done, 1 an error in the user's input or environment (or a fault of kbsync's own), 2 wrong usage,
3 a difference that ``--check`` was asked to find, or a pull that would withdraw more than its bound, 130 interrupted.
"""

import io
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from kbsync import __version__
from kbsync.cli import (
    apply,
    ask,
    bench,
    calibrate,
    doctor,
    evaluate,
    history,
    mend,
    plan,
    practice,
    pull,
    relations,
    retract,
    stats,
    templates,
    trace,
)
from kbsync.cli.choices import DIFFERENCE
from kbsync.cli.options import HELP_NAMES, HOME_HELP, DebugOption, JsonOption, Options, VerboseOption
from kbsync.errors import KbsyncError, SourceError, WithdrawalsError

__all__ = ["app", "main"]

INTERRUPTED = 130
GO_ON = "nothing is left half done; the same command goes on from what was finished"

app = typer.Typer(
    name="kbsync",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    add_completion=False,
    context_settings=HELP_NAMES,
)
app.add_typer(pull.app)
app.add_typer(plan.app)
app.add_typer(apply.app)
app.add_typer(ask.app)
app.add_typer(evaluate.app)
app.add_typer(history.app)
app.add_typer(retract.app)
app.add_typer(calibrate.app)
app.add_typer(trace.app)
app.add_typer(doctor.app)
app.add_typer(relations.app)
app.add_typer(practice.app)
app.add_typer(bench.app)
app.add_typer(mend.app, name="mend")
app.add_typer(stats.app, name="stats")
app.add_typer(templates.app, name="templates")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` (default: the process's own) name, and return its exit code."""
    options = Options()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # labels have letters that not every terminal has
    try:
        typer.main.get_command(app).main(arguments, prog_name="kbsync", obj=options)
    except SystemExit as leaving:  # how typer ends: after the command, after help, on wrong usage
        code = leaving.code if isinstance(leaving.code, int) else 1
        if code == INTERRUPTED:
            print(f"Interrupted: {GO_ON}", file=sys.stderr)
        return code
    except KbsyncError as error:
        return _fail(f"Error: {error}", error, options.debug)
    except Exception as fault:
        hint = "" if options.debug else " (run again with --debug for the traceback)"
        return _fail(f"kbsync has a fault: {type(fault).__name__}: {fault}{hint}", fault, options.debug)
    return 0


def _fail(message: str, error: Exception, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
        if isinstance(error, SourceError) and error.query:
            print(error.query, file=sys.stderr)
    print(message, file=sys.stderr)
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
        typer.Option(
            "--home", metavar="DIR", envvar="KBSYNC_HOME", show_envvar=False, help=f"{HOME_HELP}; also after a command."
        ),
    ] = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
    debug: DebugOption = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Keep what a language model believes in step with a knowledge base.

    kbsync pulls facts from a knowledge base into a ledger, writes them into a language model's weights with MEMIT,
    and keeps a record of every edit.
    """
    context.ensure_object(Options).add(home, as_json, debug, verbose)
