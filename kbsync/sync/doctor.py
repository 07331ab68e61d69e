"""Doctor: can this machine edit this model, and how long will it take? Writes nothing and needs no ledger."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kbsync.errors import EditError, KbsyncError
from kbsync.memit import MemitSettings
from kbsync.memit.extensions.estimates import (
    Need,
    RequestRows,
    graph_bytes,
    memory_needs,
    row_tokens,
    solve_operations,
    solve_rate,
    target_batch,
    target_costs,
    token_rate,
)
from kbsync.models import (
    TEST_SUBJECTS,
    DeviceMemory,
    LoadedModel,
    Misplaced,
    ModelSizes,
    list_devices,
    misplaced_subjects,
    sizes_of,
)
from kbsync.sync.home import AS_STORED, Loading, Progress, model_name, silent
from kbsync.sync.model import ModelChoice, choose_model, source_of
from kbsync.sync.preflight import memory_of, too_large

TOKENS_A_DIMENSION = 10
"""tokens of text for each of the m dimensions of a covariance (DESIGN section 2.4)"""


@dataclass(frozen=True, slots=True)
class Loads:
    """What was loaded, and where."""

    source: str
    architecture: str
    family: str
    blocks: int
    d: int
    m: int
    vocabulary: int
    tied_head: bool
    tokenizer: str
    bos: str | None
    """the token that the tokenizer puts before each text; None where it puts none"""
    chat_template: bool
    device: str
    dtype: str
    weights_mb: float
    layers: tuple[int, ...]
    """edited layers"""
    remark: str | None


@dataclass(frozen=True, slots=True)
class Memory:
    """What a phase holds beside the weights, and whether the device has room for it."""

    phase: str
    what: dict[str, float]
    """part -> MB"""
    total_mb: float
    fits: bool


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The doctor's findings; `works` is false where something cannot work, and `problems` says what."""

    model: str
    edits: int
    devices: list[DeviceMemory]
    loads: Loads | None = None
    memory: list[Memory] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    """phase -> estimate for the edits"""
    rates: dict[str, float] = field(default_factory=dict)
    """what the estimates rest on: targets a second, tokens a second, 1e9 operations a second"""
    subjects: int = 0
    """awkward subjects that the tokenizer was tried with"""
    misplaced: list[Misplaced] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def works(self) -> bool:
        """Whether nothing stands in the way."""
        return not self.problems


def doctor(
    home: Path, model: str, edits: int, *, loading: Loading = AS_STORED, progress: Progress = silent
) -> Diagnosis:
    """Examine a model for `edits` edits. What cannot work is a finding, not an error.

    Presets of `home` are known; nothing there is written, and there need be no such folder.
    """
    there = list_devices()
    told = Diagnosis(model_name(model, home), edits, there)
    try:
        if reason := too_large(source_of(model, home), loading, there):
            told.problems.append(reason)
            return told
        choice = choose_model(model, home=home, loading=loading, progress=progress)
    except KbsyncError as error:
        told.problems.append(str(error))
        return told
    return examined(choice, told, progress)


def examined(choice: ModelChoice, told: Diagnosis, progress: Progress) -> Diagnosis:
    """Return the findings on a loaded model."""
    loaded, settings = choice.loaded, choice.settings
    sizes = sizes_of(loaded)
    progress("trying difficult subjects", 0, 1)
    misplaced = misplaced_subjects(loaded.tokenizer)
    progress("trying difficult subjects", 1, 1)
    memory: list[Memory] = []
    seconds: dict[str, float] = {}
    rates: dict[str, float] = {}
    problems = subject_problems(misplaced)
    remarks: list[str] = []
    try:
        progress("trial", 0, 3)
        seconds, rates = estimates(loaded, settings, sizes, told.edits, progress)
        memory = fitting(loaded, settings, sizes, told.edits)
    except EditError as error:
        problems.append(str(error))
    problems += [
        f"the {row.phase} needs {row.total_mb:,.0f} MB, more than there is: edit fewer facts, or use a"
        " smaller --dtype or another --device"
        for row in memory
        if not row.fits
    ]
    if told.edits > sizes.m:
        remarks.append(f"{told.edits:,} edits are more than the {sizes.m:,} keys that a layer can distinguish")
    if sizes.positions is not None and settings.sequence_length > sizes.positions:
        remarks.append(
            f"the covariance's sequence_length, {settings.sequence_length}, is more than the model's {sizes.positions}"
            f" positions: give apply --set sequence_length={sizes.positions}"
        )
    return Diagnosis(
        told.model,
        told.edits,
        list_devices(),
        loads_of(choice, sizes),
        memory,
        seconds,
        rates,
        len(TEST_SUBJECTS),
        misplaced,
        problems,
        remarks,
    )


