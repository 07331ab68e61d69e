"""The field's data sets of edits (CounterFact, zsRE, KnowEdit), read into one type.

Read a data set's file record by record: nothing is held but the record at hand.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import ijson
from ijson.common import ObjectBuilder

from kbsync.datasets.formats import FORMATS, BadRecordError, Expected, Placer, Record
from kbsync.errors import DataSetError, SourceError
from kbsync.files import DEPTH, LINE, open_stream

TOLD = 20
"""bad records that an error tells of"""
MOST_VALUES = 100_000
"""values and keys in one record"""


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
                read = FORMATS[self.format].read(raw, placer)
                records = [read] if isinstance(read, Record) else list(read or ())
            except BadRecordError as error:
                bad.append(f"{self.path}: record {index}: {error}")
                if len(bad) == TOLD:
                    bad.append("and perhaps more: reading stopped here")
                    break
                continue
            self.unplaced = placer.unplaced
            found += len(records)
            yield from records
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
        raise DataSetError(f"{path}: it has no records")
    name = next((name for name, form in FORMATS.items() if isinstance(first, dict) and form.keys <= first.keys()), None)
    if name is None:
        known = "; ".join(f"{name}: {', '.join(sorted(form.keys))}" for name, form in FORMATS.items())
        raise DataSetError(f"{path}: the first record has the keys of no known format ({known})")
    return DataSet(path, name)


def json_items(path: Path) -> Iterator[Any]:
    """Yield the items of the JSON array in a file, one at a time."""
    try:
        with open_stream(path) as file:
            bounded = _Bounded(file, path)
            events = ijson.basic_parse(bounded, use_float=True)
            if next(events, ("", None))[0] != "start_array":
                raise DataSetError(f"{path}: not a JSON array of records")
            for event, value in events:
                if event != "end_array":
                    yield _item(event, value, events, path)
                    bounded.read_since = 0
    except SourceError as error:
        raise DataSetError(str(error)) from error
    except OSError as error:
        raise DataSetError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ijson.JSONError, ValueError, OverflowError) as error:
        raise DataSetError(f"{path}: not JSON, or cut short ({_reason(error)})") from error


def _item(event: str, value: Any, events: Iterator[tuple[str, Any]], path: Path) -> Any:
    """Return the item of which `event` is the first; its values are bounded in number and in depth."""
    builder, depth, count, most = ObjectBuilder(), 0, 0, DEPTH.value
    while True:
        builder.event(event, value)
        depth, count = depth + event.startswith("start_") - event.startswith("end_"), count + 1
        if depth > most:
            raise DataSetError(f"{path}: nested too deeply ({DEPTH.told})")
        if count > MOST_VALUES:
            raise DataSetError(f"{path}: a record of more than {MOST_VALUES:,} values; split it")
        if depth == 0:
            return builder.value
        event, value = next(events)


class _Bounded:
    """A stream that ends with an error where one record takes more bytes than it may."""

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self._stream, self._path = stream, path
        self.read_since = 0

    def read(self, size: int = -1) -> bytes:
        piece = self._stream.read(size)
        self.read_since += len(piece)
        if self.read_since > LINE.bytes:
            raise DataSetError(f"{self._path}: one record is too long ({LINE.told})")
        return piece


def _reason(error: Exception) -> str:
    """The parser's reason: the first line, of which it makes the bytes around the place a part."""
    text = error.args[0] if error.args else ""
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(error)
    return " ".join(text.split("\n")[0].split())[:200]
