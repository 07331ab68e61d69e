"""``kbsync stats``: the covariances of a model's edited layers, collected, handed on, and taken in."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kbsync.cli.choices import CorpusOption, ModelOption, SetOption, parse_values
from kbsync.cli.options import Options, command, family
from kbsync.report.console import emit, progress
from kbsync.report.models import exported_view, imported_view, stats_view
from kbsync.sync.home import AS_STORED, Loading

if TYPE_CHECKING:
    from kbsync.sync.stats import StatsOptions

app = family(
    "The covariances of a model's edited layers: `kbsync stats --model M --corpus C` collects them.", default="collect"
)

TokensOption = Annotated[
    int | None,
    typer.Option("--tokens", metavar="N", min=1, help="Tokens of the corpus to read.  [10 for each dimension]"),
]
LengthOption = Annotated[
    int | None,
    typer.Option("--sequence-length", metavar="N", min=8, help="Tokens in each row of the packed corpus.  [512]"),
]


@command(
    app,
    "collect",
    examples=(
        "kbsync stats collect --model practice",
        "kbsync stats collect --model gpt-j --corpus wikimedia/wikipedia:20231101.en --tokens 500000",
    ),
)
def collect(
    options: Options,
    model: ModelOption,
    corpus: CorpusOption = None,
    tokens: TokensOption = None,
    sequence_length: LengthOption = None,
    setting: SetOption = None,
    loading: Loading = AS_STORED,
) -> None:
    """Collect the covariances of a model's edited layers, unless the home has them, and show how good they are.

    Takes one pass for all layers and keeps the result in the home, under the hash of what it depends on. A killed run
    goes on where it stopped. The change since half of the tokens shows whether more text would matter.
    """
    from kbsync.sync.stats import stats

    with progress(quiet=options.json) as report:
        found = stats(options.home, _wanted(model, corpus, tokens, sequence_length, setting, loading), report)
    emit(found, stats_view, as_json=options.json)


@command(app, "export", examples=("kbsync stats export gpt-j.safetensors --model gpt-j",))
def export(
    options: Options,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new safetensors file.")],
    model: ModelOption,
    corpus: CorpusOption = None,
    tokens: TokensOption = None,
    sequence_length: LengthOption = None,
    setting: SetOption = None,
    loading: Loading = AS_STORED,
) -> None:
    """Write the covariances of a model's edited layers to one file, to share with others.

    Collects them first if the home does not have them. The header says which text they were taken over.
    """
    from kbsync.sync.stats import export_covariances

    wanted = _wanted(model, corpus, tokens, sequence_length, setting, loading)
    with progress(quiet=options.json) as report:
        shared = export_covariances(options.home, file, wanted, report)
    emit(shared, exported_view, as_json=options.json)


@command(app, "import", examples=("kbsync stats import gpt-j.safetensors --model gpt-j",))
def import_file(
    options: Options,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `kbsync stats export` wrote.")],
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="M", help="Load this model and check that the covariances are its own."),
    ] = None,
    loading: Loading = AS_STORED,
) -> None:
    """Check a file of covariances and add them to the home; `kbsync apply` then needs no corpus for that model."""
    from kbsync.sync.stats import import_covariances

    emit(import_covariances(options.home, file, model, loading), imported_view, as_json=options.json)


def _wanted(
    model: str,
    corpus: Path | None,
    tokens: int | None,
    sequence_length: int | None,
    setting: Sequence[str] | None,
    loading: Loading,
) -> "StatsOptions":
    from kbsync.sync.stats import StatsOptions

    given = {"covariance_tokens": tokens, "sequence_length": sequence_length}
    values = parse_values(setting) | {name: value for name, value in given.items() if value is not None}
    return StatsOptions(model, corpus, values, loading)
