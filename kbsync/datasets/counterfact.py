"""CounterFact (Meng et al. 2022, arXiv 2202.05262): each record asks for another object of the same relation."""

from collections.abc import Mapping
from typing import Any

from kbsync.datasets.fields import BadRecordError, Placer, mapping_of, text_of, texts_of
from kbsync.datasets.record import Expected, Record
from kbsync.errors import SettingsError
from kbsync.facts import EditRequest, check_relation

__all__ = ["KEYS", "read"]

KEYS = frozenset({"requested_rewrite"})


def read(raw: Mapping[str, Any], placer: Placer) -> Record:
    """Read one record; its neighbourhood prompts all expect the object before the edit."""
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
