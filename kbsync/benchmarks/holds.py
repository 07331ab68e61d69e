"""What holding known facts costs the edits, and what it saves: over weights, loads, and ways to solve."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from kbsync.benchmarks.known import known_facts
from kbsync.benchmarks.sync import PERPLEXITY_LINES
from kbsync.errors import SettingsError
from kbsync.facts import EditRequest
from kbsync.memit import (
    MemitSettings,
    collect_covariances,
    edited,
    group_requests,
    optimise_targets,
    sample_contexts,
    spread,
)
from kbsync.metrics import measure, perplexity, recalled, summary
from kbsync.metrics.counterfacts import Counterfact, cases, counterfacts
from kbsync.practice import corpus_text
from kbsync.workflows.choice import ModelChoice, choose_model
from kbsync.workflows.corpus import documents
from kbsync.workflows.held import NOTHING_HELD, Held, nearest
from kbsync.workflows.loading import AS_STORED, Loading
from kbsync.workflows.progress import Progress, silent

__all__ = ["LOADS", "WEIGHTS", "HoldTrial", "HoldsBench", "bench_holds", "run_holds"]

LOADS = (100, 300)
WEIGHTS = (0.0, 0.03, 0.1, 0.3, 1.0)
"""0 holds nothing"""


@dataclass(frozen=True, slots=True)
class HoldTrial:
    """One solve; percentages but for perplexity."""

    edits: int
    sweeps: int
    weight: float
    held: int
    """facts held; 0 at weight 0"""
    S: float
    ES: float
    PS: float
    NS: float
    recall: float
    perplexity: float
    """on sentences about subjects that are not edited"""
    held_known: float
    """of the facts that are held at the other weights: those that the model still recalls"""
    others_known: float
    """the same of facts neither edited nor held"""


@dataclass(frozen=True, slots=True)
class HoldsBench:
    """All trials."""

    model: str
    settings: dict[str, Any]
    trials: list[HoldTrial]


def bench_holds(
    model: str,
    hold: int,
    *,
    loads: Sequence[int] = LOADS,
    weights: Sequence[float] = WEIGHTS,
    seed: int = 0,
    values: Mapping[str, Any] | None = None,
    loading: Loading = AS_STORED,
    progress: Progress = silent,
    on_trial: Callable[[HoldTrial], None] = lambda trial: None,
) -> HoldsBench:
    """Edit counterfacts of the fixtures' facts while `hold` known facts are held; `on_trial` gets each as it ends.

    Raises SettingsError where the model knows too few of the fixtures' facts, or has no corpus.
    """
    choice = choose_model(model, values, loading=loading)
    choice = replace(choice, settings=replace(choice.settings, hold=hold))
    return run_holds(choice, known_facts(choice.loaded), loads, weights, seed, progress, on_trial)


def run_holds(
    choice: ModelChoice,
    known: Sequence[EditRequest],
    loads: Sequence[int],
    weights: Sequence[float],
    seed: int = 0,
    progress: Progress = silent,
    on_trial: Callable[[HoldTrial], None] = lambda trial: None,
) -> HoldsBench:
    """Run all loads and weights, with one plain sweep and with the settings' own sweeps; `known` are the facts."""
    if choice.corpus is None:
        raise SettingsError(f"{choice.name} has no corpus: name a text for its covariance, such as --corpus text.txt")
    every = counterfacts(known, max(loads), seed)
    if len(every) < max(loads):
        raise SettingsError(f"{choice.name} knows {len(known)} facts: too few for {max(loads)} edits")
    loaded, settings = choice.loaded, choice.settings
    contexts = sample_contexts(loaded, settings)
    covariances, _ = collect_covariances(loaded, documents(choice.corpus), settings, progress)
    groups = group_requests(loaded, [edit.request for edit in every])
    found = optimise_targets(loaded, groups, contexts, settings, progress=progress)
    z = {group.id: target.z for group, target in zip(groups, found, strict=True)}
    ways = list({settings, replace(settings, sweeps=1, emphasis=1.0)})
    ways.sort(key=lambda way: way.sweeps)
    done = HoldsBench(choice.name, settings.as_dict(), [])
    for load in loads:
        edits = every[:load]
        some = group_requests(loaded, [edit.request for edit in edits])
        missing = [group for group in some if group.id not in z]  # a group of fewer members than in the largest load
        more = optimise_targets(loaded, missing, contexts, settings) if missing else []
        z |= {group.id: target.z for group, target in zip(missing, more, strict=True)}
        held = held_beside(choice, edits, known)
        for way in ways:
            for weight in weights:
                here = replace(way, hold_weight=weight) if weight else way
                stay = held if weight else NOTHING_HELD
                targets = torch.stack([z[group.id] for group in some])
                deltas = spread(loaded, some, contexts, targets, covariances, here, progress, kept=stay.kept)
                with edited(loaded, {layer: delta.matrix() for layer, delta in deltas.items()}):
                    trial = figures(choice, edits, known, held, here, weight)
                done.trials.append(trial)
                on_trial(trial)
    return done


def held_beside(choice: ModelChoice, edits: Sequence[Counterfact], known: Sequence[EditRequest]) -> Held:
    """Return the facts to hold, as an apply chooses them."""
    about = {(edit.request.relation, edit.request.subject) for edit in edits}
    free = [fact for fact in known if (fact.relation, fact.subject) not in about]
    groups = group_requests(choice.loaded, [edit.request for edit in edits])
    return nearest(choice, groups, free, {fact.id: fact.subject for fact in free}, {subject for _, subject in about})


def figures(
    choice: ModelChoice,
    edits: Sequence[Counterfact],
    known: Sequence[EditRequest],
    held: Held,
    settings: MemitSettings,
    weight: float,
) -> HoldTrial:
    """Measure the model as it is."""
    loaded = choice.loaded
    about = {(edit.request.relation, edit.request.subject) for edit in edits}
    touched = {subject for _, subject in about}
    kept = {request.id for request in held.requests}
    others = [fact for fact in known if (fact.relation, fact.subject) not in about and fact.id not in kept]
    quiet = [fact for fact in known if fact.subject not in touched and fact.target not in touched]
    found = summary(measure(loaded, cases(edits, known)))
    return HoldTrial(
        edits=len(edits),
        sweeps=settings.sweeps,
        weight=weight,
        held=len(kept) if weight else 0,
        **{name: found[name] for name in ("S", "ES", "PS", "NS", "recall")},
        perplexity=perplexity(loaded, corpus_text(quiet).splitlines()[:PERPLEXITY_LINES], settings.sequence_length),
        held_known=share(recalled(loaded, held.requests)),
        others_known=share(recalled(loaded, others)),
    )


def share(answers: Sequence[bool]) -> float:
    """Return the percentage that is true; 0 of none."""
    return 100 * sum(answers) / len(answers) if answers else 0.0
