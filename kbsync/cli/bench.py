"""``kbsync bench``: what kbsync measures of itself."""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from kbsync.cli.choices import CorpusOption, ModelOption, ReferencesOption, SetOption, listed, option, parse_values
from kbsync.cli.options import DEFAULT_HOME, Options, command, family
from kbsync.report.console import emit, progress, tell
from kbsync.sync.home import AS_STORED, Loading

app = family()
group = family("Benchmarks: each measures kbsync and what it is compared with in one run.")
app.add_typer(group, name="bench")

SeedOption = Annotated[int, option("--seed N", "Seed of the random choice of facts.")]
DatasetOption = Annotated[
    Path | None, option("--dataset FILE", "Edits in CounterFact's form.  [the fixtures' facts that the model knows]")
]

ExperimentsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[EXPERIMENT]...", help="zsre, counterfact, scaling, ...  [all]")
]
CounterFactOption = Annotated[Path | None, option("--dataset FILE", "In CounterFact's form.  [the practice data set]")]
ZsreOption = Annotated[
    Path | None, option("--zsre FILE", "In zsRE's form.  [the practice data set; none beside --dataset]")
]
TextOption = Annotated[
    Path | None, option("--text FILE", "Text for perplexity.  [what the covariance left of its own]")
]


@command(
    group,
    "sync",
    examples=(
        "kbsync bench sync --model practice --syncs 30 --plot month.png",
        "kbsync bench sync --model smollm2-135m --dataset counterfact.json --syncs 10 --daily 20",
    ),
)
def sync(
    options: Options,
    model: ModelOption = "practice",
    dataset: DatasetOption = None,
    syncs: Annotated[int, option("--syncs N", "Number of days, with one sync each.", min=2)] = 30,
    daily: Annotated[int, option("--daily N", "Facts for each day.", min=1)] = 22,
    cases: Annotated[
        int | None, option("--cases N", "Measure at most N of a day's active facts, on N lines of text.", min=1)
    ] = None,
    seed: SeedOption = 0,
    setting: SetOption = None,
    corpus: CorpusOption = None,
    plot: Annotated[Path | None, option("--plot FILE", "Plot all days as FILE.png and FILE.svg.")] = None,
    loading: Loading = AS_STORED,
) -> None:
    """Sync many days in four ways: rebase, edits upon edits, incremental, and nothing.

    Of each day's facts about 60% are new, 30% are changes and 10% are withdrawals. Figures cover all active facts,
    or a sample of them. Thirty days on the practice model take about an hour on 2 cores.
    """
    from kbsync.benchmarks.sync import bench_sync, plot_sync, sync_view

    with progress(quiet=options.json) as report:
        done = bench_sync(
            options.home,
            model,
            syncs,
            daily=daily,
            cases=cases,
            dataset=dataset,
            seed=seed,
            values=parse_values(setting),
            corpus=corpus,
            loading=loading,
            progress=report,
        )
    if plot is not None:
        for path in plot_sync(done, plot):
            tell(f"wrote {path}")
    emit(done, sync_view, as_json=options.json)


@command(
    group,
    "speed",
    examples=(
        "kbsync bench speed --model practice --edits 300",
        "kbsync bench speed --model smollm2-135m --dataset counterfact.json --edits 10 --set published=true",
        "kbsync bench speed --model practice --scale",
    ),
)
def speed(
    options: Options,
    model: ModelOption = "practice",
    dataset: DatasetOption = None,
    edits: Annotated[
        int | None, option("--edits N", "Number of edits.  [300; with --scale at most 1000]", min=2)
    ] = None,
    scale: Annotated[bool, option("--scale", "Time kbsync alone with 10, 30, 100, 300 and 1000 edits.")] = False,
    threads: Annotated[int | None, option("--threads N", "Threads for torch.  [torch's choice]", min=1)] = None,
    seed: SeedOption = 0,
    setting: SetOption = None,
    corpus: CorpusOption = None,
) -> None:
    """Time kbsync and a plain implementation of MEMIT on the same requests in one process, and print the ratios.

    The plain implementation takes requests one at a time, through all blocks and tokens, with a pass over the text for
    each layer's covariance. Without --corpus, a model that has none uses the practice model's text.
    """
    from kbsync.benchmarks.speed import SCALE, bench_scale, bench_speed, scale_view, speed_view

    bench: Any = bench_scale if scale else bench_speed
    view: Any = scale_view if scale else speed_view
    given = {"threads": threads, "dataset": dataset, "corpus": corpus, "seed": seed, "values": parse_values(setting)}
    with progress(quiet=options.json) as report:
        measured = bench(model, edits or (SCALE[-1] if scale else 300), progress=report, **given)
    emit(measured, view, as_json=options.json)


