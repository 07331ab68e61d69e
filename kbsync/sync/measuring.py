"""Measure a batch: the cases of its edits, and the figures before and after."""

import math
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from statistics import fmean

from kbsync.facts import EditRequest, Wording
from kbsync.ledger import FactRow, Metric
from kbsync.metrics import (
    Case,
    CaseFigures,
    Neighbour,
    Said,
    Sampled,
    Values,
    kept_values,
    measure,
    measure_chat,
    perplexity,
    recalled,
    say,
    summary,
)
from kbsync.metrics.recall import Scorer
from kbsync.models import LoadedModel, score_targets
from kbsync.sync.base_answers import BaseScores
from kbsync.sync.choice import ModelChoice
from kbsync.sync.corpus import held_out_documents
from kbsync.sync.failures import Failure, failures
from kbsync.sync.progress import Progress
from kbsync.templates import Templates

__all__ = ["Measured", "cases_for", "measure_edits", "recall_of"]

NEIGHBOURS = 5
"""neighbourhood prompts of an edit at most; the paper's CounterFact has ten"""
PERPLEXITY_LINES = 200
NOTHING_SAMPLED = Sampled()


@dataclass(frozen=True, slots=True)
class Measured:
    """A batch's figures: rows for the ledger, a table of before and after, edits of its cases that are not recalled."""

    metrics: list[Metric]
    table: dict[str, dict[str, float | None]]
    failed: tuple[Failure, ...]
    recalled: dict[str, bool]
    """by request: whether the edited model recalls it; for all active edits"""

    def add(self, name: str, after: float) -> None:
        """Add a figure of the whole batch that the base model has no counterpart of."""
        self.metrics.append(Metric(name, None, after))
        self.table[name] = {"before": None, "after": after}


def cases_for(
    requests: Sequence[EditRequest],
    old: Mapping[str, str],
    facts: Sequence[FactRow],
    edited_subjects: set[tuple[str, str]],
    templates: Templates,
) -> list[Case]:
    """Return a case for each request: `old` maps its id to o^c; neighbours are unedited subjects of its relation.

    A fact with a wording of its own is no neighbour: what a data set asks for is not what holds. Neighbours whose
    object is o^c come first, as in the paper, then others in an order drawn from the request's id.
    """
    unedited: dict[str, list[FactRow]] = defaultdict(list)
    for fact in facts:
        if (fact.relation, fact.subject_label) not in edited_subjects and fact.wording is None:
            unedited[fact.relation].append(fact)
    cases = []
    for request in requests:
        near = [fact for fact in unedited[request.relation] if fact.object_label != request.target]
        random.Random(request.id).shuffle(near)
        near.sort(key=lambda fact, old_object=old[request.id]: fact.object_label != old_object)  # type: ignore[misc]
        told = templates.wording(request.relation) or Wording(request.prompt)
        neighbours = [Neighbour(told.prompt, fact.subject_label, fact.object_label) for fact in near[:NEIGHBOURS]]
        cases.append(Case(request, old[request.id], tuple(neighbours)))
    return cases


def measure_edits(
    choice: ModelChoice,
    edited: Callable[[], AbstractContextManager[None]],
    cases: Sequence[Case],
    active: Sequence[EditRequest],
    progress: Progress,
    base: BaseScores,
    *,
    sampled: Sampled = NOTHING_SAMPLED,
    chat: bool = False,
) -> Measured:
    """Measure `cases` on base and edited model, the recall of all `active` edits, and perplexity on the corpus.

    The `sampled` prompts tell what is kept. `base` knows what the base model was asked before; it is not asked again.
    With `chat`, also recall of the cases' question forms in the tokenizer's chat template.
    """
    lines = list(islice(held_out_documents(choice.corpus), PERPLEXITY_LINES)) if choice.corpus else []

    def look(
        when: str, score: Scorer, of_text: Callable[[LoadedModel, Sequence[str], int], float]
    ) -> tuple[list[CaseFigures], dict[str, float], list[bool], Said]:
        def told(phase: str, done: int, total: int) -> None:
            progress(f"{phase} {when}", done, total)

        measured = measure(choice.loaded, cases, told, score)
        if chat:
            measured = measure_chat(choice.loaded, cases, measured, told)
        figures = summary(measured)
        said = recalled(choice.loaded, active, score=score)
        if active:
            figures["recall_active"] = 100 * sum(said) / len(said)
        if lines:
            figures["perplexity"] = of_text(choice.loaded, lines, choice.settings.sequence_length)
        return measured, figures, said, say(choice.loaded, sampled, score)

    before, figures_before, _, said_before = look("before", base, base.perplexity)
    figures_before |= means(kept_values(said_before, said_before))
    with edited():
        after, figures_after, said, said_after = look("after", score_targets, perplexity)
        figures_after |= means(kept_values(said_before, said_after))
        missed = [case.request for case, new in zip(cases, after, strict=True) if not new.recall]
        # A model that gives no numbers has no answers; that its figures are not finite is the guard's to tell.
        failed = failures(choice.loaded, missed) if all(map(math.isfinite, figures_after.values())) else ()
    table = {name: {"before": figures_before.get(name), "after": figures_after.get(name)} for name in figures_after}
    metrics = [Metric(name, figure["before"], figure["after"]) for name, figure in table.items()]
    for case, old, new in zip(cases, before, after, strict=True):
        for name in ("ES", "PS", "NS", "recall", "paraphrase_recall", "chat_recall"):
            was, now = getattr(old, name), getattr(new, name)
            if now is not None:
                metrics.append(Metric(name, 100 * was, 100 * now, case.request.id))
    return Measured(metrics, table, failed, {one.id: right for one, right in zip(active, said, strict=True)})


def means(values: Mapping[str, Values]) -> dict[str, float]:
    """Return the mean of each figure's values."""
    return {name: fmean(value for value in column if value is not None) for name, column in values.items()}


def recall_of(loaded: LoadedModel, requests: Sequence[EditRequest]) -> float:
    """Return the percentage of requests whose object is the exact top answer."""
    return 100 * sum(recalled(loaded, requests)) / len(requests)
