"""``kbsync calibrate``: settings for a new model."""

from pathlib import Path
from typing import Annotated

import typer

from kbsync.cli.choices import ModelOption, RelationsOption, SetOption, parse_values
from kbsync.cli.options import Options, command, family
from kbsync.report.calibrate import calibration_json, calibration_view
from kbsync.report.console import show
from kbsync.report.progress import progress
from kbsync.sync.home import AS_STORED, Loading

app = family()

EXAMPLES = (
    "kbsync calibrate --model practice --facts 50",
    "kbsync calibrate --model Qwen/Qwen3-0.6B --corpus text.txt --write qwen",
)


@command(app, "calibrate", examples=EXAMPLES)
def calibrate(
    options: Options,
    model: ModelOption,
    relation: RelationsOption = None,
    facts: Annotated[
        int, typer.Option("--facts", metavar="N", min=10, help="Number of facts to edit in each trial.")
    ] = 60,
    corpus: Annotated[
        Path | None, typer.Option("--corpus", metavar="FILE", help="Text for the covariance, one document per line.")
    ] = None,
    write: Annotated[
        str | None, typer.Option("--write", metavar="NAME", help="Save the result as a preset of this home.")
    ] = None,
    setting: SetOption = None,
    loading: Loading = AS_STORED,
) -> None:
    """Find layers, lambda and clamp for a model by trial edits of facts that it knows.

    Uses the ledger's facts or, if it has none, the fixtures'. A causal trace suggests layers; trials with these and
    their neighbours are ranked by S, as long as ordinary text stays likely. The model itself does not change. An
    interrupted run goes on.
    """
    from kbsync.sync.calibrate import CalibrateOptions
    from kbsync.sync.calibrate import calibrate as workflow

    wanted = CalibrateOptions(model, relation, facts, corpus, write, parse_values(setting), loading)
    with progress(quiet=options.json) as report:
        found = workflow(options.home, wanted, report)
    show(found, calibration_view, calibration_json, as_json=options.json)
