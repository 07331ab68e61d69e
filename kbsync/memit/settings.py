"""MEMIT's settings, and the presets that hold them for known models."""

import math
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml

from kbsync.errors import SettingsError, SourceError
from kbsync.files import read_text, write_new
from kbsync.resources import preset_file, presets_folder

if typing.TYPE_CHECKING:
    from _typeshed import DataclassInstance

S = TypeVar("S", bound="DataclassInstance")
SEARCH_DTYPES = ("float32", "bfloat16", "auto")


@dataclass(frozen=True, slots=True)
class MemitSettings:
    """Everything that an edit's result depends on beside model, facts and templates.

    The defaults are those published for GPT-J: MEMIT as it was published, with nothing that kbsync adds.
    """

    layers: tuple[int, ...] = (3, 4, 5, 6, 7, 8)
    """R: edited layers, ascending"""
    lambda_: float = 15000.0
    """weight of the covariance in the solve (Eqn. 15); written `lambda` in YAML and on the command line"""
    steps: int = 25
    """times that a request's loss is evaluated at most"""
    lr: float = 0.5
    """Adam's learning rate for delta_i"""
    clamp_norm_factor: float = 0.75
    """|delta_i| stays within this times |h_i|"""
    weight_decay: float = 0.5
    """weight of |delta| / |h|^2 in the loss"""
    kl_factor: float = 0.0625
    """weight of KL(after || before) on the bare subject"""
    sweeps: int = 1
    """passes over R; 1 is the paper, further ones solve again for the total delta"""
    rest_weight: float = 0.0
    """weight, in the solve, of the keys at the rest of the edits' prompts: at every token but the subject's last, the
    object's too; 0 is none, as in the paper"""
    hold_subjects: int = 0
    """other subjects of the edited relations, not edited themselves, whose keys in the same wordings the deltas leave
    alone; 0 is none, as in the paper"""
    hold_relations: int = 0
    """other relations with subjects of the same kind whose prompts about the edited subjects the deltas leave alone; 0
    is none, as in the paper"""
    search_dtype: str = "float32"
    """what the target search computes in: float32, bfloat16, or auto, which is bfloat16 where a short trial shows that
    this processor gains by it; z, losses and the optimiser are float32 all the same"""
    wordings: int = 0
    """further wordings of each fact that it is written on with one delta, the question first; 0 is the edit prompt
    alone, as in the paper"""
    shared_endings: bool = False
    """whether facts whose subjects end in the same words are written at the first of these, where the subjects' keys
    still differ, and not at the subject's last token"""
    stop_weight: float = 0.0
    """weight, in a target's loss, of what ends the answer behind the object: a full stop, in a chat the token that ends
    the turn; 0 is none, as in the paper"""
    minibatches: int = 1
    """parts that the prompts of a fact, its wordings and contexts, take turns in: each step of the search reads one;
    1 is all in every step, as in the paper"""
    contexts: int = 5
    """sampled prefixes x_j beside the empty one"""
    context_tokens: int = 10
    """tokens of a sampled prefix"""
    context_starts: tuple[str, ...] = ("The", "Therefore", "Because", "I", "You")
    """what the sampled prefixes begin with, in turn"""
    covariance_tokens: int | None = None
    """tokens of the corpus that the covariance is taken over; none means ten for each dimension m of C"""
    sequence_length: int = 512
    """tokens of a row that the corpus is packed in"""

    def __post_init__(self) -> None:
        """Refuse what no model can be edited with."""
        if not self.layers or any(low >= high for low, high in zip(self.layers, self.layers[1:], strict=False)):
            raise SettingsError(f"layers: {list(self.layers)} are not ascending block numbers")
        if self.layers[0] < 0:
            raise SettingsError(f"layers: {self.layers[0]} is below 0")
        for name in ("lambda_", "lr", "clamp_norm_factor"):
            self._check(name, getattr(self, name) > 0, "above 0")
        weights, counts = ("weight_decay", "kl_factor", "rest_weight", "stop_weight"), ("contexts", "wordings")
        for name in (*weights, *counts, "hold_subjects", "hold_relations"):
            self._check(name, getattr(self, name) >= 0, "0 or more")
        for name in ("steps", "sweeps", "minibatches", "context_tokens"):
            self._check(name, getattr(self, name) >= 1, "1 or more")
        self._check("covariance_tokens", self.covariance_tokens is None or self.covariance_tokens >= 1, "1 or more")
        self._check("sequence_length", self.sequence_length >= 8, "8 or more")
        self._check("search_dtype", self.search_dtype in SEARCH_DTYPES, f"one of {', '.join(SEARCH_DTYPES)}")
        self._check("context_starts", bool(self.context_starts) or not self.contexts, "at least one text")

    def _check(self, name: str, good: bool, wanted: str) -> None:
        value = getattr(self, name)
        if not good or (isinstance(value, float) and not math.isfinite(value)):
            raise SettingsError(f"{name.rstrip('_')}: {value} is not {wanted}")

    def group_clamp(self, members: int) -> float:
        """Return the clamp of a group: it grows with the root of the objects that one delta has to hold."""
        return self.clamp_norm_factor * math.sqrt(members)

    def group_steps(self, members: int) -> int:
        """Return the steps of a group: a fifth more for each further object."""
        return round(self.steps * (1 + 0.2 * (members - 1)))

    def as_dict(self) -> dict[str, Any]:
        """Return the settings under their YAML names, for the record."""
        return {
            name.rstrip("_"): list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }

    def with_values(self, values: Mapping[str, Any]) -> "MemitSettings":
        """Return these settings with some fields changed; `values` by YAML name, as YAML or as command-line text.

        ``published: true`` stands for MEMIT as it was published, in these layers; other values change that.
        """
        rest = dict(values)
        wanted = str(rest.pop("published", False)).lower()
        if wanted not in ("true", "false"):
            raise SettingsError(f"published: {wanted!r} is neither true nor false")
        return changed(self.published() if wanted == "true" else self, rest)

    def published(self) -> "MemitSettings":
        """Return MEMIT as it was published: one sweep, one wording, and nothing that kbsync adds.

        Layers, lambda and the search are these; where the search has no contexts, it gets the paper's.
        """
        return replace(self, **PLAIN, contexts=self.contexts or MemitSettings().contexts)


