"""ES, PS, NS and their mean S (MEMIT paper, appendix C.2), and recall, over edits: before and after by one function."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, harmonic_mean

from kbsync.facts import EditRequest
from kbsync.metrics.recall import Triple, recalled_by_alias
from kbsync.models import LoadedModel, TargetScore, score_chat, score_targets

__all__ = ["Case", "CaseFigures", "Neighbour", "measure", "measure_chat", "summary"]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A prompt that an edit is not about, mostly on an unedited subject of its relation, and its own object."""

    prompt: str
    subject: str
    object: str


@dataclass(frozen=True, slots=True)
class Case:
    """An edit to measure: the request, the object before it (o^c; "" where none is named), and its neighbourhood."""

    request: EditRequest
    old: str
    neighbours: tuple[Neighbour, ...] = ()
    portability: tuple[Neighbour, ...] = ()
    """prompts whose object follows from the edit"""
    generation: tuple[str, ...] = ()
    """beginnings of free text about the subject"""
    references: tuple[str, ...] = ()
    """texts about the target, for that free text to be like"""


@dataclass(frozen=True, slots=True)
class CaseFigures:
    """One case's figures, each a share from 0 to 1 (higher is better); None where there is no prompt for it."""

    ES: float
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
) -> list[CaseFigures]:
    """Measure cases on the model as it is. Each (prompt, object) is scored once, however many cases ask for it."""
    wanted: dict[Triple, None] = {}
    for case in cases:
        wanted.update(dict.fromkeys(triples(case)))
    ordered = list(wanted)
    scores = score_targets(loaded, ordered, lambda done: progress("measuring", done, len(ordered)))
    found = dict(zip(ordered, scores, strict=True))
    wordings = [(text, case.request) for case in cases for text in (case.request.prompt, *case.request.paraphrases)]
    missed = [(text, one) for text, one in wordings if not found[text, one.subject, one.target].exact]
    by_alias = recalled_by_alias(loaded, missed)
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
    texts = [(wording, request.subject) for wording in (request.prompt, *request.paraphrases)]
    asked = [(text, subject, target) for text, subject in texts for target in (request.target, case.old)]
    for near in case.neighbours:
        asked += [(near.prompt, near.subject, near.object), (near.prompt, near.subject, request.target)]
    return asked


def figures(case: Case, scores: dict[Triple, TargetScore], by_alias: Collection[Triple] = ()) -> CaseFigures:
    """Return one case's figures from the scores of its triples; `by_alias` are those recalled by an alias."""
    request = case.request

    def wins(text: str) -> bool:
        new, old = ((text, request.subject, target) for target in (request.target, case.old))
        return scores[new].log_prob > scores[old].log_prob

    def exact(text: str) -> bool:
        triple = (text, request.subject, request.target)
        return scores[triple].exact or triple in by_alias

    kept = [
        scores[near.prompt, near.subject, near.object].log_prob
        > scores[near.prompt, near.subject, request.target].log_prob
        for near in case.neighbours
    ]
    return CaseFigures(
        ES=float(wins(request.prompt)),
        PS=fmean(map(wins, request.paraphrases)) if request.paraphrases else None,
        NS=fmean(kept) if kept else None,
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
