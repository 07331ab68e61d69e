"""``kbsync bench``: what kbsync measures of itself."""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from kbsync.cli.choices import CorpusOption, ModelOption, SetOption, parse_values
from kbsync.cli.options import DEFAULT_HOME, Options, command, family
from kbsync.report.bench_gpu import gpu_view
from kbsync.report.bench_groups import groups_view
from kbsync.report.bench_speed import scale_view, speed_view
from kbsync.report.console import emit, log_console
from kbsync.report.progress import progress
from kbsync.report.tables import plain
from kbsync.workflows.loading import AS_STORED, Loading

app = family()
group = family("Benchmarks: each runs both sides in one go and prints what it measured.")
app.add_typer(group, name="bench")

SeedOption = Annotated[int, typer.Option("--seed", metavar="N", help="Draw other facts.")]


@command(group, "sync", examples=("kbsync bench sync --model practice --syncs 30 --plot month.png",))
def sync(
    options: Options,
    model: ModelOption = "practice",
    syncs: Annotated[int, typer.Option("--syncs", metavar="N", min=2, help="Days, a sync each.")] = 30,
    seed: SeedOption = 0,
    setting: SetOption = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw the month: FILE with .png and with .svg.")
    ] = None,
    loading: Loading = AS_STORED,
) -> None:
    """Simulate a month of syncs, four ways: rebase, edits upon edits, incremental, and nothing.

    Each day adds facts, changes some and withdraws some; figures are over all active facts. Takes about an hour on 2
    cores.
    """
    from kbsync.benchmarks.sync import bench_sync
    from kbsync.report.bench_sync import plot_month, sync_view

    with progress(quiet=options.json) as report:
        done = bench_sync(model, syncs, seed=seed, values=parse_values(setting), loading=loading, progress=report)
    if plot is not None:
        for path in plot_month(done, plot):
            log_console().print(plain(f"wrote {path}"))
    emit(done, sync_view, as_json=options.json)


@command(
    group,
    "speed",
    examples=("kbsync bench speed --model practice --edits 300", "kbsync bench speed --model practice --scale"),
)
def speed(
    options: Options,
    model: ModelOption = "practice",
    edits: Annotated[
        int | None, typer.Option("--edits", metavar="N", min=2, help="Edits.  [300; with --scale at most 1000]")
    ] = None,
    scale: Annotated[
        bool, typer.Option("--scale", help="Time kbsync alone with 10, 30, 100, 300 and 1000 edits.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", min=1, help="Threads of torch.  [as torch chooses]")
    ] = None,
    seed: SeedOption = 0,
) -> None:
    """Time kbsync against MEMIT written plainly: same requests, in one process.

    The plain way takes requests one by one, through all blocks and tokens, with a pass over the text for each
    layer's covariance. The edits are facts that the model knows, each with another object.
    """
    from kbsync.benchmarks.speed import SCALE, bench_scale, bench_speed

    with progress(quiet=options.json) as report:
        if scale:
            grown = bench_scale(model, edits or SCALE[-1], threads=threads, seed=seed, progress=report)
        else:
            measured = bench_speed(model, edits or 300, threads=threads, seed=seed, progress=report)
    if scale:
        emit(grown, scale_view, as_json=options.json)
    else:
        emit(measured, speed_view, as_json=options.json)


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
    config: Annotated[str, typer.Option("--config", metavar="C", help="gpt-j, llama-3-8b or tiny.")],
    edits: Annotated[int, typer.Option("--edits", metavar="N", min=2, help="Edits.")] = 10_000,
    dtype: Annotated[
        str | None,
        typer.Option("--dtype", metavar="T", help="float32, float16 or bfloat16.  [bfloat16; float32 on a CPU]"),
    ] = None,
    memory_cap: Annotated[
        float | None, typer.Option("--memory-cap", metavar="GB", min=1, help="Use no more of a CUDA device's memory.")
    ] = None,
    tokens: Annotated[int, typer.Option("--tokens", metavar="N", min=1, help="Tokens of the covariance.")] = 2_000_000,
    steps: Annotated[int, typer.Option("--steps", metavar="N", min=1, help="Steps of each target.")] = 25,
) -> None:
    """Time kbsync on a model of real size, with random weights made on the best device there is.

    Requests have CounterFact's lengths and take all steps. With fewer than 10000 edits the time of 10000 is projected.
    """
    from kbsync.benchmarks.gpu import bench_gpu

    with progress(quiet=options.json) as report:
        measured = bench_gpu(
            config, edits, steps=steps, tokens=tokens, dtype=dtype, memory_cap=memory_cap, progress=report
        )
    emit(measured, gpu_view, as_json=options.json)


@command(group, "groups", examples=("kbsync bench groups --model practice",))
def groups(
    options: Options,
    model: ModelOption,
    subjects: Annotated[int, typer.Option("--subjects", metavar="N", min=1, help="Subjects of each size.")] = 40,
    seed: SeedOption = 0,
    setting: SetOption = None,
    corpus: CorpusOption = None,
) -> None:
    """Edit 1, 2, 4 and 8 objects of each subject, apart and as groups, with as many single edits beside them.

    The edits are new objects for facts of the fixtures that the model knows. 40 subjects take about ten minutes.
    """
    from kbsync.benchmarks.groups import bench_groups

    with progress(quiet=options.json) as report:
        measured = bench_groups(model, subjects, seed, parse_values(setting), corpus, report)
    emit(measured, groups_view, as_json=options.json)