PLAIN: dict[str, Any] = {
    **{"sweeps": 1, "wordings": 0, "shared_endings": False, "stop_weight": 0.0, "search_dtype": "float32"},
    **{"minibatches": 1, "rest_weight": 0.0, "hold_subjects": 0, "hold_relations": 0},
}
"""what switches off all that kbsync adds to MEMIT"""
MEASURED: dict[str, Any] = {
    **{"steps": 60, "clamp_norm_factor": 2.0, "sweeps": 2, "wordings": 5, "shared_endings": True, "contexts": 0},
    **{"minibatches": 2, "rest_weight": 1.0, "hold_subjects": 30, "hold_relations": 4},
}
"""what helped on both pretrained models that it was tried on, of two families (docs/real-models.md)"""
LAMBDA = 1.95
"""lambda for each dimension m of a key"""
RETIRED = {"hold": 0, "hold_weight": 0, "restore_weight": 0, "emphasis": 1, "coupling": 0, "group_weight": 1}
"""settings of earlier versions that a ledger may have on record, and the values at which they did nothing"""


def retired_settings(values: Mapping[str, Any]) -> list[str]:
    """Return the settings of a ledger's record that had an effect, and that kbsync no longer has."""
    return [name for name, without in RETIRED.items() if values.get(name, without) != without]


