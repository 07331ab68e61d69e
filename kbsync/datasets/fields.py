"""Checked access to the fields of a record as JSON gives it."""

from collections.abc import Mapping
from typing import Any

__all__ = ["BadRecordError", "Placer", "mapping_of", "optional_text", "text_of", "texts_of"]


class BadRecordError(ValueError):
    """What is wrong with a record, as the end of a sentence that names it."""


class Placer:
    """Puts ``{}`` in the place of the subject, and counts the prompts in which there is no place for it."""

    def __init__(self) -> None:
        self.unplaced = 0

    def place(self, prompt: str, subject: str) -> str | None:
        """Return `prompt` with ``{}`` for the last mention of `subject`; None, counted, where that cannot be done."""
        before, found, after = prompt.rpartition(subject)
        if not found or "{" in before + after or "}" in before + after:
            self.unplaced += 1
            return None
        return f"{before}{{}}{after}"

    def place_all(self, prompts: tuple[str, ...], subject: str) -> tuple[str, ...]:
        """Return those of the prompts that have a place for `subject`, with ``{}`` there."""
        placed = [self.place(prompt, subject) for prompt in prompts]
        return tuple(prompt for prompt in placed if prompt is not None)


def text_of(raw: Mapping[str, Any], name: str) -> str:
    """Return a text that must be there, without white space around it."""
    value = raw.get(name)
    if not isinstance(value, str) or not value.strip():
        raise BadRecordError(f"`{name}` is {'missing' if name not in raw else 'not a text with letters in it'}")
    return value.strip()


def optional_text(raw: Mapping[str, Any], name: str) -> str:
    """Return a text, or the first of a list (of lists) of texts; "" where there is none."""
    value = raw.get(name)
    while isinstance(value, list):
        value = value[0] if value else None
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRecordError(f"`{name}` is neither a text nor a list of texts")
    return value.strip()


def texts_of(raw: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Return a list of texts, none where the field is missing."""
    value = raw.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
        raise BadRecordError(f"`{name}` is not a list of texts")
    return tuple(item.strip() for item in value)


def mapping_of(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return an object that must be there."""
    value = raw.get(name)
    if not isinstance(value, dict):
        raise BadRecordError(f"`{name}` is {'missing' if name not in raw else 'not an object'}")
    return value
