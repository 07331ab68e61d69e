"""What else an edit should change, and what it should leave: a metric for each kind of question.

A question with a wrong answer beside the right one is answered by the likelier of the two (true or false: 50% by
chance). Any other is answered in the model's own words, right by the rules of `said`.
"""

from collections.abc import Sequence

from kbsync.metrics.metric import Case, CaseMetric, Readings, Ripple, Spoken, Triple, Values, mean
from kbsync.metrics.said import says_first

KINDS = {
    "inverse": "the subject is said when the object is asked about",
    "alias": "the object is said of another name of the subject",
    "two_hops": "what follows from the edit and one more fact is said",
    "logical": "what the relation's logic makes of the edit is said (data sets)",
    "same_subject": "the subject's own object in another relation is said",
    "forgetfulness": "the relation's other objects for the subject are said (data sets)",
    "true_false": "the new fact is called true and the old one false; 50 by chance",
    "negation": "the denied new fact is called false and the denied old one true; 50 by chance",
}
"""kind -> what its figure is; in the order of tables"""


def asked(case: Case, kind: str, *, contest: bool) -> list[Ripple]:
    """Return a case's questions of a kind that are answered by the likelier of two answers, or in words."""
    return [one for one in case.ripples if one.kind == kind and bool(one.wrong) == contest]


def triples(case: Case, kind: str) -> list[Triple]:
    """Return (right, wrong) of each contest in turn."""
    return [
        ("{}", one.prompt, answer) for one in asked(case, kind, contest=True) for answer in (one.names[0], one.wrong)
    ]


def right(one: Ripple, read: Readings) -> bool:
    """Tell whether a question was answered right."""
    if not one.wrong:
        return says_first(read.said[Spoken(one.prompt)], one.names, one.prompt)
    good, bad = (read.scores["{}", one.prompt, answer].log_prob for answer in (one.names[0], one.wrong))
    return good > bad


def metric(kind: str) -> CaseMetric:
    """Return the metric of the percentage of a case's questions of a kind that are answered right."""

    def values(cases: Sequence[Case], read: Readings) -> Values:
        return [mean([right(one, read) for one in case.ripples if one.kind == kind]) for case in cases]

    return CaseMetric(
        f"ripple_{kind}",
        values,
        triples=lambda case: triples(case, kind),
        spoken=lambda case: [Spoken(one.prompt) for one in asked(case, kind, contest=False)],
    )


RIPPLE = tuple(map(metric, KINDS))
