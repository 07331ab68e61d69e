"""What an edit did.

`evaluate` takes any choice of the registry's metrics over cases; `summary` gives their means, `figures` these with
intervals. `perplexity` is of all else, and `perplexity_figure` has its interval.
`kept_values` is of what edits do around themselves.
"""

from kbsync.metrics.generation import line_losses, perplexity
from kbsync.metrics.intervals import Figure, figures, perplexity_figure, summary
from kbsync.metrics.metric import (
    Case,
    Neighbour,
    Ripple,
    Scorer,
    Told,
    Triple,
    Values,
    cases,
    counterfacts,
)
from kbsync.metrics.registry import (
    ABOUT,
    CHOICE_METRICS,
    KEPT_METRICS,
    METRICS,
    RIPPLE_METRICS,
    SAID_METRICS,
    TEXT_METRICS,
    evaluate,
)
from kbsync.metrics.said import Said, Sampled, kept_values, say
from kbsync.metrics.success import recalled
