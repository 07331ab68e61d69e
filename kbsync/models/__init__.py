"""Language models: their families, loading, the subject's last token, reading and replacing blocks, answers."""

from kbsync.models.answers import Answer, TargetScore, greedy_answers, score_targets, top_answers
from kbsync.models.family import FAMILIES, Family, family_of
from kbsync.models.forward import Rows, head_log_probs, last_hidden, make_rows
from kbsync.models.hooks import capture, replace, resume, stop_after
from kbsync.models.load import LoadedModel, choose_device, load_model
from kbsync.models.subject import TokenizedPrompt, locate

__all__ = [
    "FAMILIES",
    "Answer",
    "Family",
    "LoadedModel",
    "Rows",
    "TargetScore",
    "TokenizedPrompt",
    "capture",
    "choose_device",
    "family_of",
    "greedy_answers",
    "head_log_probs",
    "last_hidden",
    "load_model",
    "locate",
    "make_rows",
    "replace",
    "resume",
    "score_targets",
    "stop_after",
    "top_answers",
]