@command(
    group,
    "gpu",
    examples=(
        "kbsync bench gpu --config gpt-j --edits 10000",
        "kbsync bench gpu --config llama-3-8b --edits 1000 --memory-cap 24",
    ),
)
def gpu(
    options: Options,
    config: Annotated[str, option("--config C", "gpt-j, llama-3-8b or tiny.")],
    edits: Annotated[int, option("--edits N", "Edits.", min=2)] = 10_000,
    dtype: Annotated[
        str | None, option("--dtype T", "float32, float16 or bfloat16.  [bfloat16; float32 on a CPU]")
    ] = None,
    memory_cap: Annotated[
        float | None, option("--memory-cap GB", "Use at most this much of a CUDA device's memory.", min=1)
    ] = None,
    tokens: Annotated[int, option("--tokens N", "Tokens for the covariance.", min=1)] = 2_000_000,
    steps: Annotated[int, option("--steps N", "Steps for each target.", min=1)] = 25,
) -> None:
    """Time kbsync on a model of real size, with random weights, on the best device.

    Requests have CounterFact's lengths and take all steps. With fewer than 10000 edits, 10000 are projected.
    """
    from kbsync.benchmarks.gpu import bench_gpu, gpu_view

    with progress(quiet=options.json) as report:
        measured = bench_gpu(
            config, edits, steps=steps, tokens=tokens, dtype=dtype, memory_cap=memory_cap, progress=report
        )
    emit(measured, gpu_view, as_json=options.json)


@command(group, "groups", examples=("kbsync bench groups --model practice --subjects 40",))
def groups(
    options: Options,
    model: ModelOption,
    dataset: DatasetOption = None,
    subjects: Annotated[int, option("--subjects N", "Subjects for each number of objects.", min=1)] = 40,
    seed: SeedOption = 0,
    setting: SetOption = None,
    corpus: CorpusOption = None,
) -> None:
    """Edit 1, 2, 4 and 8 objects of each subject, separately and as groups, and compare with as many single edits.

    On the practice model, 40 subjects take about ten minutes.
    """
    from kbsync.benchmarks.groups import bench_groups, groups_view

    with progress(quiet=options.json) as report:
        measured = bench_groups(
            options.home,
            model,
            subjects,
            dataset=dataset,
            seed=seed,
            values=parse_values(setting),
            corpus=corpus,
            progress=report,
        )
    emit(measured, groups_view, as_json=options.json)