def loads_of(choice: ModelChoice, sizes: ModelSizes) -> Loads:
    """Return what was loaded."""
    loaded = choice.loaded
    ids = loaded.tokenizer("x")["input_ids"]
    first = str(loaded.tokenizer.decode(ids[:1])) if ids and ids[0] in loaded.tokenizer.all_special_ids else None
    return Loads(
        source=loaded.source,
        architecture=loaded.architecture,
        family=loaded.family.name,
        blocks=sizes.blocks,
        d=sizes.d,
        m=sizes.m,
        vocabulary=sizes.vocabulary,
        tied_head=sizes.tied_head,
        tokenizer=f"{type(loaded.tokenizer).__name__} ({type(loaded.tokenizer.backend_tokenizer.model).__name__})",
        bos=first,
        chat_template=bool(loaded.tokenizer.chat_template),
        device=str(loaded.device),
        dtype=str(loaded.model.dtype).removeprefix("torch."),
        weights_mb=megabytes(sizes.weights_bytes),
        layers=choice.settings.layers,
        remark=choice.remark,
    )


def subject_problems(misplaced: Sequence[Misplaced]) -> list[str]:
    """Return one problem for the subjects that were not found, if there are any."""
    if not misplaced:
        return []
    subjects = list(dict.fromkeys(one.subject for one in misplaced))
    return [
        f"the last token of {len(subjects)} of {len(TEST_SUBJECTS)} difficult subjects is not found, such as"
        f" {subjects[0]!r}: edits of such subjects would go wrong"
    ]


def estimates(
    loaded: LoadedModel, settings: MemitSettings, sizes: ModelSizes, edits: int, progress: Progress
) -> tuple[dict[str, float], dict[str, float]]:
    """Return seconds by phase for `edits` edits, and the rates that were measured for it."""
    costs = target_costs(loaded, settings)
    progress("trial", 1, 3)
    tokens = token_rate(loaded, settings, min(settings.sequence_length, sizes.positions or settings.sequence_length))
    progress("trial", 2, 3)
    operations = solve_rate(loaded.device, sizes.m)
    progress("trial", 3, 3)
    request = costs.seconds(settings.steps)
    work = solve_operations(sizes, len(settings.layers), settings.sweeps, edits)
    seconds = {
        "covariance": TOKENS_A_DIMENSION * sizes.m / tokens,
        "targets": edits * request,
        "solve": work / operations,
    }
    rates = {"targets": 1 / request, "covariance_tokens": tokens, "solve_gflops": operations / 1e9}
    return seconds, rates


def fitting(loaded: LoadedModel, settings: MemitSettings, sizes: ModelSizes, edits: int) -> list[Memory]:
    """Return each phase's memory, and whether it fits.

    Targets fit if one request does, as batches halve where memory ends; a solve fits on the CPU, too.
    """
    rows = RequestRows.of(row_tokens(loaded, settings))
    graph = graph_bytes(loaded, settings)
    there = list_devices()
    room = memory_of(loaded.device, there).free
    batch = target_batch(loaded.device.type, edits, rows)

    def needs(together: int) -> list[Need]:
        keeps = settings.rest_weight > 0
        return memory_needs(sizes, len(settings.layers), edits, rows, together, graph, keeps=keeps)

    whole, least = needs(batch), needs(1)
    made = []
    for phase in dict.fromkeys(need.phase for need in whole):
        parts = {need.what: megabytes(need.bytes) for need in whole if need.phase == phase}
        total, lowest = (sum(need.bytes for need in some if need.phase == phase) for some in (whole, least))
        most = max(one.free for one in there) if phase == "solve" else room
        made.append(Memory(phase, parts, megabytes(total), lowest <= most))
    return made


def megabytes(count: int) -> float:
    """Return bytes as MB (2^20), with a digit that says something of small ones."""
    value = count / 2**20
    return round(value, 1 if value >= 1 else 1 - math.floor(math.log10(value))) if value else 0.0
