"""Measure a batch: the cases of its edits, the prompts around them, and the figures before and after."""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cache
from heapq import nsmallest
from itertools import accumulate, islice
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

from kbsync.errors import KbsyncError
from kbsync.facts import EditRequest, Wording, content_id
from kbsync.ledger import FactRow, Ledger, Metric
from kbsync.ledger.facts import aliases
from kbsync.metrics import (
    SAID_METRICS,
    Case,
    Neighbour,
    Said,
    Sampled,
    Scorer,
    Values,
    evaluate,
    kept_values,
    perplexity,
    recalled,
    say,
    summary,
)
from kbsync.metrics.metric import with_neighbours
from kbsync.models import LoadedModel, greedy_answers, locate, score_targets
from kbsync.sync.answers import BaseScores
from kbsync.sync.corpus import held_out_documents
from kbsync.sync.known import prompt_of
from kbsync.sync.model import Session
from kbsync.sync.tasks import Tasks
from kbsync.templates import Templates


def failures(loaded: LoadedModel, requests: Sequence[EditRequest]) -> list[dict[str, Any]]:
    """Ask the model, as it is, for the edits of these requests; none of them is to be recalled by it.

    The `rival` is the model's own answer to the edit prompt, empty where it ends the text. Probabilities, from 0 to 1,
    are of the whole object and of the whole rival.
    """
    rivals = greedy_answers(loaded, [prompt_of(request) for request in requests])
    own = _probabilities(loaded, [(one.prompt, one.subject, one.target) for one in requests])
    asked = [(one.prompt, one.subject, rival) for one, rival in zip(requests, rivals, strict=True) if rival]
    theirs = dict(zip(asked, _probabilities(loaded, asked), strict=True))
    return [
        {
            "subject": one.subject,
            "relation": one.relation,
            "object": one.target,
            "probability": likely,
            "rival": rival,
            "rival_probability": theirs.get((one.prompt, one.subject, rival)),
        }
        for one, likely, rival in zip(requests, own, rivals, strict=True)
    ]


def _probabilities(loaded: LoadedModel, triples: Sequence[tuple[str, str, str]]) -> list[float]:
    if not triples:
        return []
    lengths = [len(tokens.target) for tokens in locate(loaded.tokenizer, triples)]
    scores = score_targets(loaded, triples)
    return [math.exp(score.log_prob * length) for score, length in zip(scores, lengths, strict=True)]


PROMPTS = 100
"""prompts of a kind at most, so that measuring them takes the same time however many edits there are"""

Item = TypeVar("Item")
Pair = tuple[str, str]
"""(relation, subject label)"""


def sampled_prompts(
    ledger: Ledger,
    templates: Templates,
    loaded: LoadedModel,
    active: Sequence[EditRequest],
    wordings: Iterable[EditRequest],
    held: Collection[EditRequest],
) -> Sampled:
    """Return `PROMPTS` of each kind at most; `wordings` are the `active` edits in their further edited words.

    A prompt that the model has no room for, or its tokenizer no token for the subject of, is left out.
    """
    edited = {(one.relation, one.subject) for one in active}
    relations, subjects = {relation for relation, _ in edited}, {subject for _, subject in edited}
    held_subjects = {one.subject for one in held}
    held_relations = {one.relation for one in held if one.subject in subjects}
    facts: dict[Pair, list[FactRow]] = defaultdict(list)
    if edited:
        for fact in ledger.facts(withdrawn=False):
            if fact.wording is None and fact.relation in templates:
                facts[fact.relation, fact.subject_label].append(fact)
    known = (pair for pair in facts if pair[1] in subjects and pair[0] not in held_relations and pair not in edited)
    others = (pair for pair in facts if pair[0] in relations and pair[1] not in subjects | held_subjects)
    further = list(wordings)
    return Sampled(
        worded=tuple(_drawn([*active, *further], lambda one: one.id)) if further else (),
        same=prompts_beside(templates, loaded, edited, held_relations),
        known=tuple(_told(ledger, templates, loaded, {pair: facts[pair] for pair in _drawn(known, list)})),
        others=tuple(_open(templates, loaded, others)),
    )


