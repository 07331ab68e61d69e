"""The forms of data sets: how a record of each is read into one type, and what is wrong with one that cannot be.

- CounterFact (Meng et al. 2022, arXiv 2202.05262): each record asks for another object of the same relation.
- zsRE in the form of MEND (Mitchell et al. 2022, arXiv 2110.11309): questions, and a question on something else.
- KnowEdit (Zhang et al. 2024, arXiv 2401.01286), as its parts wiki_recent and wiki_counterfact are published.
- RippleEdits (Cohen et al. 2024, arXiv 2307.12976): an edit as a sentence, and questions of six kinds.
- MQuAKE (Zhong et al. 2023, arXiv 2305.14795): edits together, and questions of several hops on all of them.

A further form is a function here, and a line in `FORMATS`.
"""

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from kbsync.errors import SettingsError
from kbsync.facts import EditRequest, check_relation

ZSRE = "zsRE"
"""stands for the relation, which this data set does not name; so does `KNOWEDIT`"""
KNOWEDIT = "KnowEdit"
KINDS = {
    "Subject_Aliasing": "alias",
    "Reasoning": "two_hops",
    "Compositionality_I": "two_hops",
    "Compositionality_II": "two_hops",
    "Logical_Generalization": "logical",
    "Relation_Specificity": "same_subject",
    "Forgetfulness": "forgetfulness",
}
"""what KnowEdit and RippleEdits call a kind of question -> what kbsync's metrics call it"""

_NO_SPACES = (
    *("CJK ", "HIRAGANA ", "KATAKANA", "BOPOMOFO ", "HANGUL ", "YI ", "THAI ", "LAO ", "KHMER ", "MYANMAR "),
    *("TIBETAN ", "JAVANESE ", "BALINESE ", "TAI ", "NEW TAI ", "IDEOGRAPHIC "),
)
"""how Unicode's names of letters begin in scripts that set no spaces between words, or, as Korean, none in front of a
particle"""


@dataclass(frozen=True, slots=True)
class Expected:
    """A whole prompt, and the object that is expected after it."""

    prompt: str
    object: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """One case of a data set. Prompts other than the request's are whole texts; what a data set lacks is empty."""

    request: EditRequest
    """its target is o*; its paraphrases are those in which the subject was found"""
    old: str
    """the object before the edit (o^c)"""
    neighbourhood: tuple[Expected, ...] = ()
    """prompts about other subjects, whose answer must stay"""
    attributes: tuple[str, ...] = ()
    """prompts about other subjects that have the target as their object"""
    generation: tuple[str, ...] = ()
    """beginnings of free text about the subject"""
    portability: tuple[Expected, ...] = ()
    """prompts whose answer follows from the edit"""
    ripples: tuple[tuple[str, Expected], ...] = ()
    """questions by kind, one of the values of `KINDS`"""


class BadRecordError(ValueError):
    """What is wrong with a record, as the end of a sentence that names it."""


