"""``kbsync ask``: the base model and the edited one, side by side."""

from typing import Annotated

import typer

from kbsync.cli.choices import ModelOption
from kbsync.cli.options import Options, command, family
from kbsync.report.console import emit
from kbsync.report.evaluate import asked_view
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