def prompts_beside(
    templates: Templates, loaded: LoadedModel, edited: Collection[Pair], held: Collection[str]
) -> tuple[EditRequest, ...]:
    """Return `PROMPTS` prompts at most about edited subjects, in relations of their kind that are not edited there.

    None of them is of a relation that is `held`.
    """
    some = set(_drawn({subject for _, subject in edited}, str))  # subjects enough for `PROMPTS`
    beside = {
        (template.relation, subject)
        for relation, subject in edited
        if subject in some
        for template in templates.beside(relation)
        if template.relation not in held
    }
    return tuple(_open(templates, loaded, beside.difference(edited)))


def _drawn(items: Iterable[Item], name: Callable[[Item], object]) -> list[Item]:
    """Return those that come first in an order that hangs on their names, and not on how they are spelt."""
    return nsmallest(PROMPTS, items, key=lambda item: content_id("measured1", name(item)))


def _open(templates: Templates, loaded: LoadedModel, pairs: Iterable[Pair]) -> Iterator[EditRequest]:
    """Yield the drawn pairs' prompts without an object."""
    for relation, subject in _drawn(pairs, list):
        request = templates.request(subject, relation, "")
        if _fits(loaded, request, ""):
            yield request


def _told(
    ledger: Ledger, templates: Templates, loaded: LoadedModel, facts: dict[Pair, list[FactRow]]
) -> Iterator[EditRequest]:
    """Yield a request for each pair's facts: its first object is the target, the others and their names are aliases."""
    names = aliases(ledger, {fact.object_key for rows in facts.values() for fact in rows})
    for (relation, subject), rows in facts.items():
        objects = dict.fromkeys(name for fact in rows for name in (fact.object_label, *names.get(fact.object_key, ())))
        request = templates.request(subject, relation, "")
        fitting = [name for name in objects if _fits(loaded, request, name)]
        if fitting:
            yield replace(request, target=fitting[0], aliases=tuple(fitting[1:]))


def _fits(loaded: LoadedModel, request: EditRequest, name: str) -> bool:
    try:
        (placed,) = locate(loaded.tokenizer, [(request.prompt, request.subject, name)])
    except KbsyncError:
        return False
    return loaded.positions is None or len(placed.ids) <= loaded.positions


LONGEST_BEGINNING = 20
"""words"""


