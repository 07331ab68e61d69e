"""All metrics by name. A new one is a file with a CaseMetric or a TextMetric, and a line here."""

from kbsync.metrics.case_metric import CaseMetric
from kbsync.metrics.consistency import RS
from kbsync.metrics.fluency import GE
from kbsync.metrics.magnitude import EM, NM, PM
from kbsync.metrics.perplexity import PERPLEXITY
from kbsync.metrics.success import ES, NS, PS
from kbsync.metrics.text_metric import TextMetric
from kbsync.metrics.token_accuracy import EFFICACY, PARAPHRASE, PORTABILITY, SPECIFICITY
from kbsync.metrics.top_answer import RECALL

__all__ = ["MEANS", "METRICS", "TEXT_METRICS"]

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

TEXT_METRICS: dict[str, TextMetric] = {metric.name: metric for metric in (PERPLEXITY,)}
"""those over text that no edit is about"""

MEANS: dict[str, tuple[str, ...]] = {
    "S": ("ES", "PS", "NS"),
    "score": ("efficacy", "paraphrase", "specificity"),
}
"""harmonic means of metrics' means: there where all of their parts are"""
