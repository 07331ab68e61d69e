"""A month of syncs, four ways on the same days: kbsync's rebase, edits upon edits, the incremental way, and nothing.

- rebase: each day solves for all active facts anew, from the base weights; targets are found on the base model once.
- stacked: MEMIT on the weights that the day before left, for the day's requests, as other tools do. Such a tool takes
  a fact back by editing the base model's answer in again, so a withdrawn fact is a request here.
- incremental: the same, with the keys of all earlier edits added to the covariance term (lambda C + K_p K_p^T), as
  later papers have it.
- none: the base model.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch

from kbsync.benchmarks.known import known_facts
from kbsync.benchmarks.month import Day, month
from kbsync.errors import SettingsError
from kbsync.facts import EditRequest
from kbsync.memit import (
    MemitSettings,
    RequestGroup,
    collect_covariances,
    edited,
    group_requests,
    optimise_targets,
    sample_contexts,
    spread,
)
from kbsync.memit.subject_states import SubjectStates
from kbsync.metrics import measure, perplexity, summary
from kbsync.metrics.counterfacts import Counterfact, cases
from kbsync.models import LoadedModel, greedy_answers
from kbsync.practice import corpus_text
from kbsync.workflows.choice import ModelChoice, choose_model
from kbsync.workflows.corpus import documents
from kbsync.workflows.loading import AS_STORED, Loading
from kbsync.workflows.progress import Progress, silent

__all__ = ["WAYS", "Figures", "SyncBench", "SyncDay", "bench_sync", "run_month"]

WAYS = ("rebase", "stacked", "incremental", "none")
PERPLEXITY_LINES = 200

Deltas = dict[int, torch.Tensor]
"""layer -> change of W_out from the base, [d, m]"""


@dataclass(frozen=True, slots=True)
class Figures:
    """One way's state at the end of a day, over ALL active facts; percentages but for perplexity."""

    S: float
    ES: float
    PS: float
    NS: float
    recall: float
    paraphrase_recall: float
    withdrawn_restored: float | None
    """facts withdrawn so far to which the model gives the base model's answer again; None while there are none"""
    perplexity: float
    """on sentences about subjects that no day edits"""
    delta_norm: float
    """Frobenius norm of the whole change of weights"""


@dataclass(frozen=True, slots=True)
class SyncDay:
    """One day, all ways; `one_batch` is how far rebase is from one batch of the day's facts, relative to its delta."""

    day: int
    active: int
    requests: int
    withdrawn: int
    one_batch: float
    ways: dict[str, Figures]


@dataclass(frozen=True, slots=True)
class SyncBench:
    """The month."""

    model: str
    requests: int
    changes: int
    withdrawals: int
    settings: dict[str, Any]
    days: list[SyncDay] = field(default_factory=list)


class Way(Protocol):
    """A way to keep a model in step."""

    deltas: Deltas

    def sync(self, day: Day) -> None:
        """Bring `deltas` from the day before to this day."""


class Rebase:
    """All active facts from the base weights, with targets kept by group."""

    def __init__(self, bench: "Bench") -> None:
        self.bench = bench
        self.targets: dict[str, torch.Tensor] = {}
        self.deltas: Deltas = {}

    def sync(self, day: Day) -> None:
        """Find the targets that are new, and solve for all."""
        groups = self.bench.groups([edit.request for edit in day.active])
        self.bench.find(groups, self.targets)
        self.deltas = self.bench.rebased(groups, self.targets)


class Stacked:
    """Each day's requests upon the weights of the day before; `incremental` adds the keys of earlier edits."""

    def __init__(self, bench: "Bench", *, incremental: bool) -> None:
        self.bench, self.incremental = bench, incremental
        self.settings = replace(bench.settings, sweeps=1, emphasis=1.0, rest_weight=0.0)
        self.deltas: Deltas = {}
        self.moments: Deltas = {}
        """sum of k k^T over earlier edits, by layer, [m, m]"""

    def sync(self, day: Day) -> None:
        """Edit the day's requests, and the base's answers of withdrawn facts, into the present weights."""
        bench = self.bench
        back = [replace(edit.request, target=edit.old) for edit in day.withdrawn]
        groups = bench.groups([*day.requests, *back])
        with edited(bench.loaded, self.deltas):
            found = optimise_targets(bench.loaded, groups, bench.contexts, self.settings)
            z = torch.stack([target.z for target in found])
            covariances = {
                layer: value + self.moments[layer] / self.settings.lambda_ if layer in self.moments else value
                for layer, value in bench.covariances.items()
            }
            change = spread(bench.loaded, groups, bench.contexts, z, covariances, self.settings)
        for layer, delta in change.items():
            self.deltas[layer] = self.deltas.get(layer, 0) + delta.matrix()
        if self.incremental:
            self.remember(groups)

    def remember(self, groups: Sequence[RequestGroup]) -> None:
        """Add the keys of the day's edits, as they are in the edited model."""
        bench, layers = self.bench, self.settings.layers
        with torch.no_grad(), edited(bench.loaded, self.deltas):
            states, reached = SubjectStates(bench.loaded, groups, bench.contexts), 0
            for layer in layers:
                if layer > reached:
                    states.advance(reached, layer - 1)
                    reached = layer
                keys, _ = states.keys_and_hidden(layer, layers[-1])
                self.moments[layer] = self.moments.get(layer, 0) + keys @ keys.T


class Nothing:
    """The base model."""

    def __init__(self) -> None:
        self.deltas: Deltas = {}

    def sync(self, day: Day) -> None:
        """Do nothing."""


