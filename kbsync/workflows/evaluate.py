"""Eval: base and edited model side by side, on the ledger's active edits or on a data set as it is."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from kbsync.datasets import open_dataset
from kbsync.errors import SettingsError
from kbsync.ledger import BatchRow, Ledger, Metric
from kbsync.ledger.edits import record_figures
from kbsync.memit import edited
from kbsync.metrics import METRICS, TEXT_METRICS, Case, Figure, Values, evaluate, figures
from kbsync.workflows.choice import ModelChoice, choose_model
from kbsync.workflows.eval_cases import dataset_cases, ledger_cases
from kbsync.workflows.eval_text import HeldOut, held_out, text_figures
from kbsync.workflows.loading import AS_STORED, Loading
from kbsync.workflows.progress import Progress, silent
from kbsync.workflows.references import read_references
from kbsync.workflows.sampled_text import kept_text
from kbsync.workflows.state import current_deltas, known_model

__all__ = ["EvalOptions", "Evaluation", "RelationFigures", "run_eval"]

WITH_OLD = ("ES", "PS", "NS", "recall")
"""measured by default where the object before the edit is known"""
WITHOUT_OLD = ("efficacy", "paraphrase", "specificity")
RECORDED = "eval_"
"""before a metric's name in the ledger, so that it is not taken for the figure of the apply"""

Figures = dict[str, Figure]


@dataclass(frozen=True, slots=True)
class EvalOptions:
    """What to measure, and on what."""

    dataset: Path | None = None
    """None: the ledger's active edits"""
    metrics: tuple[str, ...] | None = None
    """names of the registry; None: those that need no generated text"""
    corpus: Path | None = None
    """held-out text for the metrics over text; None: the model's own corpus"""
    sample: int | None = None
    references: Path | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class RelationFigures:
    """The figures of one relation's cases."""

    cases: int
    base: Figures
    edited: Figures | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Base and edited model on the same cases; `edited` is None where the home has no edits of this model."""

    model: str
    measured: str
    """the data set's file, or ``ledger``"""
    cases: int
    unplaced: int
    """prompts of the data set that were left out, since they do not name their subject"""
    unmeasured: tuple[str, ...]
    """metrics that no case has prompts, an object before the edit, or references for"""
    base: Figures
    edited: Figures | None
    relations: dict[str, RelationFigures]
    batch: int | None
    """the batch that the figures are on record with"""
    text: HeldOut | None
    """what the metrics over text read; None where none was asked for"""


@dataclass(frozen=True, slots=True)
class Edits:
    """A home's edits of the model: the batch that made its state, and the delta [d, m] of each layer."""

    batch: BatchRow
    deltas: dict[int, torch.Tensor]


def run_eval(
    home: Path,
    model: str,
    options: EvalOptions,
    *,
    loading: Loading = AS_STORED,
    progress: Progress = silent,
) -> Evaluation:
    """Measure base and edited model; figures on the ledger's edits are recorded with the batch that is current.

    A data set is only measured: its records are not written into the model, and its figures not recorded, since they
    are not those of a batch's edits. Raises SettingsError for a metric that does not exist or has nothing to
    measure, DataSetError for a bad data set, LedgerError and ModelError as `apply` does.
    """
    check_names(options.metrics)
    references = read_references(options.references) if options.references else None
    dataset = open_dataset(options.dataset) if options.dataset else None
    # A data set is read whole before a model is loaded, so that bad records show at once.
    cases = dataset_cases(dataset, options.sample, options.seed, references) if dataset else []
    choice = kept_text(home, choose_model(model, home=home, loading=loading))
    if dataset is not None and not (home / "ledger.db").exists():
        return compare(choice, cases, None, options, dataset.unplaced, progress)
    with Ledger.open(home, create=False) as ledger:
        known = known_model(ledger, choice)
        batch = ledger.current_batch(known.key) if known else None
        edits = (
            Edits(batch, current_deltas(ledger, batch)) if batch and known and ledger.active_edits(known.key) else None
        )
        if dataset is not None:
            return compare(choice, cases, edits, options, dataset.unplaced, progress)
        if known is None or edits is None:
            raise SettingsError(f"{choice.name} has no edits in {home}: run `kbsync apply` first, or name a --dataset")
        cases = ledger_cases(ledger, home, choice, known, options.sample, options.seed, references, progress)
        evaluation = compare(choice, cases, edits, options, 0, progress)
        record_figures(ledger, edits.batch.id, whole_metrics(evaluation))
        return evaluation


