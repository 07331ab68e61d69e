"""The metrics that read how a model takes to objects: which of two is likelier, by how much, and which it answers.

- ES, PS, NS (MEMIT paper, appendix C.2), in percent: the new object is likelier than the old one on the edit prompt and
  on paraphrases; the neighbours' own object is likelier than the new one. By mean log-probability a token.
- EM, PM, NM (ROME paper, section 3.3), -100 to 100: the same as differences of probabilities. The probability of an
  object of several tokens is the geometric mean of theirs, as in the published evaluation.
- efficacy, paraphrase, specificity (MEMIT paper, appendix C.1, for zsRE) and KnowEdit's portability, in percent: the
  share of an object's tokens that are the argmax at their places, given the true tokens before them.
- recall, in percent: the target, or an alias of it, is the top answer on the edit prompt, all tokens;
  paraphrase_recall: the share of paraphrases on which it is; chat_recall: the target is, to the question in a chat.

Multiple choice: does the model, asked what it holds true, choose the new object among others of the relation?

An edit can be said in its own words and yet not be chosen where the old object stands beside it (arXiv 2604.05995
calls that surface compliance). The options are the new object, the old one and `choices` of the case, in an order
drawn from the request; what the model takes is what is likeliest to it.

- choice: each option is what follows the edit prompt, by mean log-probability a token.
- choice_lettered: the options are listed under letters, and the answer is a letter. Small models choose by chance.

Recall of requests: the target is the model's top answer, all tokens. One of its aliases counts as the target.
"""

import math
import random
from collections.abc import Callable, Iterable, Sequence
from string import ascii_uppercase

from kbsync.facts import EditRequest
from kbsync.metrics.metric import Case, CaseMetric, Neighbour, Readings, Scorer, Triple, mean
from kbsync.models import LoadedModel, TargetScore, score_targets

Triples = Callable[[Case], list[Triple]]
Judge = Callable[[Sequence[Triple], Readings], float | None]


def contest(case: Case, texts: Iterable[str]) -> list[Triple]:
    """Return (new, old) on each of the texts in turn; none where no old object is named."""
    objects = (case.request.target, case.old) if case.old else ()
    return [(text, case.request.subject, target) for text in texts for target in objects]


def neighbour_contest(case: Case) -> list[Triple]:
    """Return (own, new) on each neighbour in turn; those alone whose own object is not the new one."""
    return [
        (near.prompt, near.subject, target)
        for near in case.neighbours
        if near.object != case.request.target
        for target in (near.object, case.request.target)
    ]


def new_object(case: Case, texts: Iterable[str]) -> list[Triple]:
    return [(text, case.request.subject, case.request.target) for text in texts]


def own_object(near: Sequence[Neighbour]) -> list[Triple]:
    return [(one.prompt, one.subject, one.object) for one in near]


def won(triples: Sequence[Triple], read: Readings) -> float | None:
    """Return the percentage of pairs whose first is likelier than the second."""
    scores = [read.scores[triple].log_prob for triple in triples]
    return mean([float(first > second) for first, second in zip(scores[::2], scores[1::2], strict=True)])


def lead(triples: Sequence[Triple], read: Readings) -> float | None:
    """Return 100 times the mean of P[first] - P[second] over pairs."""
    likely = [math.exp(read.scores[triple].log_prob) for triple in triples]
    return mean([first - second for first, second in zip(likely[::2], likely[1::2], strict=True)])


def accuracy(triples: Sequence[Triple], read: Readings) -> float | None:
    """Return the mean percentage of right tokens."""
    return mean([read.scores[triple].accuracy for triple in triples])


def metric(name: str, judge: Judge, triples: Triples) -> CaseMetric:
    return CaseMetric(name, lambda case, read: judge(triples(case), read), triples)


def recall_metric(name: str, wordings: Callable[[Case], Sequence[str]]) -> CaseMetric:
    """Return the metric of the percentage of wordings on which the target, or an alias, is the top answer."""
    return CaseMetric(
        name,
        lambda case, read: mean([read.recalled(text, case.request) for text in wordings(case)]),
        wordings=wordings,
    )


def in_chat(case: Case) -> list[tuple[str, str]]:
    """Return the question form with the target; none where there is no question form."""
    request = case.request
    return [(request.question.replace("{}", request.subject, 1), request.target)] if request.question else []


