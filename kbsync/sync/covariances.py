"""The covariances of a model's edited layers: found beside the ledger, or collected over a corpus now.

A file for each layer, named by the hash of all that its keys depend on: weights up to that layer, tokenizer, text,
row length, tokens. So models of other names share it, layers at hand are not collected again when others are wanted,
and another person's file is as good as one's own.
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from kbsync import __version__
from kbsync.errors import LedgerError
from kbsync.facts import content_id
from kbsync.ledger import content_of, read_metadata, read_tensors, replace_tensors, write_tensors
from kbsync.memit.covariance import covariance_text, key_widths, sum_moments
from kbsync.memit.fast.moments import MomentSums, PackedText, unpack_triangle
from kbsync.models import LoadedModel, Team, list_devices
from kbsync.models.checkpoint import tokenizer_hash, weights_hashes
from kbsync.sync.corpus import SAMPLED, corpus_name, covariance_documents, no_corpus, sampled_file, write_text
from kbsync.sync.home import Progress
from kbsync.sync.model import ModelChoice, together

CHECKPOINT_SECONDS = 60.0
WRITING_SHARE = 0.1
"""of the time that checkpoints may take"""
MEMORY_SHARE = 4
"""one part in so many of the CPU's free memory may go to covariances that are kept from sweep to sweep"""
UPPER = "upper"


@dataclass(frozen=True, slots=True)
class CovarianceRecord:
    """What a layer's covariance was taken over, and how it went. It is kept in the file's header."""

    model: str
    """name of the model that it was collected with; any of the same weights can use it"""
    layer: int
    m: int
    weights: str
    """SHA-256 of embeddings and blocks up to this layer"""
    tokenizer: str
    """SHA-256"""
    corpus: str
    """name"""
    text: str
    """SHA-256 of the documents that were read"""
    length: int
    """tokens of a row"""
    tokens: int
    change: float | None
    """|C_n - C_(n/2)|_F / |C_n|_F, estimated; None where it was too short to tell"""
    seconds: float
    """of the pass, all its layers together"""
    version: str
    """of kbsync"""

    @property
    def key(self) -> str:
        """Content id of all that the covariance depends on."""
        return content_id("covariance2", [self.weights, self.tokenizer, self.text, self.length, self.tokens])

    def path(self, folder: Path) -> Path:
        return folder / f"{self.key.replace(':', '-')}.safetensors"

    def metadata(self) -> dict[str, str]:
        return {name: "" if value is None else str(value) for name, value in asdict(self).items()}

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> "CovarianceRecord":
        """Return the record that `metadata` gave; raise ValueError where it is none."""
        try:
            numbers = {name: int(metadata[name]) for name in ("layer", "m", "length", "tokens")}
            texts = {name: metadata[name] for name in ("model", "weights", "tokenizer", "corpus", "text", "version")}
            change = float(metadata["change"]) if metadata["change"] else None
            return cls(**numbers, **texts, change=change, seconds=float(metadata["seconds"]))  # type: ignore[arg-type]
        except KeyError as error:
            raise ValueError(f"no {error} in the header") from error


class Covariances(Mapping[int, torch.Tensor]):
    """Layer -> C [m, m] in float64 on the CPU; two of them need not fit in memory.

    Those that `room` bytes hold are read from their files once, the others whenever they are asked for.
    """

    def __init__(
        self, folder: Path, records: Mapping[int, CovarianceRecord], cached: frozenset[int], room: int = 0
    ) -> None:
        """Take the records of a home's tensors `folder`; `cached` are the layers that were on record before."""
        self.folder, self.records, self.cached, self.room = folder, records, cached, room
        self.kept: dict[int, torch.Tensor] = {}

    def __getitem__(self, layer: int) -> torch.Tensor:
        if layer in self.kept:
            return self.kept[layer]
        whole = unpack_triangle(self.packed(layer))
        if whole.nbytes <= self.room:
            self.room -= whole.nbytes
            self.kept[layer] = whole
        return whole

    def packed(self, layer: int) -> torch.Tensor:
        """Return the upper triangle of C, [m (m + 1) / 2]."""
        return read_tensors(self.records[layer].path(self.folder))[UPPER]

    def contents(self) -> dict[str, str]:
        paths = [record.path(self.folder) for record in self.records.values()]
        return {path.name: content_of(path) for path in paths}

    def __iter__(self) -> Iterator[int]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)


def covariances_for(folder: Path, choice: ModelChoice, progress: Progress) -> Covariances:
    """Return C of each edited layer; what is not yet in `folder`, a home's tensors, is collected and kept there.

    Without a corpus, those on record for these weights are used, of several the one of the most tokens. Raises
    SettingsError where there is none either.
    """
    loaded, layers = choice.loaded, choice.settings.layers
    weights, tokenizer = weights_hashes(loaded, layers), tokenizer_hash(loaded)
    if choice.corpus is None:
        found = on_record(folder, weights, tokenizer)
        if found is None:
            raise no_corpus(choice.name)
        first = found[layers[0]]
        progress(f"covariance: on record, {first.tokens} tokens of {first.corpus}", 1, 1)
        return Covariances(folder, found, frozenset(layers), room_for(choice))
    text = covariance_text(loaded, covariance_documents(choice.corpus), choice.settings)
    read = (tokenizer, corpus_name(choice.corpus), text.sha256, text.length, text.tokens)
    named = {
        layer: CovarianceRecord(choice.name, layer, m, weights[layer], *read, None, 0.0, __version__)
        for layer, m in key_widths(loaded, layers).items()
    }
    missing = [layer for layer in layers if not named[layer].path(folder).exists()]
    if missing:
        collect(folder, choice, text, [named[layer] for layer in missing], progress)
    records = {layer: read_record(record.path(folder)) for layer, record in named.items()}
    return Covariances(folder, records, frozenset(layers) - frozenset(missing), room_for(choice))


