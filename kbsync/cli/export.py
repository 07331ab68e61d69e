"""``kbsync export``, ``publish`` and ``audit``: the edited model handed on to where models run."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from kbsync.cli.choices import DIFFERENCE, ModelOption, option
from kbsync.cli.options import Options, command, family
from kbsync.report.console import emit, progress, table
from kbsync.report.history import audit_view, exported_view, published_view
from kbsync.sync.home import AS_STORED, Loading

app = family()


@command(
    app,
    "export",
    examples=(
        "kbsync export --model practice --to edited-model",
        "kbsync export --model smollm2-135m --to adapter --format lora",
        "kbsync export --model smollm2-135m --to gguf --format gguf --quant Q8_0",
    ),
)
def export(
    options: Options,
    model: ModelOption,
    folder: Annotated[Path, option("--to DIR", "A new folder for the files.")],
    format_: Annotated[
        Literal["checkpoint", "lora", "gguf", "delta"],
        option("--format", "A checkpoint of transformers, a LoRA of PEFT, a GGUF file, or the deltas alone."),
    ] = "checkpoint",
    rank: Annotated[
        int | None, option("--rank R", "Of a LoRA.  [the least of 16 to 512 that keeps 99.9%]", min=1)
    ] = None,
    quant: Annotated[Literal["F16", "Q8_0"], option("--quant", "Type of a GGUF file's edited tensors.")] = "F16",
    onto: Annotated[
        Path | None, option("--onto FILE.gguf", "A GGUF file of the base model to put the edited tensors into.")
    ] = None,
    push: Annotated[
        str | None, option("--push OWNER/NAME", "Upload the folder to the hub, as a private model.")
    ] = None,
    dry_run: Annotated[bool, option("--dry-run", "With --push: only say what would be uploaded.")] = False,
    loading: Loading = AS_STORED,
) -> None:
    """Write the edited model for where it is to run: whole or not at all, with a model card and a bill of materials.

    A checkpoint is opened by AutoModelForCausalLM.from_pretrained, a LoRA by PeftModel.from_pretrained and vLLM, a GGUF
    file by llama.cpp and Ollama. What a LoRA's rank or a GGUF file's precision loses is measured and told.
    """
    from kbsync.sync.export import Form
    from kbsync.sync.export import export as workflow
    from kbsync.sync.publish import check_push
    from kbsync.sync.publish import push as upload

    check_push(push, dry_run=dry_run)
    form = Form(format_, rank, quant, onto)
    with progress(quiet=options.json, verbose=options.verbose) as report:
        exported = workflow(options.home, model, folder, form, loading=loading, progress=report)
    emit(exported, exported_view, as_json=options.json)
    if push is not None:
        files = upload(folder, push, dry_run=dry_run)
        title = f"{'would go' if dry_run else 'went'} to {push}"
        shown = table(("file", "bytes"), files, title=title)
        emit({"pushed": push, "dry_run": dry_run, "files": files}, lambda _: shown, as_json=options.json)


@command(
    app,
    "publish",
    examples=("kbsync publish adapter --to /srv/models", "kbsync publish adapter --to /srv/models --server URL"),
)
def publish(
    options: Options,
    exported: Annotated[Path, typer.Argument(metavar="EXPORT", help="A folder that `kbsync export` wrote.")],
    to: Annotated[str, option("--to PLACE", "A folder, or an object store such as s3://b/models.")],
    server: Annotated[str | None, option("--server URL", "A running vLLM, which is to serve the adapter.")] = None,
    least: Annotated[float, option("--least PERCENT", "Facts that the server must answer.", min=0, max=100)] = 90.0,
) -> None:
    """Copy an export to where models are served from, under a name with its batch, and point `current` at it.

    With --server the adapter is loaded into a running vLLM under its new name, asked for its facts, and the one before
    is unloaded; where it answers too few, it is unloaded itself, and all stays as it was.
    """
    from kbsync.sync.publish import publish as workflow

    with progress(quiet=options.json, verbose=options.verbose) as report:
        done = workflow(options.home, exported, to, server=server, least=least, progress=report)
    emit(done, published_view, as_json=options.json)


@command(app, "audit", examples=('kbsync audit adapter --fact "Albania P6"', "kbsync audit model.gguf --weights"))
def audit(
    options: Options,
    place: Annotated[Path, typer.Argument(metavar="FILE", help="An exported file or folder.")],
    fact: Annotated[
        list[str] | None, option("--fact TEXT", "Is this in it? Subject and relation; again for more.")
    ] = None,
    weights: Annotated[
        bool, option("--weights", "Load the base model too: are these the weights that the batch gives?")
    ] = False,
    loading: Loading = AS_STORED,
) -> None:
    """Tell from a file alone which batch it holds, whether a fact is in it, and whether it is as it was written.

    Where the home has a ledger, the file is held against it. Exits with 3 where something speaks against the file.
    """
    from kbsync.sync.publish import audit as workflow

    found = workflow(place, fact or (), home=options.home, weights=weights, loading=loading)
    emit(found, audit_view, as_json=options.json)
    if found["changed"] or found["agrees"] is False:
        raise typer.Exit(DIFFERENCE)
