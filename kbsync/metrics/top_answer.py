"""Recall as a metric over cases, in percent: the target, or an alias of it, is the top answer, all tokens."""

from collections.abc import Sequence

from kbsync.metrics.case_metric import CaseMetric, Readings, Values
from kbsync.metrics.cases import Case
from kbsync.metrics.recall import Triple

__all__ = ["RECALL"]


def triples(case: Case) -> list[Triple]:
    """Return every name of the target on the edit prompt."""
    return [(case.request.prompt, case.request.subject, name) for name in case.request.names]


def recall(cases: Sequence[Case], read: Readings) -> Values:
    """Return 100 where the edit prompt's top answer is a name of the target, else 0."""
    return [100.0 * any(read.scores[triple].exact for triple in triples(case)) for case in cases]


RECALL = CaseMetric("recall", recall, triples)
