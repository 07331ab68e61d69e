"""Read a data set's file record by record: nothing is held but the record at hand.

A reader of a further format is a file with `KEYS` and `read`, and a line in `FORMATS`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ijson

from kbsync.datasets import counterfact, knowedit, zsre
from kbsync.datasets.fields import BadRecordError, Placer
from kbsync.datasets.record import Record
from kbsync.errors import DataSetError

__all__ = ["FORMATS", "DataSet", "Format", "open_dataset"]

TOLD = 20
"""bad records that an error tells of"""


@dataclass(frozen=True, slots=True)
class Format:
    """A form of records: the keys that tell it, and its reader (None where the prompt does not name the subject)."""

    keys: frozenset[str]
    read: Callable[[Mapping[str, Any], Placer], Record | None]


FORMATS = {
    "counterfact": Format(counterfact.KEYS, counterfact.read),
    "zsre": Format(zsre.KEYS, zsre.read),
    "knowedit": Format(knowedit.KEYS, knowedit.read),
}
"""format name -> its reader; the first whose keys a record has is its format"""


class DataSet:
    """The records of one file, in its order; `format` names its form. May be gone through again."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.format = path, name
        self.unplaced = 0
        """prompts of the last reading that were left out, since the subject is not named in them"""

    def __iter__(self) -> Iterator[Record]:
        """Yield the good records; then raise DataSetError with the bad ones, each by its index from 0 (20 at most)."""
        placer, bad, found = Placer(), [], 0
        for index, raw in enumerate(json_items(self.path)):
            try:
                if not isinstance(raw, dict):
                    raise BadRecordError("it is not an object")
                record = FORMATS[self.format].read(raw, placer)
            except BadRecordError as error:
                bad.append(f"{self.path}: record {index}: {error}")
                if len(bad) == TOLD:
                    bad.append("and perhaps more: reading ended here")
                    break
                continue
            self.unplaced = placer.unplaced
            if record is not None:
                found += 1
                yield record
        if bad:
            raise DataSetError("\n".join(bad))
        if not found:
            raise DataSetError(f"{self.path}: no prompt names its subject, so there is nothing to measure")


def open_dataset(path: Path) -> DataSet:
    """Return the data set in a JSON file, its format told by the keys of the first record.

    Raises DataSetError where the file cannot be read, or its first record has the keys of no known format.
    """
    first = next(json_items(path), None)
    if first is None:
        raise DataSetError(f"{path}: there is no record in it")
    name = next((name for name, form in FORMATS.items() if isinstance(first, dict) and form.keys <= first.keys()), None)
    if name is None:
        known = "; ".join(f"{name}: {', '.join(sorted(form.keys))}" for name, form in FORMATS.items())
        raise DataSetError(f"{path}: the first record has the keys of no known format ({known})")
    return DataSet(path, name)


def json_items(path: Path) -> Iterator[Any]:
    """Yield the items of the JSON array in a file."""
    try:
        with path.open("rb") as file:
            if file.read(3) != b"\xef\xbb\xbf":
                file.seek(0)
            begin = file.tell()
            if file.read(64).lstrip()[:1] not in (b"[", b""):
                raise DataSetError(f"{path}: this is not a JSON array of records")
            file.seek(begin)
            yield from ijson.items(file, "item", use_float=True)
    except OSError as error:
        raise DataSetError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ijson.JSONError, UnicodeDecodeError) as error:
        raise DataSetError(f"{path}: this is not JSON, or it was cut short ({error})") from error
