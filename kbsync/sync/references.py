"""Texts about objects, which the reference score compares generated text with."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from kbsync.datasets import Record
from kbsync.errors import SettingsError
from kbsync.facts import normalise_label
from kbsync.ledger import FactRow
from kbsync.templates import Templates

__all__ = ["References", "fact_references", "read_references", "record_references"]

References = Mapping[str, Sequence[str]]
"""normalised label of an object -> texts about it"""


def fact_references(facts: Iterable[FactRow], templates: Templates) -> References:
    """Return the sentences that templates and own wordings make of facts, each under its object and its subject."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for fact in facts:
        told = templates.wording(fact.relation, fact.wording)
        for text in (told.prompt, *told.paraphrases) if told else ():
            sentence = f"{text.format(fact.subject_label)} {fact.object_label}."
            for label in (fact.object_label, fact.subject_label):
                found[normalise_label(label)][sentence] = None
    return {label: list(texts) for label, texts in found.items()}


def record_references(records: Iterable[Record]) -> References:
    """Return the sentences that a data set's attribute and neighbourhood prompts make with their objects."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for record in records:
        stated = [(prompt, record.request.target) for prompt in record.attributes]
        stated += [(near.prompt, near.object) for near in record.neighbourhood]
        for prompt, thing in stated:
            found[normalise_label(thing)][f"{prompt} {thing}."] = None
    return {label: list(texts) for label, texts in found.items()}


def read_references(path: Path) -> References:
    """Read ``{object: text or list of texts}`` from a JSON file, or a folder's ``OBJECT.txt`` files.

    Raises SettingsError where there is neither, or a text is none.
    """
    try:
        if path.is_dir():
            texts = {file.stem: [file.read_text(encoding="utf-8")] for file in sorted(path.glob("*.txt"))}
        else:
            texts = json_references(json.loads(path.read_text(encoding="utf-8-sig")))
    except OSError as error:
        raise SettingsError(f"--references {path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise SettingsError(f"--references {path}: {error}") from error
    if not texts:
        raise SettingsError(f"--references {path}: no text in it; a folder needs OBJECT.txt files")
    return {normalise_label(label): found for label, found in texts.items()}


def json_references(value: object) -> dict[str, list[str]]:
    """Return the texts of each object of the JSON form; raise ValueError where it is another."""
    if not isinstance(value, dict):
        raise ValueError('the form is {"object": ["text", ...], ...}')
    found = {label: [texts] if isinstance(texts, str) else texts for label, texts in value.items()}
    for label, texts in found.items():
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"what is said about {label!r} is neither a text nor a list of texts")
    return found
