"""ES, PS, NS (MEMIT paper, appendix C.2), in percent: which of two objects is likelier, by mean log-prob a token."""

from collections.abc import Iterable, Sequence

from kbsync.metrics.case_metric import CaseMetric, Readings, Values, mean
from kbsync.metrics.cases import Case
from kbsync.metrics.recall import Triple

__all__ = ["ES", "NS", "PS", "contest", "edit_triples", "neighbour_triples", "paraphrase_triples"]


def edit_triples(case: Case) -> list[Triple]:
    """Return (new, old) on the edit prompt; none where no old object is named."""
    return contest(case, (case.request.prompt,))


def paraphrase_triples(case: Case) -> list[Triple]:
    """Return (new, old) on each paraphrase in turn."""
    return contest(case, case.request.paraphrases)


def contest(case: Case, texts: Iterable[str]) -> list[Triple]:
    """Return (new, old) on each of the texts in turn."""
    objects = (case.request.target, case.old) if case.old else ()
    return [(text, case.request.subject, target) for text in texts for target in objects]


def neighbour_triples(case: Case) -> list[Triple]:
    """Return (own, new) on each neighbour in turn; those alone whose own object is not the new one."""
    return [
        (near.prompt, near.subject, target)
        for near in case.neighbours
        if near.object != case.request.target
        for target in (near.object, case.request.target)
    ]


def won(triples: Sequence[Triple], read: Readings) -> float | None:
    """Return the percentage of pairs whose first is likelier than the second."""
    scores = [read.scores[triple].log_prob for triple in triples]
    return mean([float(first > second) for first, second in zip(scores[::2], scores[1::2], strict=True)])


def efficacy(cases: Sequence[Case], read: Readings) -> Values:
    """Return 100 where the new object is likelier than the old one on the edit prompt, else 0."""
    return [won(edit_triples(case), read) for case in cases]


def paraphrase(cases: Sequence[Case], read: Readings) -> Values:
    """Return the percentage of paraphrases on which the new object is likelier than the old one."""
    return [won(paraphrase_triples(case), read) for case in cases]


def neighbourhood(cases: Sequence[Case], read: Readings) -> Values:
    """Return the percentage of neighbours whose own object is likelier than the new one."""
    return [won(neighbour_triples(case), read) for case in cases]


ES = CaseMetric("ES", efficacy, edit_triples)
PS = CaseMetric("PS", paraphrase, paraphrase_triples)
NS = CaseMetric("NS", neighbourhood, neighbour_triples)