@command(
    group,
    "ledger",
    examples=(
        "kbsync bench ledger --facts 1000000 --edits 10000 --home million",
        "kbsync bench ledger --facts 10000 --facts 100000 --facts 1000000",
    ),
)
def ledger(
    options: Options,
    facts: Annotated[
        list[int] | None, option("--facts N", "Facts to make up; again for a curve.  [100000]", min=10)
    ] = None,
    edits: Annotated[int, option("--edits N", "Number of edits to record.", min=1)] = 10_000,
    seed: SeedOption = 0,
) -> None:
    """Take time and memory of pull, plan, status and verify over made-up facts.

    An RDF file is made and pulled, edits are recorded (no model is edited), 1% of the file changes and it is pulled
    again. Each command is a process of its own. Without --home all of it is removed afterwards.
    """
    from kbsync.benchmarks.ledger import bench_ledger, curve_view, ledger_view

    sizes = facts or [100_000]
    with ExitStack() as after, progress(quiet=options.json) as report:
        home = options.home
        if home == DEFAULT_HOME:
            home = Path(after.enter_context(tempfile.TemporaryDirectory(prefix="kbsync-")))
        if len(sizes) == 1:
            done = bench_ledger(home, sizes[0], edits, seed=seed, progress=report)
            emit(done, ledger_view, as_json=options.json)
            return
        curve = [bench_ledger(home / str(n), n, min(edits, n // 2), seed=seed, progress=report) for n in sizes]
    emit({"curve": curve}, curve_view, as_json=options.json)


@command(group, "pull", examples=("kbsync bench pull --facts 100000",))
def pull(
    options: Options,
    facts: Annotated[int, option("--facts N", "Number of facts to generate.", min=5)] = 100_000,
    seed: SeedOption = 0,
) -> None:
    """Time a pull over HTTP and a bare SPARQLWrapper loop over the same pages.

    A server on this machine has generated facts; the pull records them, the loop only parses the answers.
    """
    from kbsync.benchmarks.pull import bench_pull, pull_view

    with progress(quiet=options.json) as report:
        done = bench_pull(facts, seed=seed, progress=report)
    emit(done, pull_view, as_json=options.json)


@command(group, "dump", examples=("kbsync bench dump --triples 2000000",))
def dump(
    options: Options,
    triples: Annotated[int, option("--triples N", "Number of statements to generate.", min=500_000)] = 2_000_000,
) -> None:
    """Time how kbsync reads a dump, and how Oxigraph loads the same file.

    The dump is generated: N-Triples, about 100 MB per million. kbsync reads two relations from it; Oxigraph loads
    all of it, into memory and onto disk. Each runs in its own process, so that memory can be compared.
    """
    from kbsync.benchmarks.pull import bench_dump, dump_view

    with progress(quiet=options.json) as report:
        done = bench_dump(triples, progress=report)
    emit(done, dump_view, as_json=options.json)


@command(
    group,
    "paper",
    examples=(
        "kbsync bench paper --model practice --size quick",
        "kbsync bench paper counterfact --model smollm2-135m --dataset counterfact.json --edits 300 --without mend",
        "kbsync bench paper --model gpt-j --dataset counterfact.json --zsre zsre.json --size paper",
    ),
)
def paper(
    options: Options,
    experiments: ExperimentsArgument = None,
    model: ModelOption = "practice",
    dataset: CounterFactOption = None,
    zsre: ZsreOption = None,
    size: Annotated[str, option("--size S", "quick, standard or paper.")] = "standard",
    edits: Annotated[int | None, option("--edits N", "At most N edits in an experiment.", min=2)] = None,
    cases: Annotated[int | None, option("--cases N", "Measure at most N of the edited cases.", min=1)] = None,
    categories: Annotated[
        int | None, option("--categories N", "Number of relations to edit separately.", min=1)
    ] = None,
    noises: Annotated[int | None, option("--noises N", "Noise samples for each traced fact.", min=1)] = None,
    to: Annotated[Path, option("--to DIR", "Folder for the results.")] = Path("paper"),
    editors: Annotated[str | None, option("--editors LIST", "Such as memit,published,none.  [all]")] = None,
    without: Annotated[str | None, option("--without LIST", "Leave these editors out, such as mend.")] = None,
    seed: SeedOption = 0,
    setting: SetOption = None,
    corpus: CorpusOption = None,
    text: TextOption = None,
    references: ReferencesOption = None,
    loading: Loading = AS_STORED,
) -> None:
    """Make the MEMIT paper's tables and figures on a model, baselines included.

    The row `published` is MEMIT as in the paper: one sweep, one wording, and none of kbsync's additions. --set also
    takes the settings of one row, as in --set ft.lr=0.0001 or --set published.steps=25. Writes results.json, a CSV file
    and figures for each experiment, and index.html with everything. An interrupted run goes on with what is missing.
    MEND's network is trained once for each model and data set, on known facts about subjects that the data does not
    edit; --size quick leaves MEND out if there is no such network, unless --editors names it.
    """
    from kbsync.benchmarks.paper.data import open_data, sizes_of
    from kbsync.benchmarks.paper.run import bench_paper, paper_view, write_page

    with progress(quiet=options.json) as report:
        done = bench_paper(
            options.home,
            model,
            open_data(dataset, zsre, seed, references),
            to,
            sizes_of(size, edits, cases, categories, noises),
            experiments=experiments or (),
            editors=listed(editors or ""),
            without=listed(without or ""),
            corpus=corpus,
            text=text,
            quick=size == "quick",
            values=parse_values(setting),
            loading=loading,
            progress=report,
        )
    tell(f"wrote {write_page(done)}")
    emit(done, paper_view, as_json=options.json)