def check_names(metrics: Sequence[str] | None) -> None:
    """Raise SettingsError for a name that is not in the registry."""
    names = METRICS.keys() | TEXT_METRICS.keys()
    unknown = [name for name in metrics or () if name not in names]
    if unknown:
        there = ", ".join((*METRICS, *TEXT_METRICS))
        raise SettingsError(f"there is no metric {', '.join(unknown)}; there are {there}")


def default_metrics(cases: Sequence[Case], *, text: bool = False) -> tuple[str, ...]:
    """Return the metrics that suit the cases and need no generated text; with held-out `text`, those over text too."""
    own = WITH_OLD if any(case.old for case in cases) else WITHOUT_OLD
    portability = ("portability",) if any(case.portability for case in cases) else ()
    return (*own, *portability, *(TEXT_METRICS if text else ()))


def compare(
    choice: ModelChoice,
    cases: Sequence[Case],
    edits: Edits | None,
    options: EvalOptions,
    unplaced: int,
    progress: Progress,
) -> Evaluation:
    """Measure the cases on the base and, where there are edits, on the edited model."""
    metrics = options.metrics or default_metrics(cases, text=bool(options.corpus or choice.corpus))
    of_text = [name for name in metrics if name in TEXT_METRICS]
    text = held_out(choice, options.corpus) if of_text else None

    def look(which: str) -> tuple[Mapping[str, Values], Figures]:
        def told(phase: str, done: int, total: int) -> None:
            progress(f"{phase}, {which} model", done, total)

        values = evaluate(choice.loaded, cases, [name for name in metrics if name in METRICS], options.seed, told)
        return values, text_figures(choice, text, of_text, options.seed, told) if text else {}

    base, base_text = look("base")
    unmeasured = tuple(name for name, column in base.items() if all(value is None for value in column))
    if unmeasured and len(unmeasured) == len(metrics):
        needs = "no case has what this needs: prompts, an object before the edit, or references"
        raise SettingsError(f"{', '.join(unmeasured)}: {needs}")
    with edited(choice.loaded, edits.deltas) if edits else nullcontext():
        after, after_text = look("edited") if edits else (None, {})
    places: dict[str, list[int]] = defaultdict(list)
    for place, case in enumerate(cases):
        places[case.request.relation].append(place)
    return Evaluation(
        model=choice.name,
        measured=options.dataset.name if options.dataset else "ledger",
        cases=len(cases),
        unplaced=unplaced,
        unmeasured=unmeasured,
        base=figures(base, options.seed) | base_text,
        edited=None if after is None else figures(after, options.seed) | after_text,
        relations={
            relation: RelationFigures(
                len(own),
                figures(part(base, own), options.seed),
                None if after is None else figures(part(after, own), options.seed),
            )
            for relation, own in sorted(places.items())
        },
        batch=None if options.dataset or edits is None else edits.batch.id,
        text=text,
    )


def part(values: Mapping[str, Values], places: Sequence[int]) -> dict[str, Values]:
    """Return the values of the cases at `places`."""
    return {name: [column[place] for place in places] for name, column in values.items()}


def whole_metrics(evaluation: Evaluation) -> list[Metric]:
    """Return the figures over all cases as the ledger keeps them."""
    return [
        Metric(f"{RECORDED}{name}", evaluation.base[name].mean, figure.mean)
        for name, figure in (evaluation.edited or {}).items()
    ]
