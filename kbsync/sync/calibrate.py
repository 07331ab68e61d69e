"""Calibrate: find layers, lambda and clamp for a model, by edits of facts that it knows.

Trace: where a model recalls the facts that it knows, and which layers that suggests to edit.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from kbsync.errors import EditError, LedgerError, SettingsError
from kbsync.facts import EditRequest, content_id
from kbsync.files import writing
from kbsync.ledger import Ledger
from kbsync.memit import MemitSettings, edited, group_requests, spread, write_preset
from kbsync.memit.extensions.calibration import (
    Trial,
    candidate_windows,
    critical_layers,
    search_settings,
    suggested_window,
)
from kbsync.metrics import Case, evaluate, perplexity, summary
from kbsync.metrics.metric import cases, counterfacts
from kbsync.metrics.trace import SAMPLES, causal_trace, mediated, mlp_effects, trace_figures
from kbsync.sync.covariances import covariances_for, with_text
from kbsync.sync.deltas import cached_targets
from kbsync.sync.home import AS_STORED, Loading, Progress, silent
from kbsync.sync.measure import OF_CASES, first_tokens, held_out_lines
from kbsync.sync.model import ModelChoice, Session, choose_model, new_preset, preset_file_for
from kbsync.sync.practice import facts_to_ask, known_requests

TRACED = 20
"""facts of the causal trace"""
LEAST = 10
"""facts that the model must know"""
KNOWN_FACTOR = 4
"""known facts to look for, for each that is edited: the others are its neighbourhood"""
TEXT_TOKENS = 4096
"""of held-out text that each trial reads"""


def calibrate(
    home: Path,
    name: str,
    *,
    relations: Collection[str] | None = None,
    facts: int = 30,
    corpus: Path | None = None,
    write: str | None = None,
    values: Mapping[str, Any] = MappingProxyType({}),
    loading: Loading = AS_STORED,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Find settings for a model by trial edits of `facts` facts; `write` them as a preset of `home` where it is a name.

    Returns, with the keys of the JSON, what was found, and the trials that led to it in the order that they were made.
    Trials, targets and covariances stay in `home`, so that a run that was broken off goes on.
    """
    file = preset_file_for(home, write)
    with Ledger.open(home) as ledger, ledger.writer(f"calibrate {name}"):
        requests, source = facts_to_ask(home, ledger, relations)
        choice = choose_model(name, values, home=home, loading=loading, corpus=corpus, progress=progress)
        work = Session.of(ledger, choice, progress)
        known, asked = known_requests(choice.loaded, requests, KNOWN_FACTOR * facts, progress)
        if len(known) < LEAST:
            raise EditError(
                f"{choice.name} knows {len(known)} of the {asked} facts that it was asked about, and calibrate needs"
                f" {LEAST} at least: pull facts that it knows, or name their relations with --relation"
            )
        progress("tracing", 0, 1)
        effects = mlp_effects(choice.loaded, known[:TRACED])
        progress("tracing", 1, 1)
        suggested = suggested_window(effects["layers"])
        blocks = len(choice.loaded.family.block_list(choice.loaded.model))
        windows = candidate_windows(suggested, choice.settings.layers, blocks)
        work = replace(work, choice=with_text(home, choice, progress))
        bench = Workbench(work, known, facts, windows)
        m = choice.loaded.family.weight(choice.loaded.model, 0).shape[1]
        chosen = search_settings(choice.settings, windows, m, bench.attempt)
    if chosen.reason is not None:
        raise EditError(f"no trial succeeded; the first failed so: {next(iter(bench.trials.values())).reason}")
    if file is not None:
        preset = new_preset(home, file.stem, name, choice, chosen.settings, corpus)
        best = ", ".join(f"{name} {value:.1f}" for name, value in chosen.figures.items() if name in ("S", "recall"))
        remark = f"Found by `kbsync calibrate` with {len(bench.cases)} edits of known facts: {best}."
        write_preset(file, preset, remark)
    return {
        "model": choice.name,
        "facts": {"source": source, "asked": asked, "known": len(known), "edits": len(bench.cases)},
        "trace": effects,
        "suggested": suggested,  # layers that the trace points to
        "base": bench.base,  # figures without edits
        "trials": list(map(told_of, bench.trials.values())),
        "chosen": told_of(chosen),
        "from_record": bench.from_record,  # trials that an earlier run had made
        "preset": file,
    }


def told_of(trial: Trial) -> dict[str, Any]:
    settings = trial.settings
    return {
        "layers": settings.layers,
        "lambda": settings.lambda_,
        "clamp_norm_factor": settings.clamp_norm_factor,
        **trial.figures,
        "within_bound": trial.bounded,
        "reason": trial.reason,
    }


def in_words(trial: Trial) -> str:
    settings, figures = trial.settings, trial.figures
    tried = f"layers {settings.layers[0]}-{settings.layers[-1]}, lambda {settings.lambda_:g}"
    tried += f", clamp {settings.clamp_norm_factor:g}"
    found = ", ".join(f"{name} {figures[name]:.1f}" for name in ("S", "recall", "perplexity") if name in figures)
    return f"{tried}: {found or trial.reason}"


