"""``kbsync calibrate``, ``trace``, ``doctor``, ``mend``, ``stats``, ``practice``, ``demo``: work on a model itself."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kbsync.cli.choices import CorpusOption, ModelOption, RelationsOption, SetOption, option, parse_values
from kbsync.cli.options import Options, command, family
from kbsync.report import models as views
from kbsync.report.console import emit, progress, table, tell
from kbsync.report.explain import trace_view
from kbsync.report.pull import demo_view
from kbsync.sync.home import AS_STORED, Loading

if TYPE_CHECKING:
    from kbsync.sync.stats import StatsOptions


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
    facts: Annotated[int, option("--facts N", "Number of facts to edit in each trial.", min=10)] = 30,
    corpus: Annotated[Path | None, option("--corpus FILE", "Text for the covariance, one document per line.")] = None,
    write: Annotated[str | None, option("--write NAME", "Save the result as a preset of this home.")] = None,
    setting: SetOption = None,
    loading: Loading = AS_STORED,
) -> None:
    """Find layers, lambda and clamp for a model by trial edits of facts that it knows.

    Uses the ledger's facts or, if it has none, the fixtures'. A causal trace suggests layers; trials with these and
    their neighbours are ranked by S, as long as ordinary text stays likely. The model itself does not change. An
    interrupted run goes on.
    """
    from kbsync.sync.calibrate import calibrate as workflow

    how: dict[str, Any] = {"relations": relation, "facts": facts, "corpus": corpus, "write": write, "loading": loading}
    with progress(quiet=options.json) as report:
        found = workflow(options.home, model, values=parse_values(setting), progress=report, **how)
    emit(found, views.calibration_view, as_json=options.json)


TRACE_EXAMPLES = (
    "kbsync trace --model practice --facts 50 --plot trace.png",
    "kbsync trace --model gpt-j --facts 1000 --samples 10 --write-preset gpt-j-traced",
)


@command(app, "trace", examples=TRACE_EXAMPLES)
def trace(
    options: Options,
    model: ModelOption,
    relation: RelationsOption = None,
    facts: Annotated[int, option("--facts N", "Number of known facts to trace.", min=1)] = 100,
    samples: Annotated[int, option("--samples N", "Noise samples for each fact.", min=1)] = 3,
    seed: Annotated[int, option("--seed N", "Seed of the noise.")] = 0,
    plot: Annotated[Path | None, option("--plot FILE", "Plot heat maps and bars as FILE.png and FILE.svg.")] = None,
    write_preset: Annotated[
        str | None, option("--write-preset NAME", "Save the suggested layers as a preset of this home.")
    ] = None,
    loading: Loading = AS_STORED,
) -> None:
    """Find where a model recalls its facts (causal tracing), and which layers to edit.

    Traces facts of the ledger or, if it has none, of the fixtures, that the model knows. Noise on the subject makes it
    lose a fact; the tables show what a hidden state, or the MLPs or attentions of a few blocks, restores by token and
    block. Tries no edit: `kbsync calibrate` does that.
    """
    from kbsync.sync.calibrate import trace as workflow

    how: dict[str, Any] = {"relations": relation, "facts": facts, "samples": samples, "seed": seed, "loading": loading}
    with progress(quiet=options.json) as report:
        found = workflow(options.home, model, write=write_preset, progress=report, **how)
    if plot is not None:
        from kbsync.report.explain import plot_trace

        for path in plot_trace(found, plot):
            tell(f"wrote {path}")
    emit(found, trace_view, as_json=options.json)


@command(app, "doctor", examples=("kbsync doctor --model practice", "kbsync doctor --model gpt-j --edits 10000"))
def doctor(
    options: Options,
    model: ModelOption,
    edits: Annotated[int, option("--edits N", "Number of edits to plan for.", min=1)] = 1000,
    loading: Loading = AS_STORED,
) -> None:
    """Check whether a model can be edited here: loading, memory, time, and its tokenizer on difficult subjects.

    Exits with 1 if something cannot work. Writes nothing.
    """
    from kbsync.sync.doctor import doctor as workflow

    with progress(quiet=options.json) as report:
        found = workflow(options.home, model, edits, loading=loading, progress=report)
    emit(found, views.diagnosis_view, as_json=options.json)
    if not found["works"]:
        raise typer.Exit(1)


mend_app = family("MEND, a baseline that must be trained for each model.")


@command(mend_app, "train", examples=("kbsync mend train --model practice --steps 500",))
def train(
    options: Options,
    model: ModelOption,
    steps: Annotated[int | None, option("--steps N", "Training steps.  [the model's, else 2000]", min=1)] = None,
    facts: Annotated[int, option("--facts N", "Number of known facts to train on.", min=10)] = 1000,
    loading: Loading = AS_STORED,
) -> None:
    """Train MEND's network for a model, on facts that the model knows.

    Uses the ledger's facts or, if it has none, the fixtures'. The network is kept in the home and serves only models
    with the same weights. The model itself does not change.
    """
    from kbsync.sync.practice import train_network

    with progress(quiet=options.json) as report:
        trained = train_network(options.home, model, facts, steps, loading=loading, progress=report)
    emit(trained, views.mend_view, as_json=options.json)


stats_app = family(
    "The covariances of a model's edited layers: `kbsync stats --model M --corpus C` collects them.", default="collect"
)

TokensOption = Annotated[
    int | None, option("--tokens N", "Tokens of the corpus to read.  [10 for each dimension]", min=1)
]
LengthOption = Annotated[
    int | None, option("--sequence-length N", "Tokens in each row of the packed corpus.  [512]", min=8)
]


@command(
    stats_app,
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
    emit(found, views.stats_view, as_json=options.json)


@command(stats_app, "export", examples=("kbsync stats export gpt-j.safetensors --model gpt-j",))
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
    emit(shared, views.exported_view, as_json=options.json)


@command(stats_app, "import", examples=("kbsync stats import gpt-j.safetensors --model gpt-j",))
def import_file(
    options: Options,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `kbsync stats export` wrote.")],
    model: Annotated[
        str | None, option("--model M", "Load this model and check that the covariances are its own.")
    ] = None,
    loading: Loading = AS_STORED,
) -> None:
    """Check a file of covariances and add them to the home; `kbsync apply` then needs no corpus for that model."""
    from kbsync.sync.stats import import_covariances

    emit(import_covariances(options.home, file, model, loading), views.imported_view, as_json=options.json)


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


practice_app = family()
practice_group = family("The practice model: a small GPT-J that knows the fixtures' facts.")
practice_app.add_typer(practice_group, name="practice")


@command(practice_group, "train", examples=("kbsync practice train --to my-practice-model",))
def train_practice(
    options: Options, folder: Annotated[Path, option("--to DIR", "A new folder for the model.")]
) -> None:
    """Train the practice model on the fixtures' earlier edition: under an hour on 2 cores."""
    from kbsync.sync.practice import train_practice as workflow

    with progress(quiet=options.json) as report:
        card = workflow(folder, report)
    emit(card, lambda made: table(("", ""), [(name, str(value)) for name, value in made.items()]), as_json=options.json)


@command(practice_group, "datasets", examples=("kbsync practice datasets --to fixtures",))
def datasets(options: Options, folder: Annotated[Path, option("--to DIR", "Folder for the two JSON files.")]) -> None:
    """Make data sets in CounterFact's and zsRE's forms from the fixtures' earlier edition."""
    from kbsync.sync.practice import write_datasets

    written = write_datasets(folder)
    emit(written, lambda made: table(("file", "records"), list(made.items())), as_json=options.json)


@command(practice_app, "demo", examples=("kbsync demo", "kbsync demo --model smollm2-135m"))
def demo(
    options: Options,
    model: ModelOption = "practice",
    limit: Annotated[int | None, option("--limit N", "Edit at most N facts.", min=1)] = None,
) -> None:
    """Show everything in a temporary home: pull, plan, apply, status, answers before and after, and a retraction.

    Teaches the practice model about 250 facts of the fixtures, and any other model about 30 that changed recently.
    """
    from kbsync.sync.demo import demo as workflow

    with progress(quiet=options.json) as report:
        told = workflow(model, report, limit=limit)
    emit(told, demo_view, as_json=options.json)
