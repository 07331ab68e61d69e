"""EM, PM, NM: ES, PS, NS as differences of probabilities (ROME paper, section 3.3), -100 to 100.

The probability of an object of several tokens is the geometric mean of theirs, as in the published evaluation.
"""

import math
from collections.abc import Sequence

from kbsync.metrics.case_metric import CaseMetric, Readings, Values, mean
from kbsync.metrics.cases import Case
from kbsync.metrics.recall import Triple
from kbsync.metrics.success import edit_triples, neighbour_triples, paraphrase_triples

__all__ = ["EM", "NM", "PM"]


def lead(triples: Sequence[Triple], read: Readings) -> float | None:
    """Return 100 times the mean of P[first] - P[second] over pairs."""
    likely = [math.exp(read.scores[triple].log_prob) for triple in triples]
    return mean([first - second for first, second in zip(likely[::2], likely[1::2], strict=True)])


def efficacy(cases: Sequence[Case], read: Readings) -> Values:
    """Return P[new] - P[old] on the edit prompt."""
    return [lead(edit_triples(case), read) for case in cases]


def paraphrase(cases: Sequence[Case], read: Readings) -> Values:
    """Return P[new] - P[old], meaned over the paraphrases."""
    return [lead(paraphrase_triples(case), read) for case in cases]


def neighbourhood(cases: Sequence[Case], read: Readings) -> Values:
    """Return P[own] - P[new], meaned over the neighbours."""
    return [lead(neighbour_triples(case), read) for case in cases]


EM = CaseMetric("EM", efficacy, edit_triples)
PM = CaseMetric("PM", paraphrase, paraphrase_triples)
NM = CaseMetric("NM", neighbourhood, neighbour_triples)
