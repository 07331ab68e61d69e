"""``kbsync eval``, ``ask`` and ``explain``: what a model says, how well edits stand, and where one is lost."""

from pathlib import Path
from typing import Annotated

import typer

from kbsync.cli.choices import ModelOption, ReferencesOption, TasksOption, listed, option
from kbsync.cli.options import Options, command, family
from kbsync.files import writing
from kbsync.report.console import emit, emit_text, json_text, progress, tell
from kbsync.report.evaluate import asked_view, eval_json, eval_view
from kbsync.report.explain import explained_view, plot_explained
from kbsync.sync.home import AS_STORED, Loading

app = family()


DatasetOption = Annotated[
    Path | None,
    option("--dataset FILE", "A CounterFact, zsRE, KnowEdit, RippleEdits or MQuAKE file.  [the ledger's edits]"),
]
MetricsOption = Annotated[
    str | None,
    option(
        "--metrics NAMES",
        "ES,PS,NS (success), EM,PM,NM (magnitude), recall,paraphrase_recall, efficacy,paraphrase,specificity"
        " (zsRE), portability, said,said_paraphrase,said_question,said_chat (own words), choice,choice_lettered (among"
        " four), ripple_KIND (what follows from"
        " an edit), GE,RS (generated text), perplexity; around the ledger's edits worded_recall,"
        "kept_same,known_kept_same,kept_others,kept_unrelated,kl_same,kl_others,kl_unrelated.  [all that the cases"
        " have but magnitude and generated text; perplexity where there is a corpus]",
    ),
]
BesideOption = Annotated[
    str | None,
    option(
        "--beside NAMES",
        "What else answers the same questions: context (the base model told the fact), retrieval (told what BM25"
        " finds among all edits), 8bit,4bit (the edited model quantised), tuned (50 steps of fine-tuning on other"
        " text).",
    ),
]
WithdrawOption = Annotated[
    int | None,
    option(
        "--withdraw N",
        "Take N edits out again, by a solve without them and by an edit back on top: what is left of them.",
        min=1,
    ),
]
TaskLimitOption = Annotated[int | None, option("--task-limit N", "Ask the first N questions of each task.", min=1)]
ReportOption = Annotated[
    Path | None,
    option(
        "--report DIR",
        "Measure all that the page of a model shows, on 40 cases if --sample names no number, and write it there as"
        " eval.html, with eval.json beside it.",
    ),
]
QuickOption = Annotated[
    bool, option("--quick", "The page on 12 cases, with retrieval alone beside; less where options say so.")
]
HeldOutOption = Annotated[
    Path | None,
    option(
        "--corpus TEXT", "Held-out text for perplexity, a file or data set as for `apply`.  [the model's own corpus]"
    ),
]


@command(
    app,
    "eval",
    examples=(
        "kbsync eval --model practice",
        "kbsync eval --model smollm2-135m --beside retrieval,4bit",
        "kbsync eval --model smollm2-135m --report page",
        "kbsync eval --model gpt-j --dataset counterfact.json --metrics ES,PS,NS,GE,RS --sample 2000",
    ),
)
def evaluate(
    options: Options,
    model: ModelOption,
    dataset: DatasetOption = None,
    metrics: MetricsOption = None,
    sample: Annotated[int | None, option("--sample N", "Measure N cases, chosen at random by the seed.", min=1)] = None,
    references: ReferencesOption = None,
    corpus: HeldOutOption = None,
    beside: BesideOption = None,
    withdraw: WithdrawOption = None,
    tasks: TasksOption = None,
    task_limit: TaskLimitOption = None,
    report: ReportOption = None,
    quick: QuickOption = False,
    seed: Annotated[int, option("--seed N", "Seed of the sample, the generated text and the intervals.")] = 0,
    loading: Loading = AS_STORED,
) -> None:
    """Measure base and edited model side by side, overall with 95% intervals and for each relation.

    Measures the home's active edits, and records the figures with its current batch; or a data set, without writing it.
    Perplexity is measured on text that no edit is about.
    """
    from kbsync.sync.evaluate import EvalOptions, run_eval

    if dataset is not None:
        options.require_home()
    names = None if metrics is None else listed(metrics)
    wanted = EvalOptions(
        *(dataset, names, corpus, sample, references, seed),
        beside=listed(beside or ""),
        withdraw=withdraw,
        tasks=listed(tasks or ""),
        task_limit=task_limit,
        page="quick" if quick else "full" if report else None,
    )
    if report is not None:
        with writing(report):  # before the long work
            report.mkdir(parents=True, exist_ok=True)
    with progress(quiet=options.json, verbose=options.verbose) as told:
        found = run_eval(options.home, model, wanted, loading=loading, progress=told)
    if report is not None:
        from kbsync.report.evaluate import eval_page

        emit_text(eval_page(found), report / "eval.html")
        emit_text("".join(json_text(eval_json(found), ascii_only=False)), report / "eval.json")
    emit(found, eval_view, eval_json, as_json=options.json)


ask_app = family()


@command(
    ask_app,
    "ask",
    examples=(
        'kbsync ask --model practice "The capital of France is"',
        'kbsync ask --model gpt-j --base "Paris is in"',
    ),
)
def ask(
    options: Options,
    model: ModelOption,
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...", help="The beginning of a sentence.")],
    base: Annotated[bool, option("--base", "Ask the base model alone.")] = False,
    count: Annotated[int, option("--top N", "Number of answers.", min=1, max=50)] = 5,
    loading: Loading = AS_STORED,
) -> None:
    """Show a prompt's top answers and their probabilities, base model and edited model side by side."""
    from kbsync.sync.answers import ask as workflow

    answers = workflow(options.home, model, prompts, base_only=base, count=count, loading=loading)
    emit({"answers": answers}, asked_view, as_json=options.json)


explain_app = family()

EXPLAIN_EXAMPLES = (
    'kbsync explain "Alicante P17" --model practice',
    'kbsync explain "Q142 P36" --model smollm2-135m --plot explained.png',
)


@command(explain_app, "explain", examples=EXPLAIN_EXAMPLES)
def explain(
    options: Options,
    fact: Annotated[str, typer.Argument(metavar="FACT", help="Subject and relation, such as 'France P36'.")],
    model: ModelOption,
    plot: Annotated[Path | None, option("--plot FILE", "Plot the page as FILE.png and FILE.svg.")] = None,
    loading: Loading = AS_STORED,
) -> None:
    """Show where an edit holds and where it is lost, wording by wording, and what to do about it.

    Compares four answers: of the base model; with the target set by hand at the subject's last token; with the edited
    weights used at that token alone; of the edited model. Also shows how much of the way to the target each layer goes.
    """
    from kbsync.sync.explain import explain as workflow
    from kbsync.sync.history import parse_fact

    subject, relation = parse_fact(fact)
    found = workflow(options.home, subject, relation, model, loading=loading)
    if plot is not None:
        for path in plot_explained(found, plot):
            tell(f"wrote {path}")
    emit(found, explained_view, as_json=options.json)