@command(group, "ledger", examples=("kbsync bench ledger --facts 1000000 --edits 10000 --home million",))
def ledger(
    options: Options,
    facts: Annotated[int, typer.Option("--facts", metavar="N", min=10, help="Facts to make up.")] = 100_000,
    edits: Annotated[int, typer.Option("--edits", metavar="N", min=1, help="Edits to record.")] = 10_000,
    seed: SeedOption = 0,
) -> None:
    """Take time and memory of pull, plan and status over made-up facts.

    An RDF file is made and pulled, edits are recorded (no model is edited), 1% of the file changes and it is pulled
    again. Each command is a process of its own. Without --home all of it is removed afterwards.
    """
    from kbsync.benchmarks.ledger import bench_ledger
    from kbsync.report.bench_ledger import ledger_view

    with ExitStack() as after, progress(quiet=options.json) as report:
        home = options.home
        if home == DEFAULT_HOME:
            home = Path(after.enter_context(tempfile.TemporaryDirectory(prefix="kbsync-")))
        done = bench_ledger(home, facts, edits, seed=seed, progress=report)
    emit(done, ledger_view, as_json=options.json)


@command(group, "pull", examples=("kbsync bench pull --facts 100000",))
def pull(
    options: Options,
    facts: Annotated[int, typer.Option("--facts", metavar="N", min=5, help="Facts to make up.")] = 100_000,
    seed: SeedOption = 0,
) -> None:
    """Time a pull over HTTP beside a bare SPARQLWrapper loop over the same pages.

    Made-up facts are served on this machine; the pull records them, the loop only parses the answers.
    """
    from kbsync.benchmarks.pull import bench_pull
    from kbsync.report.bench_pull import pull_view

    with progress(quiet=options.json) as report:
        done = bench_pull(facts, seed=seed, progress=report)
    emit(done, pull_view, as_json=options.json)


@command(group, "dump", examples=("kbsync bench dump --triples 2000000",))
def dump(
    options: Options,
    triples: Annotated[
        int, typer.Option("--triples", metavar="N", min=500_000, help="Statements to make up.")
    ] = 2_000_000,
) -> None:
    """Time the reading of a dump beside Oxigraph's load of the same file.

    The dump is made up: N-Triples, about 100 MB a million. kbsync reads two relations from it; Oxigraph loads all of
    it, into memory and onto disk. Each is a process of its own, so memory is shown too.
    """
    from kbsync.benchmarks.dump import bench_dump
    from kbsync.report.bench_dump import dump_view

    with progress(quiet=options.json) as report:
        done = bench_dump(triples, progress=report)
    emit(done, dump_view, as_json=options.json)


@command(
    group,
    "paper",
    examples=(
        "kbsync bench paper --model practice --quick",
        "kbsync bench paper scaling counterfact --model gpt-j --data counterfact.json --zsre zsre.json --edits 10000",
    ),
)
def paper(
    options: Options,
    experiments: Annotated[
        list[str] | None, typer.Argument(metavar="[EXPERIMENT]...", help="zsre, counterfact, scaling, ...  [all]")
    ] = None,
    model: ModelOption = "practice",
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FILE", help="In CounterFact's form.  [the practice data set]")
    ] = None,
    zsre: Annotated[
        Path | None, typer.Option("--zsre", metavar="FILE", help="In zsRE's form.  [the practice data set]")
    ] = None,
    edits: Annotated[
        int | None, typer.Option("--edits", metavar="N", min=2, help="Most edits.  [1000, and 200 of zsRE]")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small numbers everywhere: minutes.")] = False,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Where the results go.")] = Path("paper"),
    editors: Annotated[
        str | None, typer.Option("--editors", metavar="LIST", help="Such as memit,rome,none.  [all]")
    ] = None,
    seed: SeedOption = 0,
    setting: SetOption = None,
    corpus: CorpusOption = None,
    loading: Loading = AS_STORED,
) -> None:
    """Make the MEMIT paper's tables and figures on a model, with the rivals beside it.

    Writes results.json, a CSV file and figures for each experiment, and index.html with all of it. A run that was
    broken off goes on with what is missing. MEND's network is trained, once for model and data, on known facts about
    subjects that the data does not edit; a quick run without such a network leaves MEND out, unless --editors names it.
    """
    from kbsync.benchmarks.paper.bench import PaperData
    from kbsync.benchmarks.paper.data import default_data, default_zsre
    from kbsync.benchmarks.paper.options import PaperOptions
    from kbsync.benchmarks.paper.run import bench_paper
    from kbsync.report.bench_paper import paper_view, write_page

    asked = PaperOptions(
        experiments=tuple(experiments or ()),
        editors=tuple(name.strip() for name in editors.split(",")) if editors else (),
        data=PaperData(data or default_data(), zsre or default_zsre(), seed),
        folder=to,
        edits=edits,
        quick=quick,
        values=parse_values(setting),
        corpus=corpus,
    )
    with progress(quiet=options.json) as report:
        done = bench_paper(options.home, model, asked, loading, report)
    log_console().print(plain(f"wrote {write_page(done)}"))
    emit(done, paper_view, as_json=options.json)
