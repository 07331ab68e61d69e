"""What a model says when it is let go on: greedy generation up to its natural stop, right if the object comes first.

Teacher-forced recall asks whether each token of the object is the likeliest after the true ones before it; an answer is
what a user reads. `says_first` has the rules:

- Case, Unicode form and white space do not count; nor do marks, quotes and articles in front of the name.
- A model may repeat the question: words of the prompt and forms of "to be" may stand before the name. Any other word
  may not: "not Edi Rama", "possibly Edi Rama" and "his rival and Edi Rama" are wrong.
- The whole name has to stand there, or a whole alias: "Rama" is right only where it is an alias of Edi Rama.
- The name has to end there. "Edi Ramaj", "Edi Rama's wife", and "Paris Hilton" (a capitalised word right behind) are
  other things; "Edi Rama, who ..." and "Paris in France" are not.

What else an edit should change, and what it should leave: a metric for each kind of question.

A question with a wrong answer beside the right one is answered by the likelier of the two (true or false: 50% by
chance). Any other is answered in the model's own words, right by these rules.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from unicodedata import category, normalize

from kbsync.metrics.metric import Case, CaseMetric, Readings, Ripple, Spoken, Triple, Values, mean

BEFORE = frozenset(("a", "an", "the", "is", "are", "was", "were", "be", "'s", "’s"))
"""words that may stand before the name, beside those of the prompt"""
WORD = re.compile(r"[’']s\b|\w+")
OWNER = re.compile(r"[’']s?\b")


def says_first(answer: str, names: Iterable[str], prompt: str = "") -> bool:
    """Tell whether the first thing that an answer to `prompt` says is one of the names, by the rules above."""
    text = " ".join(normalize("NFC", answer).split())
    passed = BEFORE | {word.casefold() for word in WORD.findall(normalize("NFC", prompt))}
    wanted = [re.compile(re.escape(" ".join(normalize("NFC", name).split())), re.IGNORECASE) for name in names]
    place = 0
    while place < len(text):
        if any((found := name.match(text, place)) and ends(text[found.end() :]) for name in wanted):
            return True
        word = WORD.match(text, place)
        if word and word[0].casefold() not in passed:
            return False
        place = word.end() if word else place + 1
    return False


def ends(rest: str) -> bool:
    """Tell whether a name ends where `rest` follows it."""
    if OWNER.match(rest) or (rest[:1].isalnum() and category(rest[0]) != "Lo"):  # no spaces in scripts without case
        return False
    return not (rest[:1] in (" ", "-") and rest[1:2].isupper())


def said(name: str, prompts: Callable[[Case], Sequence[Spoken]]) -> CaseMetric:
    """Return the metric of the percentage of a case's prompts whose answer says the target, or an alias, first."""

    def values(cases: Sequence[Case], read: Readings) -> Values:
        return [
            mean([
                says_first(read.said[prompt], case.request.names, prompt.text)
                for prompt in prompts(case)
                if prompt in read.said
            ])
            for case in cases
        ]  # fmt: skip

    return CaseMetric(name, values, spoken=prompts)


def asked(case: Case, *, chat: bool) -> list[Spoken]:
    """Return the question form, by itself or in the chat template."""
    question = case.request.question
    return [Spoken(question.replace("{}", case.request.subject, 1), chat)] if question else []


SAID = (
    said("said", lambda case: [Spoken(case.request.prompt.replace("{}", case.request.subject, 1))]),
    said(
        "said_paraphrase",
        lambda case: [Spoken(text.replace("{}", case.request.subject, 1)) for text in case.request.paraphrases],
    ),
    said("said_question", lambda case: asked(case, chat=False)),
    said("said_chat", lambda case: asked(case, chat=True)),
)
"""on the edit prompt, on held-out wordings, on the question form, and on it in a chat; None where there is no such"""


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


def questions_of(case: Case, kind: str, *, contest: bool) -> list[Ripple]:
    """Return a case's questions of a kind that are answered by the likelier of two answers, or in words."""
    return [one for one in case.ripples if one.kind == kind and bool(one.wrong) == contest]


def triples(case: Case, kind: str) -> list[Triple]:
    """Return (right, wrong) of each contest in turn."""
    return [
        ("{}", one.prompt, answer)
        for one in questions_of(case, kind, contest=True)
        for answer in (one.names[0], one.wrong)
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
        spoken=lambda case: [Spoken(one.prompt) for one in questions_of(case, kind, contest=False)],
    )


RIPPLE = tuple(map(metric, KINDS))
