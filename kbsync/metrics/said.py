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

What edits do around themselves, on sampled prompts: in all words that they are written in, on the rest of their
subjects, and on other subjects.

Base and edited model are asked the same prompts, so that an unedited model keeps 100% at a KL of exactly 0.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from unicodedata import category, normalize

import torch

from kbsync.facts import EditRequest
from kbsync.metrics.metric import Case, CaseMetric, Readings, Ripple, Scorer, Spoken, Told, Triple, Values, mean
from kbsync.metrics.success import recalled
from kbsync.models import LoadedModel, head_log_probs, last_hidden, make_rows, score_targets
from kbsync.models.forward import batches_by_length

BEFORE = frozenset(("a", "an", "the", "is", "are", "was", "were", "be", "'s", "’s"))
"""words that may stand before the name, beside those of the prompt"""
WORD = re.compile(r"[’']s\b|\w+")
CUT = 4
"""characters at the end of a text that may change where it goes on: a letter of which a token has a part, an accent"""
OWNER = re.compile(r"[’']s?\b")


def folded(text: str) -> str:
    return " ".join(normalize("NFC", text).split())


def passed_over(prompt: str) -> set[str]:
    """Return the words that may stand before the name, without case."""
    return {*BEFORE, *(word.casefold() for word in WORD.findall(normalize("NFC", prompt)))}


def says_first(answer: str, names: Iterable[str], prompt: str = "") -> bool:
    """Tell whether the first thing that an answer to `prompt` says is one of the names, by the rules above."""
    text, passed = folded(answer), passed_over(prompt)
    wanted = [re.compile(re.escape(folded(name)), re.IGNORECASE) for name in names]
    place = 0
    while place < len(text):
        if any((found := name.match(text, place)) and ends(text[found.end() :]) for name in wanted):
            return True
        word = WORD.match(text, place)
        if word and word[0].casefold() not in passed:
            return False
        place = word.end() if word else place + 1
    return False


def settled(answer: str, prompt: str, longest: int) -> bool:
    """Tell whether `says_first` stays as it is whatever follows this answer, for names of `longest` characters at most.

    So it is where a word that may not stand before the name is whole, and a name in its place would have ended.
    """
    text, passed = folded(answer), passed_over(prompt)
    first = next((word for word in WORD.finditer(text) if word[0].casefold() not in passed), None)
    return first is not None and len(text) > max(first.end(), first.start() + longest + 2) + CUT


def ends(rest: str) -> bool:
    """Tell whether a name ends where `rest` follows it."""
    if OWNER.match(rest) or (rest[:1].isalnum() and category(rest[0]) != "Lo"):  # no spaces in scripts without case
        return False
    return not (rest[:1] in (" ", "-") and rest[1:2].isupper())


def said(name: str, prompts: Callable[[Case], Sequence[Spoken]]) -> CaseMetric:
    """Return the metric of the percentage of a case's prompts whose answer says the target, or an alias, first."""

    def value(case: Case, read: Readings) -> float | None:
        heard = [prompt for prompt in prompts(case) if prompt in read.said]
        return mean([says_first(read.said[prompt], case.request.names, prompt.text) for prompt in heard])

    return CaseMetric(name, value, spoken=prompts)


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


def contest(one: Ripple) -> list[Triple]:
    """Return (right, wrong) of a question that is answered by the likelier of two; none of one answered in words."""
    return [("{}", one.prompt, answer) for answer in (one.names[0], one.wrong)] if one.wrong else []


def right(one: Ripple, read: Readings) -> bool:
    if not one.wrong:
        return says_first(read.said[Spoken(one.prompt)], one.names, one.prompt)
    good, bad = (read.scores[triple].log_prob for triple in contest(one))
    return good > bad


def metric(kind: str) -> CaseMetric:
    """Return the metric of the percentage of a case's questions of a kind that are answered right."""
    return CaseMetric(
        f"ripple_{kind}",
        lambda case, read: mean([right(one, read) for one in case.ripples if one.kind == kind]),
        triples=lambda case: [triple for one in case.ripples if one.kind == kind for triple in contest(one)],
        spoken=lambda case: [Spoken(one.prompt) for one in case.ripples if one.kind == kind and not one.wrong],
    )


RIPPLE = tuple(map(metric, KINDS))


TOKEN_BUDGET = 4096
OPEN = attrgetter("same", "others", "unrelated")
"""the prompts without an object"""


