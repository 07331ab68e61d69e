"""All metrics over cases by name. A new one is a file with a CaseMetric and a line here."""

from kbsync.metrics.case_metric import CaseMetric
from kbsync.metrics.consistency import RS
from kbsync.metrics.fluency import GE
from kbsync.metrics.magnitude import EM, NM, PM
from kbsync.metrics.success import ES, NS, PS
from kbsync.metrics.token_accuracy import EFFICACY, PARAPHRASE, PORTABILITY, SPECIFICITY
from kbsync.metrics.top_answer import RECALL

__all__ = ["MEANS", "METRICS"]

METRICS: dict[str, CaseMetric] = {
    metric.name: metric
    for metric in (
        *(ES, PS, NS),
        *(EM, PM, NM),
        *(EFFICACY, PARAPHRASE, SPECIFICITY),
        PORTABILITY,
        RECALL,
        GE,
        RS,
    )
}

MEANS: dict[str, tuple[str, ...]] = {
    "S": ("ES", "PS", "NS"),
    "score": ("efficacy", "paraphrase", "specificity"),
}
"""harmonic means of metrics' means: there where all of their parts are"""
