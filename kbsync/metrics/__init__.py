"""What an edit did: efficacy, paraphrase and neighbourhood success (MEMIT paper, appendix C.2), recall, perplexity."""

from kbsync.metrics.cases import Case, CaseFigures, measure, measure_chat, summary
from kbsync.metrics.perplexity import perplexity
from kbsync.metrics.recall import recalled

__all__ = ["Case", "CaseFigures", "measure", "measure_chat", "perplexity", "recalled", "summary"]
