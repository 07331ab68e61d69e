"""Multiple choice: does the model, asked what it holds true, choose the new object among others of the relation?

An edit can be said in its own words and yet not be chosen where the old object stands beside it (arXiv 2604.05995
calls that surface compliance). The options are the new object, the old one and `choices` of the case, in an order
drawn from the request; what the model takes is what is likeliest to it.

- choice: each option is what follows the edit prompt, by mean log-probability a token.
- choice_lettered: the options are listed under letters, and the answer is a letter. Small models choose by chance.
"""

import random
from collections.abc import Callable, Sequence
from string import ascii_uppercase

from kbsync.metrics.metric import Case, CaseMetric, Readings, Triple, Values


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
        own = options(case).index(case.request.target)
        return 100.0 * all(scores[own] > score for place, score in enumerate(scores) if place != own)

    def values(cases: Sequence[Case], read: Readings) -> Values:
        return [chosen(case, read) for case in cases]

    return CaseMetric(name, values, triples=asked)


CHOICE = (choice("choice", continued), choice("choice_lettered", lettered))
