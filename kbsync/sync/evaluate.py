"""Eval: base and edited model side by side, on the ledger's active edits or on a data set as it is."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch

from kbsync.datasets import open_dataset
from kbsync.errors import SettingsError
from kbsync.facts import EditRequest
from kbsync.ledger import BatchRow, Ledger, Metric
from kbsync.ledger.edits import record_figures
from kbsync.memit import edited
from kbsync.memit.extensions.groups import edited_wordings
from kbsync.metrics import (
    ABOUT,
    CHOICE_METRICS,
    KEPT_METRICS,
    METRICS,
    RIPPLE_METRICS,
    SAID_METRICS,
    TEXT_METRICS,
    Case,
    Figure,
    Said,
    Sampled,
    Values,
    evaluate,
    figures,
    kept_values,
    say,
)
from kbsync.metrics.intervals import Sure, bins, calibration_error, sureness
from kbsync.sync.arms import ARMS, OF_EDITS, Arm, arms, reversal
from kbsync.sync.covariances import kept_text
from kbsync.sync.edits import held_prompts, written_in
from kbsync.sync.eval_cases import (
    HeldOut,
    dataset_cases,
    drawn,
    held_out,
    ledger_cases,
    other_text,
    perplexity_of,
    read_references,
)
from kbsync.sync.home import AS_STORED, Loading, Progress, silent, templates_for
from kbsync.sync.known import requests_of
from kbsync.sync.measure import OF_CASES, PROMPTS, beginnings, sampled_prompts
from kbsync.sync.model import ModelChoice, Session, choose_model, edited_state
from kbsync.sync.tasks import Tasks

WITHOUT_OLD = ("efficacy", "paraphrase", "specificity")
"""measured in place of `OF_CASES` where no object before the edit is known"""
QUICK, WHOLE, WITHDRAWN = 12, 40, 5
"""cases of a quick page and of a whole one, and edits that a whole one takes out again"""
RECORDED = "eval_"
"""before a metric's name in the ledger, so that it is not taken for the figure of the apply"""

Figures = dict[str, Figure]


@dataclass(frozen=True, slots=True)
class EvalOptions:
    dataset: Path | None = None
    """None: the ledger's active edits"""
    metrics: tuple[str, ...] | None = None
    """names of the registry; None: those that need no sampled text and, for a data set, no answers"""
    corpus: Path | None = None
    """held-out text for the metrics over text; None: the model's own corpus"""
    sample: int | None = None
    references: Path | None = None
    seed: int = 0
    beside: tuple[str, ...] = ()
    """names of `arms.ARMS`"""
    withdraw: int | None = None
    """edits that are taken out again, both ways"""
    tasks: tuple[str, ...] = ()
    """of lm-evaluation-harness: names that it knows, or YAML files"""
    task_limit: int | None = None
    """questions of each task; None: all"""
    page: Literal["full", "quick"] | None = None
    """measure what the page of a model shows: all of it on `WHOLE` cases, or the most of it on `QUICK`"""

    def for_page(self) -> "EvalOptions":
        """Return the options with what the page shows where the user has not said otherwise."""
        if self.page == "quick":
            return replace(self, sample=self.sample or QUICK, beside=self.beside or ("retrieval",))
        if self.page == "full":
            ours = None if self.dataset else self.withdraw or WITHDRAWN
            return replace(self, sample=self.sample or WHOLE, beside=self.beside or ARMS, withdraw=ours)
        return self


def run_eval(
    home: Path, model: str, options: EvalOptions, *, loading: Loading = AS_STORED, progress: Progress = silent
) -> dict[str, Any]:
    """Measure base and edited model; figures on the ledger's edits are recorded with the batch that is current.

    A data set is only measured: its records are not written into the model, and its figures not recorded, since they
    are not those of a batch's edits.
    """
    check_names(options.metrics)
    options = options.for_page()
    if options.withdraw and options.dataset:
        raise SettingsError("--withdraw is about the ledger's edits: leave out --dataset")
    tasks = Tasks(options.tasks, options.task_limit) if options.tasks else None
    references = read_references(options.references) if options.references else None
    dataset = open_dataset(options.dataset) if options.dataset else None
    # A data set is read whole before a model is loaded, so that bad records show at once.
    cases = dataset_cases(dataset, options.sample, options.seed, references) if dataset else []
    choice = kept_text(home, choose_model(model, home=home, loading=loading))
    if dataset is not None and not (home / "ledger.db").exists():
        return compare(choice, cases, None, options, dataset.unplaced, progress, tasks=tasks)
    with Ledger.open(home, create=False) as ledger:
        known, batch, deltas = edited_state(ledger, choice)
        active = ledger.active_edits(known.key) if batch and known else []
        if dataset is not None:
            edits, near = (deltas if active else None), neighbourhood(cases)
            return compare(choice, cases, edits, options, dataset.unplaced, progress, near, tasks=tasks)
        if known is None or batch is None or not active:
            raise SettingsError(f"{choice.name} has no edits in {home}: run `kbsync apply` first, or name a --dataset")
        work = Session(ledger, templates_for(home), choice, known, progress)
        cases = ledger_cases(work, options.sample, options.seed, references)
        facts = requests_of(ledger, work.templates, active)
        evaluation = compare(choice, cases, deltas, options, 0, progress, sampled_now(work, facts, batch), facts, tasks)
        gone = None
        if options.withdraw:
            gone = reversal(work, batch, drawn(cases, options.withdraw, options.seed), options.seed)
        base, after = evaluation["base"], evaluation["edited"] or {}
        rows = [Metric(f"{RECORDED}{name}", base[name].mean, one.mean) for name, one in after.items()]
        record_figures(ledger, batch.id, rows)
        return evaluation | {"reversal": gone, "batch": batch.id}