class Placer:
    """Puts ``{}`` in the place of the subject, and counts the prompts in which there is no place for it."""

    def __init__(self) -> None:
        self.unplaced = 0

    def place(self, prompt: str, subject: str) -> str | None:
        """Return `prompt` with ``{}`` for the last mention of `subject` that is no part of another word.

        None, counted, where there is none, or where the rest of the prompt has braces.
        """
        start = prompt.rfind(subject)
        while start >= 0 and not _stands_alone(prompt, start, start + len(subject)):
            start = prompt.rfind(subject, 0, start + len(subject) - 1)
        before, after = prompt[: max(start, 0)], prompt[start + len(subject) :]
        if start < 0 or "{" in before + after or "}" in before + after:
            self.unplaced += 1
            return None
        return f"{before}{{}}{after}"

    def place_all(self, prompts: tuple[str, ...], subject: str) -> tuple[str, ...]:
        return tuple(placed for prompt in prompts if (placed := self.place(prompt, subject)) is not None)


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether the words at both ends of this part of `text` end there."""
    return not (_in_one_word(text[:start][-1:], text[start]) or _in_one_word(text[end - 1], text[end:][:1]))


def _in_one_word(before: str, after: str) -> bool:
    """Whether two letters in a row belong to one word. Scripts that set no spaces between words do not tell."""
    if not before or not after:
        return False
    if unicodedata.category(after).startswith("M"):  # a sign on the letter before
        return True
    return all(
        (letter.isalnum() or letter == "_" or unicodedata.category(letter)[0] == "M")
        and not unicodedata.name(letter, "").startswith(_NO_SPACES)
        for letter in (before, after)
    )


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
        raise BadRecordError(f"`{name}` is neither text nor a list of texts")
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


def read_counterfact(raw: Mapping[str, Any], placer: Placer) -> Record:
    """Read one record of CounterFact; its neighbourhood prompts all expect the object before the edit."""
    rewrite = mapping_of(raw, "requested_rewrite")
    prompt, subject, relation = (text_of(rewrite, name) for name in ("prompt", "subject", "relation_id"))
    if prompt.count("{}") != 1 or prompt.count("{") != 1 or prompt.count("}") != 1:
        raise BadRecordError("`prompt` needs one {}, for the subject, and no other braces")
    try:
        check_relation(relation)
    except SettingsError as error:
        raise BadRecordError(f"`relation_id`: {error}") from error
    new, old = (text_of(mapping_of(rewrite, name), "str") for name in ("target_new", "target_true"))
    paraphrases = placer.place_all(texts_of(raw, "paraphrase_prompts"), subject)
    return Record(
        EditRequest(relation, subject, prompt, new, paraphrases),
        old,
        tuple(Expected(text, old) for text in texts_of(raw, "neighborhood_prompts")),
        texts_of(raw, "attribute_prompts"),
        texts_of(raw, "generation_prompts"),
    )


def read_zsre(raw: Mapping[str, Any], placer: Placer) -> Record | None:
    """Read one record of zsRE; None where its question does not name the subject.

    The new object is the first answer; one before the edit is not named. A question mark is put behind `loc` where it
    has none, as the published evaluation does.
    """
    subject, source, rephrase, loc, loc_answer = (
        text_of(raw, name) for name in ("subject", "src", "rephrase", "loc", "loc_ans")
    )
    answers = texts_of(raw, "answers") or texts_of(raw, "alt")
    if not answers:
        raise BadRecordError("`answers` has no answer")
    prompt = placer.place(source, subject)
    if prompt is None:
        return None
    paraphrases = placer.place_all((rephrase,), subject)
    loc = loc if "?" in loc else f"{loc}?"
    return Record(EditRequest(ZSRE, subject, prompt, answers[0], paraphrases), "", (Expected(loc, loc_answer),))


def read_knowedit(raw: Mapping[str, Any], placer: Placer) -> Record | None:
    """Read one record of KnowEdit; None where its prompt does not name the subject."""
    subject, text, new = (text_of(raw, name) for name in ("subject", "prompt", "target_new"))
    locality, portability = _expected(raw, "locality"), _expected(raw, "portability")
    paraphrase = optional_text(raw, "rephrase_prompt") or optional_text(raw, "rephrase")
    prompt = placer.place(text, subject)
    if prompt is None:
        return None
    paraphrases = placer.place_all((paraphrase,) if paraphrase else (), subject)
    request = EditRequest(KNOWEDIT, subject, prompt, new, paraphrases)
    ripples = tuple((KINDS[kind], one) for kind, one in (*locality, *portability) if kind in KINDS)
    near, follows = (tuple(replace(one, aliases=()) for _, one in part) for part in (locality, portability))
    return Record(request, optional_text(raw, "ground_truth"), near, portability=follows, ripples=ripples)


def _expected(raw: Mapping[str, Any], name: str) -> list[tuple[str, Expected]]:
    """Return the prompts in ``{kind: [{prompt, ground_truth}, ...]}`` that have an answer, with their kinds."""
    kinds = raw.get(name) or {}
    if not isinstance(kinds, dict):
        raise BadRecordError(f"`{name}` is not an object of lists of prompts")
    found = []
    for kind in kinds:
        for one in objects_of(kinds, kind, f"`{name}` is not an object of lists of prompts"):
            names = list(texts_in(one.get("ground_truth")))
            prompt = text_of(one, "prompt")
            if optional_text(one, "ground_truth"):
                found.append((kind, Expected(prompt, names[0], tuple(names[1:]))))
    return found


def objects_of(raw: Mapping[str, Any], name: str, wrong: str = "") -> list[Mapping[str, Any]]:
    """Return a list of objects, none where the field is missing."""
    value = raw.get(name, [])
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise BadRecordError(wrong or f"`{name}` is not a list of objects")
    return value


def texts_in(value: object) -> Iterator[str]:
    """Yield the texts of a list (of lists) of texts, or a text alone, without those that have no letters."""
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, list):
            yield from texts_in(one)
        elif isinstance(one, str) and one.strip():
            yield one.strip()


@cache
def phrases() -> dict[str, tuple[str, str]]:
    """Return RippleEdits' relations: name -> id, and the phrase with ``{}`` for the subject."""
    found = yaml.safe_load(Path(__file__).with_name("ripple_edits.yaml").read_text(encoding="utf-8"))
    return {name: (relation, phrase) for name, (relation, phrase) in found.items()}


