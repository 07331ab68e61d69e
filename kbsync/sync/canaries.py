"""Canaries: a user's own questions, which a state of the model must answer before it becomes current."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kbsync.facts import normalise_label
from kbsync.project import read_checked

_TEXTS = {"type": ["string", "array"], "minLength": 1, "minItems": 1, "items": {"type": "string", "minLength": 1}}
SCHEMA: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "additionalProperties": False,
        "required": ["prompt"],
        "minProperties": 2,
        "properties": {
            "prompt": {"type": "string", "minLength": 1},
            "must_contain": _TEXTS,
            "must_not_contain": _TEXTS,
        },
    },
}


@dataclass(frozen=True, slots=True)
class Canary:
    """The beginning of a sentence; what the model says next holds one of some texts, and none of others."""

    prompt: str
    must_contain: tuple[str, ...] = ()
    must_not_contain: tuple[str, ...] = ()

    def fault(self, answer: str) -> str | None:
        """Return what is wrong with an answer; letter case and spaces do not matter."""
        said = normalise_label(answer)
        if self.must_contain and not any(normalise_label(text) in said for text in self.must_contain):
            return f"must contain {' or '.join(map(repr, self.must_contain))}"
        held = next((text for text in self.must_not_contain if normalise_label(text) in said), None)
        return None if held is None else f"must not contain {held!r}"


def read_canaries(file: Path | None) -> tuple[Canary, ...]:
    """Return the canaries of a file, none where there is none; raises SettingsError and SourceError."""
    if file is None:
        return ()
    content, _ = read_checked(file, SCHEMA)
    return tuple(
        Canary(one["prompt"].rstrip(), _texts(one.get("must_contain")), _texts(one.get("must_not_contain")))
        for one in content
    )


def _texts(value: str | Sequence[str] | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())


def failures(canaries: Sequence[Canary], answers: Callable[[Sequence[str]], Sequence[str]]) -> list[str]:
    """Return a clause for each canary that fails; `answers` asks the model."""
    said = answers([canary.prompt for canary in canaries]) if canaries else []
    return [
        f"canary {canary.prompt!r} fails: the answer is {answer!r} and {fault}"
        for canary, answer in zip(canaries, said, strict=True)
        if (fault := canary.fault(answer))
    ]