def check_names(metrics: Sequence[str] | None) -> None:
    names = (*METRICS, *KEPT_METRICS, *TEXT_METRICS)
    unknown = [name for name in metrics or () if name not in names]
    if unknown:
        there = ", ".join(names)
        raise SettingsError(f"unknown metric {', '.join(unknown)}; there are {there}")


def sampled_now(work: Session, active: Sequence[EditRequest], batch: BatchRow) -> Sampled:
    """Return the prompts that are drawn around a model's active edits, which the current batch has written."""
    count = batch.settings.get("wordings", 0)
    written = [replace(written_in(one, batch.work), aliases=one.aliases) for one in active]
    wordings = [word for one in written for word in edited_wordings(work.loaded, one, count)]
    return sampled_prompts(work.ledger, work.templates, work.loaded, active, wordings, held_prompts(batch.work))


def neighbourhood(cases: Sequence[Case]) -> Sampled:
    """Return prompts of the cases' neighbourhoods, the first ones, each once."""
    near = dict.fromkeys((one.prompt, one.subject) for case in cases for one in case.neighbours)
    return Sampled(others=tuple(EditRequest("", subject, prompt, "") for prompt, subject in islice(near, PROMPTS)))


def default_metrics(cases: Sequence[Case], *, said: bool = False, text: bool = False) -> tuple[str, ...]:
    """Return the metrics that suit the cases; those of greedy answers, and those over held-out text, if wanted."""
    own = OF_CASES if any(case.old for case in cases) else WITHOUT_OLD
    portability = ("portability",) if any(case.portability for case in cases) else ()
    choice = CHOICE_METRICS if any(case.choices for case in cases) else ()
    kinds = {one.kind for case in cases for one in case.ripples}
    ripple = [name for name in RIPPLE_METRICS if name.removeprefix("ripple_") in kinds]
    return (*own, *portability, *choice, *ripple, *(SAID_METRICS if said else ()), *(TEXT_METRICS if text else ()))


@dataclass(frozen=True, slots=True)
class Look:
    values: Mapping[str, Values]
    """of metrics over cases"""
    text: Figures
    said: Said | None
    """to the prompts around the edits; None where they were not asked"""
    sure: list[Sure]
    """of its answers, where that was asked"""


@dataclass(frozen=True, slots=True)
class Reader:
    choice: ModelChoice
    cases: Sequence[Case]
    metrics: Sequence[str]
    kept: Sequence[str]
    sampled: Sampled | None
    text: HeldOut | None
    """for perplexity; None where that is not asked for"""
    tasks: Tasks | None
    options: EvalOptions
    progress: Progress

    def look(self, arm: Arm, *, able: bool = False) -> Look:
        """Ask the model in the state of an arm; with `able`, tasks too."""

        def heard(phase: str, done: int, total: int) -> None:
            self.progress(f"{phase}, {arm.name}", done, total)

        loaded, seed, text, said = self.choice.loaded, self.options.seed, {}, None
        of_cases = [name for name in self.metrics if name in METRICS]
        with arm.state():
            values = evaluate(loaded, self.cases, of_cases, seed, heard, told=arm.told)
            if self.text and not arm.told:
                text["perplexity"] = perplexity_of(self.choice, self.text, seed, heard)
            if self.tasks is not None and able:
                text |= self.tasks.figures(loaded, heard)
            sure = sureness(loaded, asked_of(self.cases)) if self.options.page and able else []
            if sure:
                text["calibration_error"] = calibration_error(sure, seed)
            if self.sampled is not None and self.kept and arm.asks_around:
                said = say(loaded, self.sampled.told(arm.told) if arm.told else self.sampled)
        return Look(values, text, said, sure)

    def figures(self, base: Look, now: Look) -> Figures:
        """Return all figures of an arm, those of prompts around the edits beside the base model's."""
        around = prompt_figures(base.said, now.said, self.kept, self.options.seed)
        return figures(now.values, self.options.seed) | around | now.text