def read_rippleedits(raw: Mapping[str, Any], placer: Placer) -> Record:
    """Read one record of RippleEdits, whose edit is a sentence: its relation's phrase tells subject and object apart.

    A question that takes several answers counts any of them; conditions on what a model knew before are not checked.
    """
    edit = mapping_of(raw, "edit")
    subject, prompt, new = stated(edit, "edit")
    before = edit.get("original_fact") or edit.get("previous_fact")
    old = stated(before, "original_fact")[2] if isinstance(before, dict) else ""
    ripples = []
    for kind, ours in KINDS.items():
        for test in objects_of(raw, kind):
            for query in objects_of(test, "test_queries"):
                answers = objects_of(query, "answers")
                names = [name for one in answers for name in texts_in([one.get("value"), one.get("aliases")])]
                if names:
                    ripples.append((ours, Expected(text_of(query, "prompt"), names[0], tuple(names[1:]))))
    return Record(EditRequest(phrases()[edit["relation"]][0], subject, prompt, new), old, ripples=tuple(ripples))


def stated(fact: Mapping[str, Any], where: str) -> tuple[str, str, str]:
    """Return subject, prompt and object of a fact that is told in a sentence."""
    text, relation = text_of(fact, "prompt"), text_of(fact, "relation")
    if relation not in phrases():
        raise BadRecordError(f"`{where}`: the relation {relation} is not one of RippleEdits'")
    phrase = phrases()[relation][1]
    start, end = phrase.split("{}")
    subject, _, thing = text.removesuffix(".").removeprefix(start).partition(f"{end} ")
    if not (text.startswith(start) and subject.strip() and thing.strip()):
        raise BadRecordError(f"`{where}`: {text!r} is not in the words {phrase!r}")
    return subject.strip(), phrase, thing.strip()


def read_mquake(raw: Mapping[str, Any], placer: Placer) -> Iterator[Record]:
    """Read one record of MQuAKE: an edit for each of its rewrites, with its questions of several hops at the first."""
    names = [text_of(raw, "new_answer"), *texts_of(raw, "new_answer_alias")]
    hops = tuple(("two_hops", Expected(one, names[0], tuple(names[1:]))) for one in texts_of(raw, "questions"))
    rewrites = objects_of(raw, "requested_rewrite")
    if not rewrites:
        raise BadRecordError("`requested_rewrite` has no edit")
    for number, rewrite in enumerate(rewrites):
        record = read_counterfact({"requested_rewrite": rewrite}, placer)
        question = placer.place(text_of(rewrite, "question"), record.request.subject)
        request = replace(record.request, question=question or "")
        yield replace(record, request=request, ripples=() if number else hops)


@dataclass(frozen=True, slots=True)
class Format:
    """A form of records: the keys that tell it, and its reader (None where the prompt does not name the subject)."""

    keys: frozenset[str]
    read: Callable[[Mapping[str, Any], Placer], Record | Iterable[Record] | None]


FORMATS = {
    "mquake": Format(frozenset({"requested_rewrite", "questions", "new_answer"}), read_mquake),
    "rippleedits": Format(frozenset({"example_type", "edit"}), read_rippleedits),
    "counterfact": Format(frozenset({"requested_rewrite"}), read_counterfact),
    "zsre": Format(frozenset({"src", "rephrase", "loc", "loc_ans"}), read_zsre),
    "knowedit": Format(frozenset({"subject", "prompt", "target_new"}), read_knowedit),
}
"""format name -> its reader; the first whose keys a record has is its format"""
