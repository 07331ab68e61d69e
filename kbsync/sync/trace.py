"""Trace: where a model recalls the facts that it knows, and which layers that suggests to edit."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from kbsync.errors import EditError, SettingsError
from kbsync.ledger import Ledger
from kbsync.memit import write_preset
from kbsync.memit.extensions.calibration import critical_layers
from kbsync.metrics.trace import SAMPLES, TraceFigures, causal_trace, trace_figures
from kbsync.sync.home import AS_STORED, Loading, Progress, silent
from kbsync.sync.model import ModelChoice, choose_model, new_preset, preset_file_for
from kbsync.sync.practice import facts_to_ask, known_requests


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """What the user asks of a trace."""

    model: str
    relations: Collection[str] | None = None
    facts: int = 100
    """known facts to trace"""
    samples: int = SAMPLES
    """draws of noise for each"""
    seed: int = 0
    """of the noise"""
    write: str | None = None
    """name of the preset to write; None writes none"""
    loading: Loading = AS_STORED


@dataclass(frozen=True, slots=True)
class Trace:
    """What was found."""

    model: str
    source: str
    """where the facts are from: ledger or fixtures"""
    traced: int
    samples: int
    seed: int
    figures: TraceFigures
    present: tuple[int, ...]
    """layers of the model's settings"""
    suggested: tuple[int, ...] | None
    """R by the paper's rule; None where severing the MLPs has no effect beyond chance"""
    preset: Path | None
    remark: str | None


def trace(home: Path, options: TraceOptions, progress: Progress = silent) -> Trace:
    """Trace a model, and write the layers that this suggests as a preset of `home` where a name is given.

    Raises SettingsError for a name that is taken, or where there is nothing to write; EditError where the model knows
    none of the facts; ModelError where its family does not say where the attention is.
    """
    file = preset_file_for(home, options.write, "--write-preset")
    with Ledger.open(home) as ledger:
        requests, source = facts_to_ask(home, ledger, options.relations)
    choice = choose_model(options.model, home=home, loading=options.loading, progress=progress)
    choice.loaded.at_attention()  # where it is not known, this shows before the work
    known, asked = known_requests(choice.loaded, requests, options.facts, progress)
    if not known:
        raise EditError(
            f"{choice.name} knows none of the {asked} facts of the {source} that it was asked: pull facts that it"
            " knows, or name their relations with --relation"
        )
    known = known[: options.facts]
    found = trace_figures(
        causal_trace(choice.loaded, known, samples=options.samples, seed=options.seed, progress=progress)
    )
    suggested = None if found.mediated is None else critical_layers(found.mediated)
    if file is not None:
        write_suggested(home, file, options, choice, suggested)
    return Trace(
        choice.name,
        source,
        len(known),
        options.samples,
        options.seed,
        found,
        choice.settings.layers,
        suggested,
        file,
        choice.remark,
    )


def write_suggested(
    home: Path, file: Path, options: TraceOptions, choice: ModelChoice, suggested: tuple[int, ...] | None
) -> None:
    """Write the model's settings with the suggested layers in them; raise SettingsError where there are none."""
    if suggested is None:
        raise SettingsError(
            "--write-preset: severing the MLPs has no effect beyond chance, so no layers are suggested; trace more"
            " facts with --facts, or try layers with `kbsync calibrate`"
        )
    settings = replace(choice.settings, layers=suggested)
    remark = f"Layers suggested by `kbsync trace --facts {options.facts}`; all else as before, tried on no edit."
    write_preset(file, new_preset(home, file.stem, options.model, choice, settings), remark)
