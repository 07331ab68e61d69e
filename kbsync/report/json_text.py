"""Results as JSON, a piece at a time, so that a list of a million facts need not lie in memory."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import fields, is_dataclass
from datetime import date
from functools import partial
from pathlib import PurePath


def json_text(value: object, *, ascii_only: bool) -> Iterator[str]:
    """Yield `value` as JSON: an entry a line, and of a list right under the top an item a line, as it comes.

    Raises TypeError for what has no form in JSON, after what stands before it.
    """
    dump = partial(json.dumps, ensure_ascii=ascii_only, allow_nan=False)
    entries = _entries(value)
    if not entries:
        yield dump(to_plain(value)) + "\n"
        return
    before = "{\n"
    for name, item in entries.items():
        yield f"{before}  {dump(str(name))}: "
        before = ",\n"
        if isinstance(item, Iterable) and not isinstance(item, str | Mapping):
            opening = "[\n    "
            for one in item:
                yield opening
                yield from _pieces(one, dump)
                opening = ",\n    "
            yield "[]" if opening.startswith("[") else "\n  ]"
        else:
            yield dump(to_plain(item))
    yield "\n}\n"


def _pieces(value: object, dump: Callable[[object], str]) -> Iterator[str]:
    """Yield an item of a list on one line; what it holds that has no length, such as a pull's changes, as it comes."""
    entries = _entries(value)
    if not any(isinstance(item, Iterable) and not isinstance(item, Sized) for item in entries.values()):
        yield dump(to_plain(value))
        return
    before = "{"
    for name, item in entries.items():
        yield f"{before}{dump(str(name))}: "
        before = ", "
        if isinstance(item, Iterable) and not isinstance(item, Sized):
            opening = "["
            for one in item:
                yield opening + dump(to_plain(one))
                opening = ", "
            yield "[]" if opening == "[" else "]"
        else:
            yield dump(to_plain(item))
    yield "}"


def to_plain(value: object) -> object:
    """Turn dataclasses, paths, dates and collections into what JSON has; raise TypeError for anything else.

    JSON has no NaN and no infinity: both are null.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if entries := _entries(value):
        return {str(key): to_plain(item) for key, item in entries.items()}
    if isinstance(value, Mapping):
        return {}
    if isinstance(value, PurePath | date):
        return str(value)
    if isinstance(value, Iterable):
        return [to_plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _entries(value: object) -> Mapping[object, object]:
    """Return the entries of a mapping or dataclass, as they are; none of anything else."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return value if isinstance(value, Mapping) else {}
