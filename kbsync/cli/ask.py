"""``kbsync ask``: base model and edited one, side by side; ``explain``: where an edit stands or is lost."""

from pathlib import Path
from typing import Annotated

import typer

from kbsync.cli.choices import ModelOption
from kbsync.cli.options import Options, command, family
from kbsync.report.console import emit, log_console, plain
from kbsync.report.evaluate import asked_view
from kbsync.report.explain import explained_view, plot_explained
from kbsync.sync.home import AS_STORED, Loading

app = family()


@command(
    app,
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
    base: Annotated[bool, typer.Option("--base", help="Ask the base model alone.")] = False,
    count: Annotated[int, typer.Option("--top", metavar="N", min=1, max=50, help="Number of answers.")] = 5,
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
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Plot the page as FILE.png and FILE.svg.")
    ] = None,
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
            log_console().print(plain(f"wrote {path}"))
    emit(found, explained_view, as_json=options.json)