def settings_on_record(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a ledger's record by name, without those that kbsync no longer has."""
    return {name: value for name, value in values.items() if name not in RETIRED}


def default_settings(depth: int, m: int) -> MemitSettings:
    """Return the settings of a model that has none of its own, from its blocks and the size of its keys.

    Layers are at the same share of the depth as GPT-J's (3 to 8 of 28). One layer gives a key the share a / (1 + a) of
    its residual, a = k^T C^-1 k / lambda, and k^T C^-1 k is about m: so lambda grows with m. 0.92 m would be GPT-J's
    15,000; twice that costs the text less where a fact has several wordings.
    """
    first, last = round(depth * 3 / 28), min(round(depth * 8 / 28), depth - 2)
    layers = tuple(range(first, max(first, last) + 1))
    return MemitSettings(layers=layers, lambda_=float(round(LAMBDA * m)), **MEASURED)


def changed(settings: S, values: Mapping[str, Any]) -> S:
    """Return `settings`, a dataclass, with some fields changed; `values` by YAML name, as YAML or as command-line text.

    A field that ends in _ (``lambda_``) is written without it. Raises SettingsError for a field that does not exist or
    a value that is not of its type.
    """
    hints = typing.get_type_hints(type(settings))
    types = {one.name: hints[one.name] for one in fields(settings)}
    taken = {}
    for name, value in values.items():
        field = name if name in types else f"{name}_"
        if field not in types:
            known = ", ".join(sorted(known.rstrip("_") for known in types)) or "none"
            raise SettingsError(f"unknown setting {name!r}; known: {known}")
        taken[field] = coerce(name, value, types[field])
    return replace(settings, **taken)


def coerce(name: str, value: Any, wanted: Any) -> Any:
    """Return `value` as the field's type, from YAML's own or from text (``--set layers=0,1,2``)."""
    if type(None) in typing.get_args(wanted):
        if value is None or value == "none":
            return None
        (wanted,) = (kind for kind in typing.get_args(wanted) if kind is not type(None))
    try:
        if typing.get_origin(wanted) is tuple:
            item = typing.get_args(wanted)[0]
            parts = value.split(",") if isinstance(value, str) else value
            return tuple(coerce(name, part.strip() if isinstance(part, str) else part, item) for part in parts)
        if wanted is int:
            if isinstance(value, float) or (isinstance(value, str) and not value.strip().lstrip("-").isdigit()):
                raise ValueError
            return int(value)
        return wanted(value)
    except (TypeError, ValueError):
        kind = {int: "a whole number", float: "a number"}.get(wanted, "a list such as 0,1,2")
        raise SettingsError(f"{name}: {value!r} is not {kind}") from None


@dataclass(frozen=True, slots=True)
class Preset:
    """A known model: where it is loaded from, and its settings."""

    name: str
    model: str
    """hub id or directory; ``fixtures/...`` for what travels with kbsync"""
    settings: MemitSettings
    corpus: str | None = None
    """file of the covariance's text, ``fixtures/...`` for one that travels with kbsync; None where there is none"""
    max_perplexity_increase: float | None = None
    """percent by which edits may raise perplexity; None is as for any model"""
    max_specificity_loss: float | None = None
    """points by which edits may lower NS; None is as for any model"""
    max_weight_change: float | None = None
    """percent of its norm by which edits may change a layer; None is as for any model"""
    max_known_loss: float | None = None
    """percent of the edited subjects' other known facts that edits may lose; None is no bound"""
    max_task_loss: float | None = None
    """points by which edits may lower a task of lm-evaluation-harness; None is no bound"""
    package: str | None = None
    """file of an installed package that stands for the model, as ``package/name``; None where there is none"""


TEXTS = ("corpus", "package")
"""fields of a preset that are texts and may be missing"""
BOUNDS = ("max_perplexity_increase", "max_specificity_loss", "max_weight_change", "max_known_loss", "max_task_loss")
"""fields of a preset that are numbers"""


def preset_names() -> list[str]:
    """Return the names of kbsync's own presets."""
    return sorted(path.stem for path in presets_folder().glob("*.yaml"))


def load_preset(name: str, home: Path | None = None) -> Preset | None:
    """Return the preset of this name, of ``home/presets`` before kbsync's own, or None.

    Raises SettingsError for a file that is no preset.
    """
    file = preset_file(name, home)
    if file is None:
        return None
    try:
        content = yaml.safe_load(read_text(file))
    except (SourceError, yaml.YAMLError) as error:
        raise SettingsError(f"preset {file} cannot be read: {' '.join(str(error).split())}") from error
    if (
        not isinstance(content, dict)
        or not {"model", "settings"} <= content.keys() <= {"model", "settings", *TEXTS, *BOUNDS}
        or not isinstance(content["settings"], dict)
        or not all(isinstance(content.get(key, ""), str) for key in ("model", *TEXTS))
    ):
        allowed = f"model, settings and, optionally, {', '.join(TEXTS)}, {' and '.join(BOUNDS)}"
        raise SettingsError(f"preset {file}: it may hold {allowed}, and nothing else")
    try:
        settings = MemitSettings().with_values(content["settings"])
        bounds = {name: coerce(name, content[name], float) for name in BOUNDS if name in content}
    except SettingsError as error:
        raise SettingsError(f"preset {file}: {error}") from error
    return Preset(name, content["model"], settings, **{key: content[key] for key in TEXTS if key in content}, **bounds)


def write_preset(file: Path, preset: Preset, remark: str) -> None:
    """Write a preset with a remark above it; what its settings share with the defaults is left out.

    Raises SettingsError where there is a file of this name, or it cannot be written.
    """
    defaults = MemitSettings().as_dict()
    content: dict[str, Any] = {"model": preset.model}
    content |= {name: value for name in (*TEXTS, *BOUNDS) if (value := getattr(preset, name)) is not None}
    # Layers and lambda fit one model alone, so they stand there whatever the defaults will be.
    content["settings"] = {
        name: value
        for name, value in preset.settings.as_dict().items()
        if value != defaults[name] or name in ("layers", "lambda", "clamp_norm_factor")
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_new(file, f"# {remark}\n{text}")
    except OSError as error:
        raise SettingsError(f"cannot write the preset {file}: {error.strerror or error}") from error
