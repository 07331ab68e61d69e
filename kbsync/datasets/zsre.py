"""zsRE in the form of MEND (Mitchell et al. 2022, arXiv 2110.11309): questions, and a question on something else."""

from collections.abc import Mapping
from typing import Any

from kbsync.datasets.fields import BadRecordError, Placer, text_of, texts_of
from kbsync.datasets.record import Expected, Record
from kbsync.facts import EditRequest

__all__ = ["KEYS", "RELATION", "read"]

KEYS = frozenset({"src", "rephrase", "loc", "loc_ans"})
RELATION = "zsRE"
"""stands for the relation, which the data set does not name"""


def read(raw: Mapping[str, Any], placer: Placer) -> Record | None:
    """Read one record; None where its question does not name the subject.

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
    return Record(EditRequest(RELATION, subject, prompt, answers[0], paraphrases), "", (Expected(loc, loc_answer),))