def compare(
    choice: ModelChoice,
    cases: Sequence[Case],
    deltas: Mapping[int, torch.Tensor] | None,
    options: EvalOptions,
    unplaced: int,
    progress: Progress,
    sampled: Sampled | None = None,
    facts: Sequence[EditRequest] | None = None,
    tasks: Tasks | None = None,
) -> dict[str, Any]:
    """Measure the cases on the base, the edited model where there are deltas, and what is asked for beside them.

    `facts` are all that is edited, for a retriever; None: those of the cases.
    """
    text_there = bool(options.corpus or choice.corpus)
    said = options.dataset is None or options.page is not None
    metrics = options.metrics or default_metrics(cases, said=said, text=text_there)
    kept = [name for name in KEPT_METRICS if name in (options.metrics or KEPT_METRICS)] if sampled else []
    text = held_out(choice, options.corpus, few=options.page == "quick") if text_there else None
    if sampled is not None and text is not None:
        sampled = replace(sampled, unrelated=beginnings(text.lines))
    edited_model = None if deltas is None else partial(edited, choice.loaded, deltas)
    told = [case.request for case in cases] if facts is None else facts
    named = options.beside
    lines = other_text(choice, options.corpus, text) if "tuned" in named else []
    if options.page:  # without what this model or home has nothing for
        named = tuple(name for name in named if (edited_model or name not in OF_EDITS) and (lines or name != "tuned"))
    beside = arms(named, choice.loaded, edited_model, cases, told, lines)
    if "perplexity" not in metrics:
        text = None
    elif text is None:
        held_out(choice, None)  # raises
    reader = Reader(choice, cases, metrics, kept, sampled, text, tasks, options, progress)
    base = reader.look(Arm("base model"), able=True)
    base_figures = reader.figures(base, base)
    unmeasured = without_cases(base.values, base_figures, options.metrics or (), len(metrics))
    after = reader.look(Arm("edited model", edited_model), able=True) if edited_model else None
    return {
        "model": choice.name,
        "measured": options.dataset.name if options.dataset else "ledger",
        "cases": len(cases),
        "sampled": len(cases) == options.sample,
        "unplaced": unplaced,  # prompts of the data set that were left out, since they do not name their subject
        "unmeasured": unmeasured,  # metrics that no case has what they need of
        "batch": None,  # that the figures are on record with
        "text": text and {"corpus": text.corpus, "lines": len(text.lines)},  # what perplexity was read of
        "base": base_figures,
        "edited": after and reader.figures(base, after),  # None where the home has no edits of this model
        "beside": {arm.name: reader.figures(base, reader.look(arm)) for arm in beside},
        "reversal": None,
        # how sure each model is of its answers, and how often right
        "calibration": {name: bins(one.sure) for name, one in (("base", base), ("edited", after)) if one and one.sure},
        "relations": by_relation(cases, base, after, options.seed),
        "lower": tuple(name for name in base_figures if name in ABOUT and ABOUT[name].better == "lower"),
        "about": {name: one.text for name, one in ABOUT.items()},
        # of the texts that RS compares with; None: sentences of known facts
        "references": options.references.name if options.references else None,
    }


def without_cases(
    values: Mapping[str, Values], figures: Collection[str], wanted: Sequence[str], metrics: int
) -> tuple[str, ...]:
    """Return the names that no case has what they need of; raises SettingsError where that is all `metrics` of them."""
    found = tuple(name for name, column in values.items() if all(value is None for value in column))
    found += tuple(name for name in wanted if name in KEPT_METRICS and name not in figures)
    if found and len(found) == metrics:
        needs = "no case has what this needs: prompts, an object before the edit, or references"
        raise SettingsError(f"{', '.join(found)}: {needs}")
    return found


def asked_of(cases: Sequence[Case]) -> list[tuple[str, tuple[str, ...]]]:
    """Return the prompts of edits and their neighbours with what is right to say."""
    found: dict[str, tuple[str, ...]] = {}
    for case in cases:
        request = case.request
        for text in (request.prompt, *request.paraphrases):
            found[text.replace("{}", request.subject, 1)] = request.names
        for near in case.neighbours:
            found.setdefault(near.prompt.replace("{}", near.subject, 1), (near.object,))
    return list(found.items())


def by_relation(cases: Sequence[Case], base: Look, after: Look | None, seed: int) -> dict[str, dict[str, Any]]:
    places: dict[str, list[int]] = defaultdict(list)
    for place, case in enumerate(cases):
        places[case.request.relation].append(place)

    def part(look: Look, own: Sequence[int]) -> Figures:
        return figures({name: [column[place] for place in own] for name, column in look.values.items()}, seed)

    return {
        relation: {"cases": len(own), "base": part(base, own), "edited": after and part(after, own)}
        for relation, own in sorted(places.items())
    }


def prompt_figures(base: Said | None, now: Said | None, names: Sequence[str], seed: int) -> Figures:
    """Return those figures of the sampled prompts, each by bootstrap over its own prompts."""
    values = kept_values(base, now) if base and now else {}
    return {name: figures({name: values[name]}, seed)[name] for name in names if name in values}