def room_for(choice: ModelChoice) -> int:
    """Return how many bytes of covariances are worth keeping: with one sweep each is read once anyway."""
    return list_devices()[-1].free // MEMORY_SHARE if choice.settings.sweeps > 1 else 0


def collect(
    folder: Path, choice: ModelChoice, text: PackedText, wanted: Sequence[CovarianceRecord], progress: Progress
) -> None:
    """Collect the covariances of some layers in one pass, going on where a killed run stopped, and write them."""
    began, widths = time.monotonic(), {record.layer: record.m for record in wanted}
    sums = MomentSums(widths)
    keeper = Checkpoint(folder / f"{content_id('sums1', [r.key for r in wanted]).replace(':', '-')}.checkpoint", sums)
    own = {"sums": sums, "on_commit": keeper.keep, "due": keeper.due, "progress": progress}
    together(choice.team, add_moments, choice.loaded, text, widths, sums.rows, **own)
    seconds = round(time.monotonic() - began, 2)
    for record in wanted:
        metadata = record.metadata() | {"change": str(sums.change.get(record.layer, "")), "seconds": str(seconds)}
        write_tensors(folder, {UPPER: sums.covariance(record.layer)}, metadata, record.key)
    keeper.path.unlink(missing_ok=True)


def add_moments(
    loaded: LoadedModel,
    text: PackedText,
    widths: Mapping[int, int],
    rows: int,
    *,
    team: Team,
    sums: MomentSums | None = None,
    **own: Any,
) -> None:
    """Add up the moments of a text with a team; the leader alone has `sums`, with the first `rows` rows in them."""
    if sums is None:
        sums = MomentSums(widths)
        sums.rows = rows
    sum_moments(loaded, text, sums, team=team, **own)


class Checkpoint:
    """The sums so far, in a file: once a minute, or less often where writing would take over a tenth of the time."""

    def __init__(self, path: Path, sums: MomentSums) -> None:
        """Go on from the file, where there is one."""
        self.path, self.sums = path, sums
        self.written, self.cost = time.monotonic(), 0.0
        if path.exists():
            sums.restore(read_tensors(path))

    def due(self) -> bool:
        return time.monotonic() - self.written >= max(CHECKPOINT_SECONDS, self.cost / WRITING_SHARE)

    def keep(self) -> None:
        now = time.monotonic()
        replace_tensors(self.path, self.sums.tensors(), {})
        self.written = time.monotonic()
        self.cost = self.written - now


def read_records(folder: Path) -> list[CovarianceRecord]:
    """Return the records of all covariances in a home's tensors; LedgerError names a file that cannot be read."""
    return [read_record(path) for path in sorted(folder.glob("covariance2-*.safetensors"))]


def read_record(path: Path) -> CovarianceRecord:
    """Return the record of the covariance in a file; LedgerError where it has none, or one that is not of its name."""
    try:
        record = CovarianceRecord.of(read_metadata(path))
        if record.path(path.parent) != path:
            raise ValueError("its header was changed")
    except ValueError as error:
        raise LedgerError(f"{path} is no covariance ({error}): delete it; it is collected again") from error
    return record


def on_record(folder: Path, weights: Mapping[int, str], tokenizer: str) -> dict[int, CovarianceRecord] | None:
    """Return the covariances of these layers that were taken over one text; of several the one of the most tokens."""
    found: dict[tuple[int, int, str], dict[int, CovarianceRecord]] = defaultdict(dict)
    for record in read_records(folder):
        if record.tokenizer == tokenizer and weights.get(record.layer) == record.weights:
            found[record.tokens, record.length, record.text][record.layer] = record
    whole = [place for place, records in found.items() if records.keys() == weights.keys()]
    return {layer: found[max(whole)][layer] for layer in weights} if whole else None


def with_text(home: Path, choice: ModelChoice, progress: Progress) -> ModelChoice:
    """Return `choice` with a corpus: the one that is named, else text that the model writes now or wrote before.

    Where covariances of another text are on record (`stats import`) they do, and there is no corpus. Raises
    SettingsError where the model has no token that begins a text, WriteError where the text cannot be kept.
    """
    loaded, folder = choice.loaded, home / "tensors"
    if choice.corpus is not None:
        return choice
    if any(record.corpus != SAMPLED for record in read_records(folder)):
        layers = choice.settings.layers
        found = on_record(folder, weights_hashes(loaded, layers), tokenizer_hash(loaded))
        if found is not None and found[layers[0]].corpus != SAMPLED:
            return choice
    path = sampled_file(home, choice)
    if not path.exists():
        write_text(path, choice, progress)
    return replace(choice, corpus=path)


def kept_text(home: Path, choice: ModelChoice) -> ModelChoice:
    """Return `choice` with the text that the model wrote before, where it has no corpus and there is one."""
    if choice.corpus is not None or not list((home / "corpora").glob(f"{SAMPLED}-*")):
        return choice
    path = sampled_file(home, choice)
    return replace(choice, corpus=path) if path.exists() else choice
