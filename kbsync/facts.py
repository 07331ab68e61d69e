"""Facts and requests: the values that every part passes on. Standard library only."""

import hashlib
import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from kbsync.errors import SettingsError

_CANONICAL = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))
# Marks of direction, soft hyphens, spaces of no width and the like; then the joiners, which some words need.
_INVISIBLE = re.compile(
    "[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb]"
)
_JOINER = re.compile("[\u200c\u200d]")
_VIRAMA = 9  # Unicode's combining class of the signs that a joiner gives another shape
_RELATION = re.compile(r"[A-Za-z][A-Za-z0-9_-]*\Z")
INVERSE = "^"
"""before a relation: its facts the other way round, as SPARQL writes it (``^P36``)"""


def content_id(tag: str, value: object) -> str:
    """Return ``tag:`` and 32 hex digits of the SHA-256 of `value`'s canonical JSON."""
    return f"{tag}:{hashlib.sha256(_CANONICAL.encode(value).encode()).hexdigest()[:32]}"


def visible(text: str) -> str:
    """Return `text` without its invisible format characters, but for joiners inside words of scripts that need them."""
    if text.isascii():
        return text
    text = _INVISIBLE.sub("", text)
    return _JOINER.sub(lambda found: found[0] if _is_needed(found) else "", text)


def _is_needed(joiner: re.Match[str]) -> bool:
    """Whether a joiner stands between two letters (or emoji) that it may give another shape, or behind a virama."""
    before, after = joiner.string[: joiner.start()][-1:], joiner.string[joiner.end() :][:1]
    if before and unicodedata.combining(before) == _VIRAMA:
        return True
    return bool(before and after) and _takes_joiners(before) and _takes_joiners(after)


def _takes_joiners(letter: str) -> bool:
    """Whether a letter is of a script from Arabic to Myanmar, Khmer, Mongolian, or a part of an emoji."""
    of_script = "\u0600" <= letter <= "\u109f" or "\u1780" <= letter <= "\u18af" or "\ufb50" <= letter <= "\ufefc"
    return of_script or letter == "\ufe0f" or unicodedata.category(letter) in ("So", "Sk")


def normalise_label(label: str) -> str:
    """Fold what does not tell two things apart: Unicode form (NFC), letter case, white space, what is invisible."""
    return " ".join(unicodedata.normalize("NFC", visible(label)).casefold().split())


def check_relation(relation: str) -> str:
    """Return `relation` if it is an id (``P17``, ``works_for``); raise SettingsError if it is not."""
    if not _RELATION.match(relation):
        raise SettingsError(
            f"{relation!r} is not a relation id: use a Wikidata property such as P17, or a letter followed by"
            " letters, digits, - and _"
        )
    return relation


def linked(keys: Sequence[Iterable[Hashable]]) -> list[list[int]]:
    """Return the places of `keys` in groups: together are those with a key in common, directly or through others."""
    leader = list(range(len(keys)))
    first_with: dict[Hashable, int] = {}

    def first_of(place: int) -> int:
        while leader[place] != place:
            leader[place] = leader[leader[place]]
            place = leader[place]
        return place

    for place, own in enumerate(keys):
        for key in own:
            first, other = sorted((first_of(first_with.setdefault(key, place)), first_of(place)))
            leader[other] = first
    groups: dict[int, list[int]] = defaultdict(list)
    for place in range(len(keys)):
        groups[first_of(place)].append(place)
    return list(groups.values())


def is_inverse(relation: str) -> bool:
    """Tell whether `relation` is another one the other way round: its subjects are that one's objects."""
    return relation.startswith(INVERSE)


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
    """never edited: what PS is measured on"""
    question: str = ""
    wordings: tuple[str, ...] = ()
    """further prompts that the fact is edited on"""


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
class Skipped:
    """A statement that a source has and a pull left out: what is known of it, and why."""

    subject_key: str
    subject_label: str
    """"" where it has none, or was not asked for"""
    object: str
    """its id or text; "" where the whole subject was left out"""
    reason: str


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
    wordings: tuple[str, ...] = ()
    """further prompts in the form of `prompt`, which the fact is written on as well where the settings ask for it"""
    ending: str = ""
    """what follows, in the subject, the token that the fact is written at; empty where that is the subject's last"""

    @property
    def names(self) -> tuple[str, ...]:
        """The target and its aliases."""
        return (self.target, *self.aliases)

    @property
    def id(self) -> str:
        """Content id of what the target vector depends on: prompt, subject and target."""
        return content_id("request1", [self.prompt, self.subject, self.target])

    def written(self, prompt: str | None = None) -> tuple[str, str, str]:
        """Return (prompt, subject, target) of the same text, the subject's `ending` being a part of the prompt."""
        prompt = self.prompt if prompt is None else prompt
        return prompt.replace("{}", "{}" + self.ending), self.subject.removesuffix(self.ending), self.target
