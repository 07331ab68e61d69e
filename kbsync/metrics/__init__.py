"""What an edit did.

`measure` and `summary` are an apply's own figures: ES, PS, NS (MEMIT paper, appendix C.2) and recall. `evaluate` takes
any choice of the registry's metrics over cases, `figures` their means with intervals. `perplexity` is of all else, and
`text_figure` one of the registry's metrics over text with its interval. `kept_values` is of what edits do around
themselves.
"""

from kbsync.metrics.cases import CaseFigures, measure, measure_chat, summary
from kbsync.metrics.counterfacts import Counterfact, cases, counterfacts
from kbsync.metrics.intervals import Figure, figures, text_figure
from kbsync.metrics.kept import Said, Sampled, kept_values, say
from kbsync.metrics.metric import Case, Neighbour, Values
from kbsync.metrics.perplexity import perplexity
from kbsync.metrics.recall import recalled
from kbsync.metrics.registry import ABOUT, KEPT_METRICS, METRICS, TEXT_METRICS, evaluate

__all__ = [
    "ABOUT",
    "KEPT_METRICS",
    "METRICS",
    "TEXT_METRICS",
    "Case",
    "CaseFigures",
    "Counterfact",
    "Figure",
    "Neighbour",
    "Said",
    "Sampled",
    "Values",
    "cases",
    "counterfacts",
    "evaluate",
    "figures",
    "kept_values",
    "measure",
    "measure_chat",
    "perplexity",
    "recalled",
    "say",
    "summary",
    "text_figure",
]
