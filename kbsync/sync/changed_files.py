"""A file that was pulled before is not read whole again: only what changed in it, where that is sure to be enough.

It is where the earlier pull was of whole relations in the same language, and nothing in the file depends on the day.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kbsync.ledger import Ledger
from kbsync.ledger.pages import FileReading, find_reading, record_reading
from kbsync.sources import Ask, Source

if TYPE_CHECKING:
    from kbsync.sources.rdf_changes import Digest
    from kbsync.sources.rdf_file import ChangedPart

__all__ = ["FileState", "look_at"]


@dataclass(frozen=True, slots=True)
class FileState:
    """How a source stands: the file's digest, how it stood earlier, and the part to read; each None where not known."""

    digest: "Digest | None" = None
    earlier: FileReading | None = None
    part: "ChangedPart | None" = None

    def notes(self, relation: str) -> tuple[str, ...]:
        """Return what was told of a relation when it was last read whole, where only a part is read now."""
        return tuple(self.earlier.skipped.get(relation, ())) if self.part is not None and self.earlier else ()

    def remember(
        self,
        ledger: Ledger,
        source: str,
        asks: Sequence[Ask],
        pulls: Mapping[str, int],
        told: Mapping[str, Sequence[str]],
    ) -> None:
        """Record the state with the `pulls` that were made of it and what each has `told`, by relation."""
        if self.digest is None:
            return
        skipped = {
            relation: self.notes(relation) or [f"{line} (as of pull {pulls[relation]})" for line in lines]
            for relation, lines in told.items()
        }
        asked = asks[0]
        record_reading(
            ledger, source, FileReading(asked.language, asked.day.isoformat(), self.digest.pack(), pulls, skipped)
        )


def look_at(home: Path, source: Source, asks: Sequence[Ask]) -> FileState:
    """Return how a source stands against its last reading; nothing is known of one that is no N-Triples file.

    Raises SourceError if the file cannot be read.
    """
    if not source.name.lower().endswith(".nt") or any(ask.partial or ask.aliases for ask in asks):
        return FileState()
    from kbsync.sources.rdf_changes import Digest
    from kbsync.sources.rdf_file import RdfFile

    digest = source.digest() if isinstance(source, RdfFile) else None
    if digest is None or not isinstance(source, RdfFile):
        return FileState()
    earlier = _earlier(home, source.name)
    if earlier is None or not _fits(earlier, asks):
        return FileState(digest)
    before = Digest.unpack(earlier.digest)
    if (digest.timed or before.timed) and earlier.day != asks[0].day.isoformat():
        return FileState(digest)
    return FileState(digest, earlier, source.changed_since(before, digest))


def _earlier(home: Path, source: str) -> FileReading | None:
    if not (home / "ledger.db").exists():
        return None
    with Ledger.open(home) as ledger:
        return find_reading(ledger, source)


def _fits(earlier: FileReading, asks: Sequence[Ask]) -> bool:
    return all(ask.relation in earlier.pulls and ask.language == earlier.language for ask in asks)