class Workbench:
    """Makes trials on one set of edits; each is kept in the home and not made twice."""

    def __init__(
        self, work: Session, known: Sequence[EditRequest], count: int, windows: Sequence[tuple[int, ...]]
    ) -> None:
        edits = counterfacts(known, count)
        if not edits:
            raise EditError(
                "the known facts of each relation all have the same object, so none can be changed: pull others"
            )
        self.work, self.loaded, choice = work, work.loaded, work.choice
        self.cases: list[Case] = cases(edits, known)
        # On one wording each: six cost six times as much, and a lone key weighs the more in the solve (spread.py).
        requests = [edit.request for edit in edits]
        self.groups = group_requests(self.loaded, requests, endings=work.settings.shared_endings)
        self.lines = first_tokens(self.loaded, held_out_lines(self.loaded, choice.corpus)[1], TEXT_TOKENS)
        union = replace(work.settings, layers=tuple(sorted({layer for window in windows for layer in window})))
        self.covariances = covariances_for(work.ledger.tensors, replace(choice, settings=union), work.progress)
        self.base = self.figures(work.settings)
        self.trials: dict[str, Trial] = {}
        self.from_record = 0
        text = hashlib.sha256("\n".join(self.lines).encode()).hexdigest()
        self.about = [work.model.key, str(self.loaded.model.dtype), text, [group.id for group in self.groups]]

    def figures(self, settings: MemitSettings) -> dict[str, float]:
        found = summary(evaluate(self.loaded, self.cases, OF_CASES))
        found["perplexity"] = perplexity(self.loaded, self.lines, settings.sequence_length)
        return found

    def attempt(self, settings: MemitSettings) -> Trial:
        """Return the trial of these settings: from this run, from the home, or made now."""
        key = content_id("trial1", [*self.about, settings.as_dict()])
        if key not in self.trials:
            file = self.work.ledger.home / "calibrations" / f"{key.replace(':', '-')}.json"
            if file.exists():
                try:
                    kept = json.loads(file.read_text(encoding="utf-8"))
                    trial = Trial(settings, kept["figures"], kept["base_perplexity"], kept["reason"])
                except (OSError, ValueError, KeyError, TypeError) as error:
                    raise LedgerError(f"{file} is not what calibrate wrote: delete it and run again") from error
                self.from_record += 1
            else:
                trial = self.make(settings)
                with writing(file):
                    file.parent.mkdir(parents=True, exist_ok=True)
                    partial = file.with_suffix(".partial")
                    partial.write_text(json.dumps(asdict(trial) | {"settings": settings.as_dict()}), encoding="utf-8")
                    partial.rename(file)
            self.trials[key] = trial
            self.work.progress(f"trial {len(self.trials)}: {in_words(trial)}", 1, 1)
        return self.trials[key]

    def make(self, settings: MemitSettings) -> Trial:
        """Edit with these settings, measure, and put the model back; an edit that fails is a trial, too."""
        before = self.base["perplexity"]
        try:
            # Trials are compared with each other alone, so the fastest search will do.
            fastest = replace(settings, search_dtype="auto")
            trial = replace(self.work, choice=replace(self.work.choice, settings=fastest))
            z = cached_targets(trial, self.groups).z
            covariances = {layer: self.covariances[layer] for layer in settings.layers}
            deltas = spread(self.loaded, self.groups, self.work.contexts, z, covariances, settings)
            with torch.no_grad(), edited(self.loaded, deltas):
                return Trial(settings, self.figures(settings), before)
        except EditError as error:
            return Trial(settings, {}, before, str(error))


def trace(
    home: Path,
    name: str,
    *,
    relations: Collection[str] | None = None,
    facts: int = 100,
    samples: int = SAMPLES,
    seed: int = 0,
    write: str | None = None,
    loading: Loading = AS_STORED,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Trace `facts` known facts, in so many `samples` of noise each; `write` the suggested layers as a preset.

    Returns the figures of `trace_figures` and what they are of, with the keys of the JSON.
    """
    file = preset_file_for(home, write, "--write-preset")
    with Ledger.open(home) as ledger:
        requests, source = facts_to_ask(home, ledger, relations)
    choice = choose_model(name, home=home, loading=loading, progress=progress)
    choice.loaded.at_attention()  # where it is not known, this shows before the work
    known, asked = known_requests(choice.loaded, requests, facts, progress)
    if not known:
        raise EditError(
            f"{choice.name} knows none of the {asked} facts of the {source} that it was asked: pull facts that it"
            " knows, or name their relations with --relation"
        )
    known = known[:facts]
    found = trace_figures(causal_trace(choice.loaded, known, samples=samples, seed=seed, progress=progress))
    gaps = mediated(found["gap"])
    suggested = None if gaps is None else critical_layers(gaps)
    if file is not None:
        write_suggested(home, file, name, facts, choice, suggested)
    return {
        "model": choice.name,
        "facts": {"source": source, "traced": len(known)},
        "samples": samples,
        "seed": seed,
        **found,
        "layers": choice.settings.layers,  # as they are
        "suggested": suggested,  # by the paper's rule; None where severing the MLPs has no effect beyond chance
        "preset": file,
    }


def write_suggested(
    home: Path, file: Path, name: str, facts: int, choice: ModelChoice, suggested: tuple[int, ...] | None
) -> None:
    """Write the model's settings with the suggested layers in them; raise SettingsError where there are none."""
    if suggested is None:
        raise SettingsError(
            "--write-preset: severing the MLPs has no effect beyond chance, so no layers are suggested; trace more"
            " facts with --facts, or try layers with `kbsync calibrate`"
        )
    settings = replace(choice.settings, layers=suggested)
    remark = f"Layers suggested by `kbsync trace --facts {facts}`; all else as before, tried on no edit."
    write_preset(file, new_preset(home, file.stem, name, choice, settings), remark)
