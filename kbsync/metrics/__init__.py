"""What an edit did.

`measure` and `summary` are an apply's own figures: ES, PS, NS (MEMIT paper, appendix C.2) and recall. `evaluate` takes
any choice of the registry's metrics over cases, `figures` their means with intervals. `perplexity` is of all else, and
`text_figure` one of the registry's metrics over text with its interval.
"""

from kbsync.metrics.cases import CaseFigures, measure, measure_chat, summary
from kbsync.metrics.counterfacts import Counterfact, cases, counterfacts
from kbsync.metrics.intervals import Figure, figures, text_figure
from kbsync.metrics.metric import Case, Neighbour, Values
from kbsync.metrics.perplexity import perplexity
from kbsync.metrics.recall import recalled
from kbsync.metrics.registry import METRICS, TEXT_METRICS, evaluate

__all__ = [
    "METRICS",
    "TEXT_METRICS",
    "Case",
    "CaseFigures",
    "Counterfact",
    "Figure",
    "Neighbour",
    "Values",
    "cases",
    "counterfacts",
    "evaluate",
    "figures",
    "measure",
    "measure_chat",
    "perplexity",
    "recalled",
    "summary",
    "text_figure",
]
