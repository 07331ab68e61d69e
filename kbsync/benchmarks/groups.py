"""``kbsync bench groups``: several objects to edit for one subject, solved apart and as groups."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from kbsync.benchmarks.group_edits import group_edits, new_relations, single_edits
from kbsync.benchmarks.known import known_facts
from kbsync.errors import SettingsError
from kbsync.facts import EditRequest
from kbsync.memit import (
    RequestGroup,
    collect_covariances,
    edited,
    group_requests,
    optimise_targets,
    sample_contexts,
    spread,
)
from kbsync.metrics import measure, perplexity, summary
from kbsync.metrics.counterfacts import Counterfact, cases
from kbsync.models import greedy_answers
from kbsync.workflows.choice import ModelChoice, choose_model
from kbsync.workflows.corpus import documents
from kbsync.workflows.progress import Progress, silent

__all__ = ["OBJECTS", "GroupsBench", "SizeFigures", "bench_groups"]

OBJECTS = (1, 2, 4, 8)
"""objects to edit for each subject"""
PERPLEXITY_LINES = 200


@dataclass(frozen=True, slots=True)
class SizeFigures:
    """The figures for one number of objects to a subject."""

    objects: int
    subjects: int
    edits: int
    new_relations: int
    """edits of a relation that the subject has no known fact of: no subject has enough others"""
    ways: dict[str, dict[str, float]]
    """``apart``, ``groups``, and ``single``, as many edits of a subject each; percentages, but for perplexity and loss,
    the mean of the whole loss that the search for the targets ends with"""


@dataclass(frozen=True, slots=True)
class GroupsBench:
    """What `bench_groups` measured; `known` facts of the fixtures are what the base model recalls."""

    model: str
    seed: int
    known: int
    settings: dict[str, Any]
    base: dict[str, float]
    sizes: list[SizeFigures]


def bench_groups(
    model: str,
    subjects: int,
    seed: int = 0,
    values: Mapping[str, Any] | None = None,
    corpus: Path | None = None,
    progress: Progress = silent,
) -> GroupsBench:
    """Measure 1, 2, 4 and 8 objects to edit for each of `subjects` subjects, drawn from the fixture facts it knows.

    Each number is solved three times from the base: each request for itself, as groups, and as many single edits of
    the same relations; a number beyond the relations that the model knows facts of is left out. Raises SettingsError
    where there is no corpus for the covariance, or the model knows no fact of the fixtures.
    """
    choice = choose_model(model, values, corpus=corpus)
    if choice.corpus is None:
        raise SettingsError(f"{choice.name} has no corpus: name a text for its covariance, such as --corpus text.txt")
    known = known_facts(choice.loaded, progress)
    if not known:
        raise SettingsError(f"{choice.name} recalls none of the fixtures' facts, so none can be edited: try practice")
    relations = len({fact.relation for fact in known})
    bench = Bench(choice, known, list(documents(choice.corpus)), progress)
    base = {"perplexity": bench.perplexity()}
    sizes = [bench.size(objects, subjects, seed) for objects in OBJECTS if objects <= relations]
    return GroupsBench(choice.name, seed, len(known), choice.settings.as_dict(), base, sizes)


class Bench:
    """A model with its contexts and covariances, taken once."""

    def __init__(
        self, choice: ModelChoice, known: Sequence[EditRequest], lines: Sequence[str], progress: Progress
    ) -> None:
        self.loaded, self.settings, self.known, self.lines = choice.loaded, choice.settings, known, lines
        self.progress = progress
        self.contexts = sample_contexts(self.loaded, self.settings)
        self.covariances, _ = collect_covariances(self.loaded, lines, self.settings, progress)

    def size(self, objects: int, subjects: int, seed: int) -> SizeFigures:
        """Draw and measure one number of objects; with one object, the three ways are the same."""
        edits = group_edits(self.known, objects, subjects, partial(greedy_answers, self.loaded), seed)
        requests = [edit.request for edit in edits]
        taken = len({request.subject for request in requests})
        new = new_relations(self.known, edits)
        apart = self.solve(edits, one_each(requests), f"{objects} objects apart")
        ways = dict.fromkeys(("apart", "groups", "single"), apart)
        if objects > 1:
            ways["groups"] = self.solve(edits, group_requests(self.loaded, requests), f"{objects} objects as groups")
            single = single_edits(self.known, edits, seed)
            ways["single"] = self.solve(
                single, one_each([edit.request for edit in single]), f"{len(single)} single edits"
            )
        return SizeFigures(objects, taken, len(edits), new, ways)

    def solve(self, edits: Sequence[Counterfact], groups: Sequence[RequestGroup], name: str) -> dict[str, float]:
        """Write the edits from the base, in these groups, and return the figures."""

        def report(phase: str, done: int, total: int) -> None:
            self.progress(f"{name}: {phase}", done, total)

        targets = optimise_targets(self.loaded, groups, self.contexts, self.settings, progress=report)
        z = torch.stack([target.z for target in targets])
        deltas = spread(self.loaded, groups, self.contexts, z, self.covariances, self.settings, report)
        with edited(self.loaded, deltas):
            figures = summary(measure(self.loaded, cases(edits, self.known), report))
            figures["perplexity"] = self.perplexity()
        figures["loss"] = fmean(target.losses[-1] for target in targets)
        return figures

    def perplexity(self) -> float:
        """Return the perplexity of the model as it is, on the beginning of the corpus."""
        return perplexity(self.loaded, self.lines[:PERPLEXITY_LINES], self.settings.sequence_length)


def one_each(requests: Sequence[EditRequest]) -> list[RequestGroup]:
    """Return a group for each request, as if no other had its subject."""
    return [RequestGroup((request,)) for request in requests]
