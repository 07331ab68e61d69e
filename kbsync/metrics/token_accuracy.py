"""zsRE's efficacy, paraphrase and specificity (MEMIT paper, appendix C.1), and KnowEdit's portability, in percent.

Each is the share of an object's tokens that are the argmax at their places, given the true tokens before them.
"""

from collections.abc import Sequence

from kbsync.metrics.case_metric import CaseMetric, Readings, Values, mean
from kbsync.metrics.cases import Case, Neighbour
from kbsync.metrics.recall import Triple

__all__ = ["EFFICACY", "PARAPHRASE", "PORTABILITY", "SPECIFICITY"]


def edit_triples(case: Case) -> list[Triple]:
    """Return the new object on the edit prompt."""
    return [(case.request.prompt, case.request.subject, case.request.target)]


def paraphrase_triples(case: Case) -> list[Triple]:
    """Return the new object on each paraphrase."""
    return [(text, case.request.subject, case.request.target) for text in case.request.paraphrases]


def own_triples(near: Sequence[Neighbour]) -> list[Triple]:
    """Return the own object on each prompt."""
    return [(one.prompt, one.subject, one.object) for one in near]


def accuracy(triples: Sequence[Triple], read: Readings) -> float | None:
    """Return the mean accuracy over triples."""
    return mean([read.scores[triple].accuracy for triple in triples])


def efficacy(cases: Sequence[Case], read: Readings) -> Values:
    """Return the accuracy of the new object on the edit prompt."""
    return [accuracy(edit_triples(case), read) for case in cases]


def paraphrase(cases: Sequence[Case], read: Readings) -> Values:
    """Return the accuracy of the new object, meaned over the paraphrases."""
    return [accuracy(paraphrase_triples(case), read) for case in cases]


def specificity(cases: Sequence[Case], read: Readings) -> Values:
    """Return the accuracy of the neighbours' own objects, which no edit is about."""
    return [accuracy(own_triples(case.neighbours), read) for case in cases]


def portability(cases: Sequence[Case], read: Readings) -> Values:
    """Return the accuracy of the objects that follow from the edit."""
    return [accuracy(own_triples(case.portability), read) for case in cases]


EFFICACY = CaseMetric("efficacy", efficacy, edit_triples)
PARAPHRASE = CaseMetric("paraphrase", paraphrase, paraphrase_triples)
SPECIFICITY = CaseMetric("specificity", specificity, lambda case: own_triples(case.neighbours))
PORTABILITY = CaseMetric("portability", portability, lambda case: own_triples(case.portability))
