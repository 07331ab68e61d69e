"""Facts and requests: the values that every part passes on. Standard library only."""

import hashlib
import json
import re
import unicodedata
from dataclasses import dataclass

from kbsync.errors import SettingsError

__all__ = ["EditRequest", "Entity", "Fact", "Wording", "check_relation", "content_id", "normalise_label"]

_CANONICAL = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))
_RELATION = re.compile(r"[A-Za-z][A-Za-z0-9_-]*\Z")


def content_id(tag: str, value: object) -> str:
    """Return ``tag:`` and 32 hex digits of the SHA-256 of `value`'s canonical JSON."""
    return f"{tag}:{hashlib.sha256(_CANONICAL.encode(value).encode()).hexdigest()[:32]}"


def normalise_label(label: str) -> str:
    """Fold what does not tell two things apart: Unicode form (NFC), letter case, runs of white space."""
    return " ".join(unicodedata.normalize("NFC", label).casefold().split())


def check_relation(relation: str) -> str:
    """Return `relation` if it is an id (``P17``, ``works_for``); raise SettingsError if it is not."""
    if not _RELATION.match(relation):
        raise SettingsError(
            f"{relation!r} is not a relation id: use a Wikidata property such as P17, or letters, digits, - and _ after"
            " a letter"
        )
    return relation


@dataclass(frozen=True, slots=True)
class Entity:
    """A thing that a fact speaks of: its label, and its id where the source gives one.

    A Wikidata id is kept short (``Q142``); any other id is the whole IRI.
    """

    label: str
    id: str | None = None

    @property
    def key(self) -> str:
        """What tells this entity from others: the id, or the normalised label where there is none."""
        return self.id if self.id is not None else normalise_label(self.label)


@dataclass(frozen=True, slots=True)
class Wording:
    """How a fact is put into words: texts with one ``{}`` for the subject, as in `EditRequest`."""

    prompt: str
    paraphrases: tuple[str, ...] = ()
    question: str = ""


@dataclass(frozen=True, slots=True)
class Fact:
    """(subject, relation, object) as a source states it. `rank` and `since` (ISO date) are the statement's.

    `wording` is the fact's own, in place of its relation's template.
    """

    subject: Entity
    relation: str
    object: Entity
    rank: str = "normal"
    since: str | None = None
    wording: Wording | None = None

    @property
    def id(self) -> str:
        """Content id of subject, relation and object; labels of entities with ids stay outside it."""
        return content_id("fact1", [self.subject.key, self.relation, self.object.key])


@dataclass(frozen=True, slots=True)
class EditRequest:
    """A fact made ready to edit (Eqn. 5's e): `prompt` has one ``{}`` for the subject and ends before the object.

    `aliases` are other names of the target: an answer in one of them is right too.
    """

    relation: str
    subject: str
    prompt: str
    target: str
    paraphrases: tuple[str, ...] = ()
    question: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The target and its aliases."""
        return (self.target, *self.aliases)

    @property
    def id(self) -> str:
        """Content id of what the target vector depends on: prompt, subject and target."""
        return content_id("request1", [self.prompt, self.subject, self.target])
