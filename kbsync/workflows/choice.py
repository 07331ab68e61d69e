"""Which model a name means: a preset, a directory, or a hub id; with its settings and its corpus."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kbsync.errors import SettingsError
from kbsync.memit import MemitSettings, load_preset
from kbsync.models import ALONE, LoadedModel, Team, load_model
from kbsync.resources import fixtures_folder
from kbsync.workflows.guards import DEFAULT_BOUNDS, Bounds
from kbsync.workflows.loading import AS_STORED, Loading
from kbsync.workflows.names import model_name

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
    if preset is None:
        MemitSettings().with_values(values or {})  # a misspelt setting shows before a long load
        loaded = load_model(name, **asdict(loading))
        settings, remark = default_settings(loaded), f"{name} has no preset: settings are defaults, not measured ones"
    else:
        preset.settings.with_values(values or {})
        loaded = load_model(preset_path(preset.model), **asdict(loading))
        settings, remark = preset.settings, None
        bounds = bounds.with_values(
            max_perplexity_increase=preset.max_perplexity_increase, max_specificity_loss=preset.max_specificity_loss
        )
        if corpus is None and preset.corpus is not None:
            corpus = Path(preset_path(preset.corpus))
    settings = settings.with_values(values or {})
    depth = len(loaded.family.block_list(loaded.model))
    if settings.layers[-1] >= depth - 1:
        raise SettingsError(
            f"layers: {settings.layers[-1]} is too high; {name} has {depth} blocks, so {depth - 2} is the highest"
        )
    return ModelChoice(model_name(name, home), loaded, settings, corpus, remark, team, bounds)


def source_of(name: str, home: Path | None = None) -> str:
    """Return the directory or hub id that `choose_model` loads for a name."""
    preset = load_preset(name, home)
    return name if preset is None else preset_path(preset.model)


def preset_path(path: str) -> str:
    """Return where a preset's model or corpus lies: ``fixtures/...`` among kbsync's own files, others as they are."""
    return str(fixtures_folder().parent / path) if path.startswith("fixtures/") else path


def default_settings(loaded: LoadedModel) -> MemitSettings:
    """Return GPT-J's published settings with layers at the same share of this model's depth (3 to 8 of 28)."""
    depth = len(loaded.family.block_list(loaded.model))
    first, last = round(depth * 3 / 28), max(round(depth * 3 / 28), round(depth * 8 / 28))
    return MemitSettings(layers=tuple(range(first, last + 1)))
