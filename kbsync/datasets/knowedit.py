"""KnowEdit (Zhang et al. 2024, arXiv 2401.01286), as its parts wiki_recent and wiki_counterfact are published."""

from collections.abc import Mapping
from typing import Any

from kbsync.datasets.fields import BadRecordError, Placer, optional_text, text_of
from kbsync.datasets.record import Expected, Record
from kbsync.facts import EditRequest

__all__ = ["KEYS", "RELATION", "read"]

KEYS = frozenset({"subject", "prompt", "target_new"})
RELATION = "KnowEdit"
"""stands for the relation, which the data set does not name"""


def read(raw: Mapping[str, Any], placer: Placer) -> Record | None:
    """Read one record; None where its prompt does not name the subject."""
    subject, text, new = (text_of(raw, name) for name in ("subject", "prompt", "target_new"))
    locality, portability = expected(raw, "locality"), expected(raw, "portability")
    paraphrase = optional_text(raw, "rephrase_prompt") or optional_text(raw, "rephrase")
    prompt = placer.place(text, subject)
    if prompt is None:
        return None
    paraphrases = placer.place_all((paraphrase,) if paraphrase else (), subject)
    request = EditRequest(RELATION, subject, prompt, new, paraphrases)
    return Record(request, optional_text(raw, "ground_truth"), locality, portability=portability)


def expected(raw: Mapping[str, Any], name: str) -> tuple[Expected, ...]:
    """Return the prompts of all kinds in ``{kind: [{prompt, ground_truth}, ...]}`` that have an answer."""
    kinds = raw.get(name) or {}
    if not isinstance(kinds, dict) or not all(isinstance(prompts, list) for prompts in kinds.values()):
        raise BadRecordError(f"`{name}` is not an object of lists of prompts")
    prompts = [one for listed in kinds.values() for one in listed]
    if not all(isinstance(one, dict) for one in prompts):
        raise BadRecordError(f"`{name}` is not an object of lists of prompts")
    found = [Expected(text_of(one, "prompt"), optional_text(one, "ground_truth")) for one in prompts]
    return tuple(one for one in found if one.object)
