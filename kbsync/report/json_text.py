"""Results as JSON, a piece at a time, so that a list of a million facts need not lie in memory."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import date
from json.encoder import encode_basestring, encode_basestring_ascii
from pathlib import PurePath

__all__ = ["json_text", "to_plain"]

_STEP = "  "


def json_text(value: object, *, ascii_only: bool) -> Iterator[str]:
    """Yield the text that `json.dumps` makes of ``to_plain(value)`` with an indent of two, and a line's end.

    The lists that stand right under the top come item by item. Raises TypeError for what has no form in JSON, after
    what stands before it.
    """
    written = encode_basestring_ascii if ascii_only else encode_basestring
    entries = _entries(value)
    if not entries:
        yield _text(to_plain(value), written, "") + "\n"
        return
    before = "{\n"
    for name, item in entries.items():
        yield f"{before}{_STEP}{written(str(name))}: "
        before = ",\n"
        if isinstance(item, Iterable) and not isinstance(item, str | Mapping):
            yield from _items(item, written, _STEP)
        else:
            yield _text(to_plain(item), written, _STEP)
    yield "\n}\n"


def to_plain(value: object) -> object:
    """Turn dataclasses, paths, dates and collections into what JSON has; raise TypeError for anything else.

    JSON has no NaN and no infinity: both are null.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
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


def _items(items: Iterable[object], written: Callable[[str], str], indent: str) -> Iterator[str]:
    before = f"[\n{indent}{_STEP}"
    for item in items:
        yield before + _text(to_plain(item), written, indent + _STEP)
        before = f",\n{indent}{_STEP}"
    yield "[]" if before[0] == "[" else f"\n{indent}]"


def _text(value: object, written: Callable[[str], str], indent: str) -> str:
    """Return the text of plain `value`; json.dumps with an indent makes the same, in three times the time."""
    if isinstance(value, str):
        return written(value)
    if value is None:  # as json.dumps would say, but a long list has many
        return "null"
    inner = indent + _STEP
    if isinstance(value, dict) and value:
        parts = [f"{written(key)}: {_text(item, written, inner)}" for key, item in value.items()]
        return f"{{\n{inner}" + f",\n{inner}".join(parts) + f"\n{indent}}}"
    if isinstance(value, list) and value:
        return f"[\n{inner}" + f",\n{inner}".join(_text(item, written, inner) for item in value) + f"\n{indent}]"
    return json.dumps(value, allow_nan=False)
