"""``kbsync retract``: take one fact out of a model, and keep it out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kbsync.cli.choices import YesOption
from kbsync.cli.options import Options, command, family
from kbsync.errors import SettingsError
from kbsync.report.apply import lifted_view, retracted_view, retraction_view
from kbsync.report.console import emit, log_console
from kbsync.report.progress import progress
from kbsync.sync.home import AS_STORED, Loading

if TYPE_CHECKING:
    from kbsync.sync.retract import Retraction

app = family()

EXAMPLES = (
    "kbsync retract --subject France --relation P36",
    "kbsync retract --subject Q142 --relation P36 --object Lyon --reason 'an error of the source' --yes",
    "kbsync retract --subject France --relation P36 --undo",
)


@command(app, "retract", examples=EXAMPLES)
def retract(
    options: Options,
    subject: Annotated[str, typer.Option("--subject", metavar="X", help="The subject's label, id or alias.")],
    relation: Annotated[str, typer.Option("--relation", metavar="ID", help="The relation.")],
    object_name: Annotated[
        str | None, typer.Option("--object", metavar="Y", help="Only if this is the object.  [any object]")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="M", help="The model to take it out of.  [the one used last]")
    ] = None,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="The reason, for the record.")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Allow the fact again: the next apply writes it.")] = False,
    corpus: Annotated[
        Path | None, typer.Option("--corpus", metavar="FILE", help="Text for the covariance, one document per line.")
    ] = None,
    yes: YesOption = False,
    loading: Loading = AS_STORED,
) -> None:
    """Take one fact out of the model now, and keep it out, even if its source states it.

    The fact is suppressed: no apply writes it into any model of this home until --undo. The model is solved again for
    all its other edits, with the settings of its current batch; other new or changed facts wait for the next apply.
    Another model that holds the fact loses it with its own next apply.
    """
    from kbsync.sync import retract as workflow

    if undo:
        if reason is not None or model is not None:
            raise SettingsError("--undo allows the fact again in all models: leave out --model and --reason")
        lifted = workflow.lift(options.home, subject, relation, object_name)
        emit({"lifted": lifted}, lifted_view, as_json=options.json)
        return
    with progress(quiet=options.json) as report:

        def confirm(planned: "Retraction") -> bool:
            if yes:
                return True
            report.pause()
            log_console().print(retraction_view(planned))
            return typer.confirm("Retract it?", default=True, err=True)

        result = workflow.retract(
            options.home,
            subject,
            relation,
            confirm,
            object_name=object_name,
            model=model,
            reason=reason,
            corpus=corpus,
            loading=loading,
            progress=report,
        )
    if result is None:
        log_console().print("nothing was changed")
        raise typer.Exit(1)
    emit(result, retracted_view, as_json=options.json)
