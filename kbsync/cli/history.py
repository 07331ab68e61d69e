"""``kbsync history``, ``rollback``, ``log``, ``verify``, ``prune`` and ``retract``: the past, and going back to it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kbsync.cli.choices import YesOption, option
from kbsync.cli.options import Options, command, family
from kbsync.errors import SettingsError
from kbsync.report.apply import lifted_view, retracted_view, retraction_view
from kbsync.report.console import emit, progress, tell
from kbsync.report.history import history_view, log_view, pruned_view, rollback_view, verified_view
from kbsync.sync.home import AS_STORED, Loading

app = family()

UsedModelOption = Annotated[str | None, option("--model M", "The model.  [the one used last]")]


@command(app, "history", examples=("kbsync history", "kbsync history --model practice --json"))
def history(options: Options, model: Annotated[str | None, option("--model M", "Only this model.")] = None) -> None:
    """List the batches: when, what each did to the edits, its figures, and which is current."""
    from kbsync.sync.history import history as workflow

    emit(workflow(options.home, model), history_view, as_json=options.json)


@command(app, "rollback", examples=("kbsync rollback", "kbsync rollback 3 --yes", "kbsync rollback 0 --model practice"))
def rollback(
    options: Options,
    batch: Annotated[
        int | None, typer.Argument(metavar="BATCH", min=0, help="0 is the base model.  [the batch before the current]")
    ] = None,
    model: UsedModelOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before going back.")] = False,
) -> None:
    """Make the model's state after an earlier batch current again, without loading the model.

    Nothing is deleted: you can go forward to a later batch again. The facts stay as they are, so status and plan then
    show what the model lacks, and the next apply writes it again. To keep a fact out, use retract.
    """
    from kbsync.sync.rollback import rollback as workflow

    def confirm(planned: dict[str, Any]) -> bool:
        if yes:
            return True
        tell(rollback_view(planned))
        return typer.confirm("Make that state current?", default=True, err=True)

    result = workflow(options.home, batch, model, confirm)
    if result is None:
        tell("nothing was changed")
        raise typer.Exit(1)
    emit(result, rollback_view, as_json=options.json)


@command(app, "log", examples=('kbsync log --fact "France P36"', "kbsync log --subject Q142"))
def log(
    options: Options,
    fact: Annotated[str | None, option("--fact TEXT", "Subject and relation, such as 'France P36'.")] = None,
    subject: Annotated[str | None, option("--subject X", "A subject's label, id or alias, instead of --fact.")] = None,
    relation: Annotated[str | None, option("--relation ID", "With --subject: only this relation.")] = None,
) -> None:
    """Show everything that ever happened to a fact: pulls, conflicts, retractions, edits, rollbacks, figures."""
    from kbsync.sync.history import fact_log, parse_fact

    if (fact is None) == (subject is None) or (fact is not None and relation is not None):
        raise SettingsError("name one fact: --fact 'France P36', or --subject France --relation P36")
    named, its_relation = (subject or "", relation) if fact is None else parse_fact(fact)
    emit(fact_log(options.home, named, its_relation), log_view, as_json=options.json)


@command(app, "verify", examples=("kbsync verify", "kbsync verify --model practice"))
def verify(
    options: Options,
    model: Annotated[str | None, option("--model M", "Load this model, check its weights, and solve again.")] = None,
    corpus: Annotated[Path | None, option("--corpus FILE", "With --model: the corpus that its applies used.")] = None,
    loading: Loading = AS_STORED,
) -> None:
    """Check everything that can be recomputed: files, states, references, ids. Exits with 1 if something is wrong.

    Names what is wrong, and repairs nothing.
    """
    from kbsync.sync.verify import verify as workflow

    with progress(quiet=options.json) as report:
        result = workflow(options.home, model, corpus=corpus, loading=loading, progress=report)
    emit(result, verified_view, as_json=options.json)
    if not result["whole"]:
        raise typer.Exit(1)


@command(app, "prune", examples=("kbsync prune --dry-run", "kbsync prune"))
def prune(
    options: Options, dry_run: Annotated[bool, option("--dry-run", "Only show what would be removed.")] = False
) -> None:
    """Remove the tensor files that no state needs, such as those that a killed apply left."""
    from kbsync.sync.verify import prune as workflow

    emit(workflow(options.home, dry_run=dry_run), pruned_view, as_json=options.json)


RETRACT_EXAMPLES = (
    "kbsync retract --subject France --relation P36",
    "kbsync retract --subject Q142 --relation P36 --object Lyon --reason 'an error of the source' --yes",
    "kbsync retract --subject France --relation P36 --undo",
)


@command(app, "retract", examples=RETRACT_EXAMPLES)
def retract(
    options: Options,
    subject: Annotated[str, option("--subject X", "The subject's label, id or alias.")],
    relation: Annotated[str, option("--relation ID", "The relation.")],
    object_name: Annotated[str | None, option("--object Y", "Only if this is the object.  [any object]")] = None,
    model: Annotated[str | None, option("--model M", "The model to take it out of.  [the one used last]")] = None,
    reason: Annotated[str | None, option("--reason TEXT", "The reason, for the record.")] = None,
    undo: Annotated[bool, option("--undo", "Allow the fact again: the next apply writes it.")] = False,
    corpus: Annotated[Path | None, option("--corpus FILE", "Text for the covariance, one document per line.")] = None,
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

        def confirm(planned: dict[str, Any]) -> bool:
            if yes:
                return True
            report.pause()
            tell(retraction_view(planned))
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
        tell("nothing was changed")
        raise typer.Exit(1)
    emit(result, retracted_view, as_json=options.json)