def edit_contest(case: Case) -> list[Triple]:
    """Return (new, old) on the edit prompt."""
    return contest(case, (case.request.prompt,))


def paraphrase_contest(case: Case) -> list[Triple]:
    """Return (new, old) on each paraphrase in turn."""
    return contest(case, case.request.paraphrases)


SUCCESS = (
    metric("ES", won, edit_contest),
    metric("PS", won, paraphrase_contest),
    metric("NS", won, neighbour_contest),
    metric("EM", lead, edit_contest),
    metric("PM", lead, paraphrase_contest),
    metric("NM", lead, neighbour_contest),
    metric("efficacy", accuracy, lambda case: new_object(case, (case.request.prompt,))),
    metric("paraphrase", accuracy, lambda case: new_object(case, case.request.paraphrases)),
    metric("specificity", accuracy, lambda case: own_object(case.neighbours)),
    metric("portability", accuracy, lambda case: own_object(case.portability)),
    recall_metric("recall", lambda case: (case.request.prompt,)),
    recall_metric("paraphrase_recall", lambda case: case.request.paraphrases),
    CaseMetric(
        "chat_recall",
        lambda case, read: mean([read.chats[asked].exact for asked in in_chat(case) if asked in read.chats]),
        chats=in_chat,
    ),
)


def options(case: Case) -> list[str]:
    """Return the options, the new object among them; none where there is no other one."""
    names = {name.casefold() for name in case.request.names}
    others = dict.fromkeys(one for one in (case.old, *case.choices) if one and one.casefold() not in names)
    found = [case.request.target, *others]
    random.Random(case.request.id).shuffle(found)
    return found if others else []


def continued(case: Case) -> list[Triple]:
    """Return each option behind the edit prompt."""
    return [(case.request.prompt, case.request.subject, one) for one in options(case)]


def lettered(case: Case) -> list[Triple]:
    """Return each letter behind the question, or else the edit prompt, and the list of options."""
    listed = list(zip(ascii_uppercase, options(case), strict=False))
    request = case.request
    asked = (request.question or f"{request.prompt} ...").replace("{}", request.subject, 1)
    text = "\n".join([asked, *(f"{letter}. {one}" for letter, one in listed), "Answer:"])
    return [("{}", text, letter) for letter, _ in listed]


def choice(name: str, asked: Callable[[Case], list[Triple]]) -> CaseMetric:
    """Return the metric of whether the new object is the likeliest option, likelier than every other one."""

    def chosen(case: Case, read: Readings) -> float | None:
        scores = [read.scores[triple].log_prob for triple in asked(case)]
        if not scores:
            return None
        own = scores.pop(options(case).index(case.request.target))
        return 100.0 * all(own > score for score in scores)

    return CaseMetric(name, chosen, triples=asked)


CHOICE = (choice("choice", continued), choice("choice_lettered", lettered))


def recalled(
    loaded: LoadedModel,
    requests: Sequence[EditRequest],
    progress: Callable[[int], None] = lambda done: None,
    score: Scorer = score_targets,
) -> list[bool]:
    """Tell of each request whether the model recalls it on the edit prompt; `score` may know scores already."""
    triples = list(dict.fromkeys((request.prompt, request.subject, request.target) for request in requests))
    scores = dict(zip(triples, score(loaded, triples, progress), strict=True)) if triples else {}
    read = Readings(with_aliases(loaded, scores, [(request.prompt, request) for request in requests], score))
    return [read.recalled(request.prompt, request) for request in requests]


def with_aliases(
    loaded: LoadedModel,
    scores: dict[Triple, TargetScore],
    asked: Sequence[tuple[str, EditRequest]],
    score: Scorer = score_targets,
) -> dict[Triple, TargetScore]:
    """Return the scores with those of the aliases of each (template, request) whose target is not the top answer."""
    missed = [(text, one) for text, one in asked if not scores[text, one.subject, one.target].exact]
    triples = list(dict.fromkeys((text, one.subject, alias) for text, one in missed for alias in one.aliases))
    return scores | dict(zip(triples, score(loaded, triples, lambda done: None), strict=True)) if triples else scores