@dataclass(frozen=True, slots=True)
class Sampled:
    """The prompts; those of `same`, `others` and `unrelated` have no object."""

    worded: tuple[EditRequest, ...] = ()
    """edits, in each of the words that they are written in; none where that is the edit prompt alone"""
    same: tuple[EditRequest, ...] = ()
    """edited subjects, in relations that are not edited there"""
    known: tuple[EditRequest, ...] = ()
    """facts on edited subjects that are not edited; any other object that a fact has is an alias"""
    others: tuple[EditRequest, ...] = ()
    """subjects that no edit is about, in edited relations; of a data set, the prompts of its neighbourhood"""
    unrelated: tuple[EditRequest, ...] = ()
    """beginnings of text that no edit is about"""

    def told(self, told: Told) -> "Sampled":
        """Return the same prompts with what is told before each."""

        def asked(one: EditRequest) -> EditRequest:
            return replace(one, prompt=told(one.prompt.replace("{}", one.subject, 1)) + one.prompt)

        return Sampled(**{field.name: tuple(map(asked, getattr(self, field.name))) for field in fields(self)})


@dataclass(frozen=True, slots=True)
class Said:
    """What a model, as it is, says to them."""

    worded: list[bool]
    known: list[bool]
    same: torch.Tensor
    """log-probabilities of the next token [n, V] in float32, on the CPU: 400 V bytes a hundred prompts"""
    others: torch.Tensor
    unrelated: torch.Tensor


def say(loaded: LoadedModel, asked: Sampled, score: Scorer = score_targets) -> Said:
    """Ask the model as it is; `score` may know scores already."""
    worded, known = (recalled(loaded, part, score=score) for part in (asked.worded, asked.known))
    texts = ([one.prompt.replace("{}", one.subject, 1) for one in part] for part in OPEN(asked))
    return Said(worded, known, *(next_tokens(loaded, part) for part in texts))


@torch.no_grad()
def next_tokens(loaded: LoadedModel, prompts: Sequence[str]) -> torch.Tensor:
    """Return the log-probabilities of the token after each prompt, [n, V] in float32 on the CPU."""
    rows: list[list[int]] = loaded.tokenizer(list(prompts))["input_ids"] if prompts else []
    found = [torch.empty(0)] * len(rows)
    for batch in batches_by_length([len(row) for row in rows], TOKEN_BUDGET):
        padded = make_rows([rows[place] for place in batch], loaded.device)
        last = last_hidden(loaded, padded)[torch.arange(len(batch), device=loaded.device), padded.lengths - 1]
        for place, log_probs in zip(batch, head_log_probs(loaded, last).cpu(), strict=True):
            found[place] = log_probs
    return torch.stack(found) if found else torch.empty(0, 0)


def kept_values(base: Said, now: Said) -> dict[str, Values]:
    """Return the values of a model's figures, one a prompt, by the registry's names; none where there is no prompt."""
    found: dict[str, Values] = {
        "worded_recall": [100.0 * right for right in now.worded],
        "kept_same": tops_kept(base.same, now.same),
        "known_kept_same": [100.0 * right for knew, right in zip(base.known, now.known, strict=True) if knew],
        "kept_others": tops_kept(base.others, now.others),
        "kept_unrelated": tops_kept(base.unrelated, now.unrelated),
        "kl_same": divergences(base.same, now.same),
        "kl_others": divergences(base.others, now.others),
        "kl_unrelated": divergences(base.unrelated, now.unrelated),
    }
    return {name: values for name, values in found.items() if values}


def tops_kept(base: torch.Tensor, now: torch.Tensor) -> Values:
    """Return 100 for each row of log-probabilities [n, V] whose likeliest token is the same in both, else 0."""
    return (100.0 * (base.argmax(-1) == now.argmax(-1))).tolist() if len(base) else []


def divergences(base: torch.Tensor, now: torch.Tensor) -> Values:
    """Return KL(base || now) of each row of log-probabilities [n, V], in nats; infinite where it is not finite."""
    if not len(base):
        return []
    terms = torch.where(base.isneginf(), 0.0, base.exp() * (base - now))
    kl = terms.sum(-1, dtype=torch.float64).nan_to_num(torch.inf, torch.inf)
    return kl.clamp(min=0).tolist()  # below 0 by rounding alone
