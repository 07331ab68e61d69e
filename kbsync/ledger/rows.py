"""The values that the ledger takes and gives. Times are ISO 8601 in UTC; ids are the rows' ids in ledger.db."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from kbsync.facts import EditRequest, Entity, Fact, Skipped, Wording

Withdraw = Literal["all", "none"] | frozenset[str]


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a pull's diff, in labels: ``+`` has no previous object, ``-`` no object, ``~`` both.

    ``=`` is the same object under another label, of its own or of its subject.
    """

    sign: Literal["+", "~", "-", "="]
    subject: str
    relation: str
    previous: str | None
    object: str | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class SkippedRow(Skipped):
    """The same on record; `first_seen` and `last_seen` are pulls."""

    source: str
    relation: str
    first_seen: int
    last_seen: int


@dataclass(frozen=True, slots=True)
class PullCounts:
    """What a pull found: facts by what became of them, and subjects that have several objects (`conflicting`)."""

    pull: int
    new: int
    changed: int
    withdrawn: int
    unchanged: int
    conflicting: int
    relabelled: int = 0
    """the same object under another label, of its own or of its subject"""
    standing: int = 0
    """facts of this source and relation that stood before"""
    repeats: int | None = None
    """the earlier pull that this one says again, in all but the time; None where anything is new"""


@dataclass(frozen=True, slots=True)
class PullRow:
    id: int
    source: str
    relation: str
    query: str | None
    started: str
    finished: str
    new: int
    changed: int
    withdrawn: int
    unchanged: int
    conflicting: int
    as_of: str | None
    """the day that was asked about; None: the day of the pull"""
    scope: Mapping[str, Any] | None = None
    """what narrowed it: class, min_sitelinks, limit, subjects; None: the whole relation, or an older record"""
    relabelled: int = 0


@dataclass(frozen=True, slots=True)
class FactRow:
    """A statement of one source. `first_seen`, `last_seen` and `withdrawn` are pulls; not withdrawn: None."""

    id: int
    source: str
    relation: str
    subject_key: str
    subject_label: str
    subject_id: str | None
    object_key: str
    object_label: str
    object_id: str | None
    rank: str
    since: str | None
    first_seen: int
    last_seen: int
    withdrawn: int | None
    wording: Wording | None = None
    """the fact's own, in place of its relation's template"""

    @property
    def fact(self) -> Fact:
        subject = Entity(self.subject_label, self.subject_id)
        thing = Entity(self.object_label, self.object_id)
        return Fact(subject, self.relation, thing, self.rank, self.since, self.wording)


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """An object that a fact named earlier, and the pull that changed or withdrew it."""

    fact: int
    object_key: str
    object_label: str
    object_id: str | None
    rank: str
    since: str | None
    ended: Literal["changed", "relabelled", "withdrawn"]
    ended_by: int
    restated_by: int | None
    """the pull that stated a withdrawn fact again, where that is on record"""
    subject_label: str | None = None
    """as it was; None in older records"""


@dataclass(frozen=True, slots=True)
class ConflictNote:
    """A conflict that an apply met, and how it was resolved; `Ledger.finish_batch` records it."""

    relation: str
    subject_key: str
    subject: str
    objects: tuple[Entity, ...]
    resolution: str


@dataclass(frozen=True, slots=True)
class ConflictRow:
    """A conflict on record: seen by a pull (then `batch` is None) or resolved by an apply (then `pull` is)."""

    id: int
    pull: int | None
    batch: int | None
    relation: str
    subject_key: str
    subject: str
    objects: tuple[Entity, ...]
    resolution: str


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A base model. `key` is its content id; `weights_sha256` is that of all weights and the tokenizer."""

    key: str
    name: str
    revision: str | None
    architecture: str
    weights_sha256: str
    settings: Mapping[str, Any]
    contexts: tuple[str, ...]
    layers: tuple[int, ...]
    recorded: str
    used: str


@dataclass(frozen=True, slots=True)
class TargetRow:
    """Where a target vector z lies: a row of the tensor in `file`, with the steps it took and its last loss."""

    key: str
    model: str
    file: str
    row: int
    steps: int
    loss: float


@dataclass(frozen=True, slots=True)
class BatchRow:
    """All edits of one apply. `seconds` by phase; `files` maps names in the tensors folder to their sha256.

    `parent` is the batch whose state it went on from; None where that was the base model. `work` is what it had to do
    (edits, targets to optimise, facts held) and the bounds that its result was held to; {} in older batches.
    """

    id: int
    model: str
    algorithm: str
    settings: Mapping[str, Any]
    started: str
    finished: str | None
    state: Literal["running", "done", "failed", "rolled back"]
    reason: str | None
    device: str
    seconds: Mapping[str, float]
    peak_memory_mb: float | None
    files: Mapping[str, str]
    parent: int | None = None
    work: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NewEdit:
    """A request that an apply wrote: `fact` is a FactRow's id, `request` an EditRequest's, `target` a z cache key."""

    fact: int
    relation: str
    subject_key: str
    subject: str
    object_key: str
    object: str
    prompt: str
    request: str
    target: str | None
    retries: int = 0
    """how often it was given more steps and a larger clamp, since the model did not recall it"""


@dataclass(frozen=True, slots=True)
class EditRow:
    """An edit on record, as it was written; `ended_by` is the batch that superseded or retracted it.

    Its state is that of now: rolled back where its batch is.
    """

    id: int
    batch: int
    model: str
    fact: int
    relation: str
    subject_key: str
    subject: str
    object_key: str
    object: str
    prompt: str
    request: str
    target: str | None
    state: Literal["active", "superseded", "retracted", "rolled back"]
    ended_by: int | None
    retries: int = 0

    @property
    def as_request(self) -> EditRequest:
        """The request as it was written, without what was beside the prompt."""
        return EditRequest(self.relation, self.subject, self.prompt, self.object)


@dataclass(frozen=True, slots=True)
class EndingRow:
    """That a batch ended an edit. Two batches may have ended the same one, where a rollback lies between them."""

    batch: int
    edit: int
    state: Literal["superseded", "retracted"]


@dataclass(frozen=True, slots=True)
class RollbackRow:
    """That another batch's state was made current, without an apply; None is the base model."""

    id: int
    model: str
    from_batch: int | None
    to_batch: int | None
    time: str


@dataclass(frozen=True, slots=True)
class VetoRow:
    """A user's word that a fact is not to be written. `object_key` None: whatever its object; `lifted` None: holds."""

    id: int
    relation: str
    subject_key: str
    subject: str
    object_key: str | None
    object: str | None
    reason: str | None
    since: str
    lifted: str | None


@dataclass(frozen=True, slots=True)
class Metric:
    """A measured figure: of the edit that wrote `request`, or of the whole batch where `request` is None."""

    name: str
    before: float | None
    after: float | None
    request: str | None = None


@dataclass(frozen=True, slots=True)
class MetricRow:
    """A figure on record; `edit` is None for the whole batch."""

    batch: int
    edit: int | None
    name: str
    before: float | None
    after: float | None