class Bench:
    """What all ways share: the model, its covariances and contexts, and how a state is measured."""

    def __init__(
        self,
        loaded: LoadedModel,
        settings: MemitSettings,
        lines: Iterable[str],
        days: Sequence[Day],
        quiet: list[str],
        untouched: Sequence[EditRequest],
        progress: Progress,
    ) -> None:
        self.loaded, self.settings, self.progress = loaded, settings, progress
        self.contexts = sample_contexts(loaded, settings)
        self.covariances, _ = collect_covariances(loaded, lines, settings, progress)
        self.quiet, self.untouched = quiet, untouched
        asked = {prompt(edit): None for day in days for edit in day.withdrawn}
        self.base_says = dict(zip(asked, greedy_answers(loaded, list(asked)), strict=True))

    def groups(self, requests: Sequence[EditRequest]) -> list[RequestGroup]:
        """Return the requests as groups."""
        return group_requests(self.loaded, requests)

    def find(self, groups: Sequence[RequestGroup], targets: dict[str, torch.Tensor]) -> None:
        """Search the targets that `targets` lacks, on the base model, and put them in."""
        missing = [group for group in groups if group.id not in targets]
        found = optimise_targets(self.loaded, missing, self.contexts, self.settings)
        targets |= {group.id: target.z for group, target in zip(missing, found, strict=True)}

    def rebased(self, groups: Sequence[RequestGroup], targets: Mapping[str, torch.Tensor]) -> Deltas:
        """Return the deltas that hold all groups of a day, from the base."""
        z = torch.stack([targets[group.id] for group in groups])
        found = spread(self.loaded, groups, self.contexts, z, self.covariances, self.settings)
        return {layer: delta.matrix() for layer, delta in found.items()}

    def figures(self, day: Day, deltas: Deltas, withdrawn: Sequence[Counterfact]) -> Figures:
        """Measure one way's state."""
        with edited(self.loaded, deltas):
            found = summary(measure(self.loaded, cases(day.active, self.untouched)))
            prompts = [prompt(edit) for edit in withdrawn]
            said = greedy_answers(self.loaded, prompts)
            back = sum(answer == self.base_says[asked] for asked, answer in zip(prompts, said, strict=True))
            ordinary = perplexity(self.loaded, self.quiet, self.settings.sequence_length)
        norm = sum(float(delta.double().norm()) ** 2 for delta in deltas.values()) ** 0.5
        return Figures(
            **found, withdrawn_restored=100 * back / len(said) if said else None, perplexity=ordinary, delta_norm=norm
        )


def prompt(edit: Counterfact) -> str:
    """Return the edit prompt with its subject."""
    return edit.request.prompt.format(edit.request.subject)


def bench_sync(
    model: str,
    syncs: int,
    *,
    seed: int = 0,
    values: Mapping[str, Any] | None = None,
    loading: Loading = AS_STORED,
    progress: Progress = silent,
    on_day: Callable[[SyncDay], None] = lambda day: None,
) -> SyncBench:
    """Run a month of `syncs` days on the fixtures' facts; `on_day` gets each day as it ends.

    Raises SettingsError where the model knows too few of the fixtures' facts, or has no corpus.
    """
    choice = choose_model(model, values, loading=loading)
    known = known_facts(choice.loaded, progress)
    return run_month(choice, known, month(known, syncs, seed), progress, on_day)


def run_month(
    choice: ModelChoice,
    known: Sequence[EditRequest],
    days: Sequence[Day],
    progress: Progress = silent,
    on_day: Callable[[SyncDay], None] = lambda day: None,
) -> SyncBench:
    """Run given days; `known` are the facts that neighbours and ordinary sentences are drawn from."""
    loaded, settings = choice.loaded, choice.settings
    touched = {edit.request.subject for day in days for edit in day.added}
    untouched = [fact for fact in known if fact.subject not in touched and fact.target not in touched]
    quiet = corpus_text(untouched).splitlines()[:PERPLEXITY_LINES]
    if choice.corpus is None:
        raise SettingsError(f"{choice.name} has no corpus: name a text for its covariance, such as --corpus text.txt")
    bench = Bench(loaded, settings, documents(choice.corpus), days, quiet, untouched, progress)
    one_batch: dict[str, torch.Tensor] = {}
    bench.find(unique(bench, days), one_batch)
    ways: dict[str, Way] = {
        "rebase": Rebase(bench),
        "stacked": Stacked(bench, incremental=False),
        "incremental": Stacked(bench, incremental=True),
        "none": Nothing(),
    }
    done = SyncBench(
        choice.name,
        sum(len(day.requests) for day in days),
        sum(len(day.changed) for day in days),
        sum(len(day.withdrawn) for day in days),
        settings.as_dict(),
    )
    withdrawn: list[Counterfact] = []
    for day in days:
        withdrawn += day.withdrawn
        figures = {}
        for number, (name, way) in enumerate(ways.items()):
            progress("days and ways", (day.number - 1) * len(ways) + number, len(days) * len(ways))
            way.sync(day)
            figures[name] = bench.figures(day, way.deltas, withdrawn)
        groups = bench.groups([edit.request for edit in day.active])
        apart = difference(ways["rebase"].deltas, bench.rebased(groups, one_batch))
        done.days.append(SyncDay(day.number, len(day.active), len(day.requests), len(day.withdrawn), apart, figures))
        on_day(done.days[-1])
    progress("days and ways", len(days) * len(ways), len(days) * len(ways))
    return done


def unique(bench: Bench, days: Sequence[Day]) -> list[RequestGroup]:
    """Return every group that some day has, once."""
    groups = [group for day in days for group in bench.groups([edit.request for edit in day.active])]
    return list({group.id: group for group in groups}.values())


def difference(left: Deltas, right: Deltas) -> float:
    """Return the largest relative difference of a layer's deltas."""
    return max(float((left[layer] - right[layer]).norm() / right[layer].norm()) for layer in right)