def beginnings(lines: Sequence[str]) -> tuple[EditRequest, ...]:
    """Return the first half, or `LONGEST_BEGINNING` words, of the first `PROMPTS` lines that have two words."""
    parted = [words for words in map(str.split, lines) if len(words) > 1]
    texts = [" ".join(words[: min(len(words) // 2, LONGEST_BEGINNING)]) for words in parted[:PROMPTS]]
    return tuple(EditRequest("", text, "{}", "") for text in texts)


PERPLEXITY_LINES = 200
PERPLEXITY_TOKENS = 8192
"""of these lines, for an apply and for each trial of `calibrate`: more would take longer than all other figures"""
OF_CASES = ("ES", "PS", "NS", "recall", "paraphrase_recall")
"""what an apply measures of its edits, by the registry's names"""
MOST_HEARD = 10
"""edits, drawn by their ids, whose answers in the edited model's own words are heard"""


@dataclass(frozen=True, slots=True)
class Measured:
    """A batch's figures: rows for the ledger, a table of before and after, edits of its cases that are not recalled."""

    metrics: list[Metric]
    table: dict[str, dict[str, float | None]]
    failed: Sequence[Mapping[str, Any]]
    recalled: dict[str, bool]
    """by request: whether the edited model recalls it; for all active edits"""

    def add(self, name: str, after: float) -> None:
        """Add a figure of the whole batch that the base model has no counterpart of."""
        self.metrics.append(Metric(name, None, after))
        self.table[name] = {"before": None, "after": after}


def held_out_lines(loaded: LoadedModel, corpus: Path | str | None) -> tuple[list[str], list[str]]:
    """Return the first held-out lines of a corpus, and those of them that perplexity is measured on."""
    lines = list(islice(held_out_documents(corpus), PERPLEXITY_LINES)) if corpus else []
    return lines, first_tokens(loaded, lines)


def first_tokens(loaded: LoadedModel, lines: Sequence[str], most: int = PERPLEXITY_TOKENS) -> list[str]:
    """Return the first lines with so many tokens at most, and at least one where there is one."""
    ends = accumulate(map(len, loaded.tokenizer(list(lines))["input_ids"])) if lines else ()
    return [line for line, end in zip(lines, ends, strict=True) if end <= most] or list(lines[:1])


def cases_for(
    requests: Sequence[EditRequest],
    old: Mapping[str, str],
    facts: Sequence[FactRow],
    edited_subjects: set[tuple[str, str]],
    templates: Templates,
) -> list[Case]:
    """Return a case for each request: `old` maps its id to o^c; neighbours are unedited subjects of its relation.

    A fact with a wording of its own is no neighbour: what a data set asks for is not what holds.
    """
    unedited: dict[str, list[FactRow]] = defaultdict(list)
    for fact in facts:
        if (fact.relation, fact.subject_label) not in edited_subjects and fact.wording is None:
            unedited[fact.relation].append(fact)

    @cache
    def near(relation: str, prompt: str) -> list[Neighbour]:
        return [Neighbour(prompt, row.subject_label, row.object_label) for row in unedited[relation]]

    told = [(one, templates.wording(one.relation) or Wording(one.prompt)) for one in requests]
    return [with_neighbours(Case(one, old[one.id]), near(one.relation, words.prompt)) for one, words in told]


def measure_edits(
    work: Session,
    edited: Callable[[], AbstractContextManager[None]],
    cases: Sequence[Case],
    active: Sequence[EditRequest],
    sampled: Sampled,
    *,
    chat: bool = False,
    tasks: Tasks | None = None,
) -> Measured:
    """Measure `cases` on base and edited model, the recall of all `active` edits, and perplexity on the corpus.

    The `sampled` prompts tell what is kept. What the base model was asked before it is not asked again. What the edited
    model says in its own words is heard of a few cases. With `chat`, also recall of the cases' question forms in the
    tokenizer's chat template; with `tasks`, the figures of these.
    """
    choice, base = work.choice, BaseScores(work.ledger, work.model)
    every, lines = held_out_lines(choice.loaded, choice.corpus)
    sampled = replace(sampled, unrelated=beginnings(every))

    def look(
        when: str, score: Scorer, of_text: Callable[[LoadedModel, Sequence[str], int], float]
    ) -> tuple[Mapping[str, Values], dict[str, float], list[bool], Said]:
        def told(phase: str, done: int, total: int) -> None:
            work.progress(f"{phase} {when}", done, total)

        names = (*OF_CASES, *(("chat_recall",) if chat else ()))
        measured = evaluate(choice.loaded, cases, names, progress=told, score=score)
        figures = summary(measured)
        said = recalled(choice.loaded, active, score=score)
        if active:
            figures["recall_active"] = 100 * sum(said) / len(said)
        if lines:
            figures["perplexity"] = of_text(choice.loaded, lines, choice.settings.sequence_length)
        if tasks is not None:
            figures |= {name: one.mean for name, one in tasks.figures(choice.loaded, told).items()}
        return measured, figures, said, say(choice.loaded, sampled, score)

    before, figures_before, _, said_before = look("before", base, base.perplexity)
    figures_before |= means(kept_values(said_before, said_before))
    with edited():
        after, figures_after, said, said_after = look("after", score_targets, perplexity)
        figures_after |= means(kept_values(said_before, said_after))
        missed = [case.request for case, right in zip(cases, after["recall"], strict=True) if not right]
        # A model that gives no numbers has no answers; that its figures are not finite is the guard's to tell.
        failed: Sequence[Mapping[str, Any]] = ()
        if all(map(math.isfinite, figures_after.values())):
            failed = failures(choice.loaded, missed)
            heard = sorted(cases, key=lambda case: case.request.id)[:MOST_HEARD]
            figures_after |= summary(evaluate(choice.loaded, heard, SAID_METRICS, progress=work.progress))
    table = {name: {"before": figures_before.get(name), "after": figures_after.get(name)} for name in figures_after}
    metrics = [Metric(name, figure["before"], figure["after"]) for name, figure in table.items()]
    for name, column in after.items():
        for case, was, now in zip(cases, before[name], column, strict=True):
            if now is not None:
                metrics.append(Metric(name, was, now, case.request.id))
    return Measured(metrics, table, failed, {one.id: right for one, right in zip(active, said, strict=True)})


def means(values: Mapping[str, Values]) -> dict[str, float]:
    return {name: fmean(value for value in column if value is not None) for name, column in values.items()}
