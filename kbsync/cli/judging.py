"""What a result must keep to be made current: the options that `apply` and `bisect` share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from kbsync.cli.choices import TasksOption, keyword_options, listed
from kbsync.sync.canaries import Canary, read_canaries

CanariesOption = Annotated[
    Path | None,
    typer.Option("--canaries", metavar="FILE", help="Questions (YAML) that the model must answer to be made current."),
]
PerplexityOption = Annotated[
    float | None,
    typer.Option(
        "--max-perplexity-increase",
        metavar="PERCENT",
        min=0,
        help="Largest allowed rise of perplexity on the corpus.  [the preset's, else 10]",
    ),
]
SpecificityOption = Annotated[
    float | None,
    typer.Option(
        "--max-specificity-loss", metavar="POINTS", min=0, help="Largest allowed fall of NS.  [the preset's, else 10]"
    ),
]
WeightChangeOption = Annotated[
    float | None,
    typer.Option(
        "--max-weight-change",
        metavar="PERCENT",
        min=0,
        help="Largest allowed change of a layer, in percent of its norm.",
    ),
]
KnownLossOption = Annotated[
    float | None,
    typer.Option(
        "--max-known-loss",
        metavar="PERCENT",
        min=0,
        help="Most of the edited subjects' other facts, of those that the base model answers, that may be lost."
        "  [the preset's, else no bound]",
    ),
]
TaskLossOption = Annotated[
    float | None,
    typer.Option(
        "--max-task-loss",
        metavar="POINTS",
        min=0,
        help="Largest allowed fall of a task of --tasks.  [the preset's, else no bound]",
    ),
]

JUDGING_OPTIONS = keyword_options(
    canaries=CanariesOption,
    max_perplexity_increase=PerplexityOption,
    max_specificity_loss=SpecificityOption,
    max_weight_change=WeightChangeOption,
    max_known_loss=KnownLossOption,
    tasks=TasksOption,
    max_task_loss=TaskLossOption,
)


@dataclass(frozen=True, slots=True)
class Judging:
    """Questions that the model must answer, bounds of its figures, and tasks that one of them is about."""

    canaries: tuple[Canary, ...] = ()
    tasks: tuple[str, ...] = ()
    bounds: Mapping[str, float | None] = field(default_factory=dict)

    @classmethod
    def given(cls, canaries: Path | None, tasks: str | None, **bounds: float | None) -> "Judging":
        """Return what the values of `JUDGING_OPTIONS` say."""
        return cls(read_canaries(canaries), listed(tasks or ""), bounds)

    def as_options(self) -> dict[str, Any]:
        """Return it by the names that an `ApplyOptions` has."""
        return {"canaries": self.canaries, "tasks": self.tasks, "bounds": self.bounds}


NO_JUDGING = Judging()
