"""ES, PS, NS and their mean S (MEMIT paper, appendix C.2), and recall, over edits: before and after by one function."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, harmonic_mean

from kbsync.metrics.metric import Case, Readings
from kbsync.metrics.recall import Scorer, Triple, recalled_by_alias
from kbsync.metrics.success import ES, NS, PS
from kbsync.models import LoadedModel, TargetScore, score_chat, score_targets

__all__ = ["CaseFigures", "measure", "measure_chat", "summary"]


@dataclass(frozen=True, slots=True)
class CaseFigures:
    """One case's figures, each a share from 0 to 1 (higher is better); None where there is no prompt for it."""

    ES: float | None
    """the new object is likelier than the old one on the edit prompt"""
    PS: float | None
    """share of paraphrases on which it is"""
    NS: float | None
    """share of neighbours whose own object is likelier than the new one"""
    recall: float
    """the exact object, or an alias of it, is the top answer on the edit prompt, all tokens"""
    paraphrase_recall: float | None
    """share of paraphrases on which it is"""
    log_prob: float
    """mean log-probability of the object's tokens on the edit prompt"""
    chat_recall: float | None = None
    """the exact object is the top answer to the question form in a chat; None where no chat was asked for"""


def measure(
    loaded: LoadedModel,
    cases: Sequence[Case],
    progress: Callable[[str, int, int], None] = lambda phase, done, total: None,
    score: Scorer = score_targets,
) -> list[CaseFigures]:
    """Measure cases on the model as it is. Each (prompt, object) is scored once, however many cases ask for it."""
    wanted: dict[Triple, None] = {}
    for case in cases:
        wanted.update(dict.fromkeys(triples(case)))
    ordered = list(wanted)
    scores = score(loaded, ordered, lambda done: progress("measuring", done, len(ordered)))
    found = dict(zip(ordered, scores, strict=True))
    wordings = [(text, case.request) for case in cases for text in (case.request.prompt, *case.request.paraphrases)]
    missed = [(text, one) for text, one in wordings if not found[text, one.subject, one.target].exact]
    by_alias = recalled_by_alias(loaded, missed, score)
    return [figures(case, found, by_alias) for case in cases]


def measure_chat(
    loaded: LoadedModel,
    cases: Sequence[Case],
    measured: Sequence[CaseFigures],
    progress: Callable[[str, int, int], None] = lambda phase, done, total: None,
) -> list[CaseFigures]:
    """Add chat recall to the figures of cases whose request has a question form."""
    asked = [place for place, case in enumerate(cases) if case.request.question]
    pairs = [
        (cases[place].request.question.format(cases[place].request.subject), cases[place].request.target)
        for place in asked
    ]
    scores = score_chat(loaded, pairs, lambda done: progress("measuring in a chat", done, len(pairs)))
    added = list(measured)
    for place, score in zip(asked, scores, strict=True):
        added[place] = replace(measured[place], chat_recall=float(score.exact))
    return added


def triples(case: Case) -> list[Triple]:
    """List every (template, subject, object) that a case's figures need."""
    request = case.request
    own = [(text, request.subject, request.target) for text in (request.prompt, *request.paraphrases)]
    return [*own, *(triple for metric in (ES, PS, NS) for triple in metric.triples(case))]


def figures(case: Case, scores: dict[Triple, TargetScore], by_alias: Collection[Triple] = ()) -> CaseFigures:
    """Return one case's figures from the scores of its triples; `by_alias` are those recalled by an alias."""
    request = case.request

    def exact(text: str) -> bool:
        triple = (text, request.subject, request.target)
        return scores[triple].exact or triple in by_alias

    read = Readings(scores, {})
    percents = {metric.name: metric.values([case], read)[0] for metric in (ES, PS, NS)}
    return CaseFigures(
        **{name: None if percent is None else percent / 100 for name, percent in percents.items()},
        recall=float(exact(request.prompt)),
        paraphrase_recall=fmean(map(exact, request.paraphrases)) if request.paraphrases else None,
        log_prob=scores[request.prompt, request.subject, request.target].log_prob,
    )


def summary(measured: Sequence[CaseFigures]) -> dict[str, float]:
    """Return ES, PS, NS, S (harmonic mean of the three), and recall (on paraphrases and in a chat too) in percent.

    Each is the mean over the cases that have it.
    """
    means: dict[str, float] = {}
    for name in ("ES", "PS", "NS", "recall", "paraphrase_recall", "chat_recall"):
        values = [value for value in (getattr(one, name) for one in measured) if value is not None]
        if values:
            means[name] = 100 * fmean(values)
    if {"ES", "PS", "NS"} <= means.keys():
        means["S"] = harmonic_mean([means["ES"], means["PS"], means["NS"]])
    return means
