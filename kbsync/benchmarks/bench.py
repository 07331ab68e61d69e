"""What the benchmarks on a model share: its covariances and targets, kept in the home, editors, and how they measure.

Beside the editors there is `published`: MEMIT as the paper has it. What kbsync adds is the row `memit`'s alone.

The edits that benchmarks write, on any model: a data set's records, or the fixtures' facts with other objects.
"""

import random
import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from kbsync.datasets import open_dataset
from kbsync.editors import Deltas, Editor, Task, editor
from kbsync.errors import SettingsError
from kbsync.facts import EditRequest
from kbsync.ledger import Ledger
from kbsync.memit import MemitSettings, RequestGroup, edited, group_requests, sample_contexts
from kbsync.metrics import (
    KEPT_METRICS,
    METRICS,
    Case,
    Figure,
    Said,
    Sampled,
    cases,
    counterfacts,
    evaluate,
    figures,
    say,
)
from kbsync.models import LoadedModel, score_targets
from kbsync.sync.corpus import held_out_documents
from kbsync.sync.covariances import Covariances, covariances_for, with_text
from kbsync.sync.deltas import cached_targets
from kbsync.sync.edits import held_beside
from kbsync.sync.eval_cases import HeldOut, case_of, perplexity_of
from kbsync.sync.evaluate import neighbourhood, prompt_figures
from kbsync.sync.home import Progress, silent, templates_for
from kbsync.sync.measure import PERPLEXITY_LINES, beginnings, first_tokens, prompts_beside
from kbsync.sync.model import ModelChoice, Session, identify, model_contexts
from kbsync.sync.practice import practice_requests


@dataclass(frozen=True, slots=True)
class Pool:
    """What edits are drawn from."""

    source: str
    """name of the data set, or ``fixtures``"""
    facts: Sequence[EditRequest]
    """with the objects that hold; neighbours and other objects are drawn from them"""
    records: Sequence[Case] = ()
    """the data set's cases, a relation and subject once; none of the fixtures"""

    def edits(self, count: int, seed: int = 0) -> list[Case]:
        """Return `count` edits in a seeded order, fewer where there are fewer; a smaller count is a prefix."""
        if not self.records:
            return counterfacts(self.facts, count, seed)
        ordered = sorted(self.records, key=lambda case: case.request.id)
        random.Random(seed).shuffle(ordered)
        return ordered[:count]

    def require(self, count: int, seed: int, option: str) -> list[Case]:
        """Return `count` edits; SettingsError, which names the option that asks for them, where there are fewer."""
        found = self.edits(count, seed)
        if len(found) < count:
            why = "the data set has" if self.records else "the model knows enough facts of the fixtures for"
            raise SettingsError(f"{option} needs {count} edits, and {why} {len(found)}: ask for fewer")
        return found

    def cases(self, edits: Sequence[Case]) -> list[Case]:
        """Return the edits with neighbours: the data set's own where it has some."""
        return cases(edits, self.facts)


def edit_pool(loaded: LoadedModel, dataset: Path | None = None, progress: Progress = silent) -> Pool:
    """Return the records of a data set; without one, the fixtures' facts that are the model's top answers."""
    if dataset is not None:
        found = [case_of(record) for record in open_dataset(dataset)]
        if not all(case.old for case in found):
            raise SettingsError(f"{dataset} does not name the objects before the edits: use one in CounterFact's form")
        records: dict[tuple[str, str], Case] = {}
        for case in found:
            records.setdefault((case.request.relation, case.request.subject), case)
        held = [replace(one.request, target=one.old) for one in records.values()]
        return Pool(dataset.name, held, list(records.values()))
    facts = practice_requests("earlier")
    triples = [(fact.prompt, fact.subject, fact.target) for fact in facts]
    scores = score_targets(loaded, triples, lambda done: progress("asking the model", done, len(facts)))
    known = [fact for fact, score in zip(facts, scores, strict=True) if score.exact]
    if not known:
        raise SettingsError(f"{loaded.source} recalls none of the fixtures' facts: name a data set (--dataset FILE)")
    return Pool("fixtures", known)


PUBLISHED = "published"
REUSES_TARGETS = ("memit", PUBLISHED, "alphaedit", "nas")
"""editors whose search for target vectors is MEMIT's on the base model"""
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


class Bench:
    """A model, and all that edits of it need."""

    def __init__(
        self,
        ledger: Ledger,
        choice: ModelChoice,
        progress: Progress = silent,
        values: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    ) -> None:
        """Record the model; `values` are settings by the editor that they are for."""
        choice = with_text(ledger.home, choice, progress)
        self.ledger, self.choice, self.progress, self.values = ledger, choice, progress, values
        self.loaded, self.settings = choice.loaded, choice.settings
        self.model = identify(ledger, choice)
        self.records: dict[int, Covariances] = {}
        self.said: tuple[Sampled, Said] | None = None

    @cached_property
    def contexts(self) -> tuple[str, ...]:
        """The contexts x_j of the model's own search."""
        return model_contexts(self.model, self.choice)

    def contexts_for(self, settings: MemitSettings) -> tuple[str, ...]:
        """Return the contexts of a search: the model's own, or others where the settings ask for others."""
        same = settings.contexts == self.settings.contexts
        return self.contexts if same else sample_contexts(self.loaded, settings)

    def editor(self, name: str) -> Editor:
        """Return an editor with what is known to suit the model, and what the user set for it."""
        if name in ("memit", PUBLISHED):
            return editor("memit")
        return editor(name, self.values.get(name, {}), model=self.choice.name)

    def settings_for(self, name: str) -> MemitSettings:
        if name == "memit":
            return self.settings
        return self.settings.published().with_values(self.values.get(PUBLISHED, {}))

    def covariances(self, layers: Sequence[int]) -> Mapping[int, torch.Tensor]:
        """Return C of these layers; those not yet in the home are collected in one pass, and kept there."""
        missing = tuple(sorted(set(layers) - self.records.keys()))
        if missing:
            choice = replace(self.choice, settings=replace(self.settings, layers=missing))
            found = covariances_for(self.ledger.tensors, choice, self.progress)
            self.records |= dict.fromkeys(missing, found)
        records = {layer: self.records[layer].records[layer] for layer in layers}
        return Covariances(self.ledger.tensors, records, frozenset(layers))

    def groups(self, name: str, requests: Sequence[EditRequest]) -> list[RequestGroup]:
        """Return the requests as an editor takes them: MEMIT by subject, others one by one in their order."""
        if name == "memit":
            return group_requests(self.loaded, requests, self.settings.wordings, self.settings.shared_endings)
        return [RequestGroup((request,)) for request in requests]

    def task(self, groups: Sequence[RequestGroup], settings: MemitSettings, *, search: bool = False) -> Task:
        """Return a task; with `search` it has the groups' target vectors, and those in the home are not searched."""
        contexts, z = self.contexts_for(settings), None
        if search:
            model = replace(self.model, contexts=tuple(contexts), settings=settings.as_dict())
            choice = replace(self.choice, settings=settings)
            work = Session(self.ledger, templates_for(self.ledger.home), choice, model, self.progress)
            z = cached_targets(work, groups).z
        edits = {(request.relation, request.subject) for group in groups for request in group.requests}
        held = held_beside(self.ledger, templates_for(self.ledger.home), self.loaded, settings, edits)
        given = self.loaded, groups, contexts, settings
        return Task(*given, covariances=self.covariances, z=z, held=held, progress=self.progress)

    def deltas(self, name: str, requests: Sequence[EditRequest], settings: MemitSettings | None = None) -> Deltas:
        groups = self.groups(name, requests)
        task = self.task(groups, settings or self.settings_for(name), search=name in REUSES_TARGETS)
        return self.editor(name).edit(task)

    def text(self, edits: Sequence[Case]) -> HeldOut:
        """Return lines that the covariance did not see, without sentences that name an edited subject or new object.

        They are as many as an apply measures perplexity on.
        """
        if self.choice.corpus is None:
            return HeldOut("none", ())
        names = sorted({name for edit in edits for name in (edit.request.subject, edit.request.target)})
        named = re.compile("|".join(map(re.escape, names)) or r"(?!)")
        parted = map(SENTENCE_END.split, held_out_documents(self.choice.corpus))
        lines = (" ".join(part for part in parts if not named.search(part)) for parts in parted)
        kept = list(islice((line for line in lines if line.strip()), PERPLEXITY_LINES))
        return HeldOut(self.choice.corpus.name, tuple(first_tokens(self.loaded, kept)))

    def around(self, cases: Sequence[Case], edits: Sequence[EditRequest], text: HeldOut) -> Sampled:
        """Return prompts of the cases' neighbourhoods, of the edited subjects' other relations, and of the text.

        The other relations are those that templates have for subjects of the same kind, but for the held ones.
        """
        templates, pairs = templates_for(self.ledger.home), {(one.relation, one.subject) for one in edits}
        settings = replace(self.settings, hold_subjects=0)
        held = held_beside(self.ledger, templates, self.loaded, settings, pairs)
        same = prompts_beside(templates, self.loaded, pairs, {one.relation for one in held})
        return replace(neighbourhood(cases), same=same, unrelated=beginnings(text.lines))

    def base_says(self, around: Sampled) -> Said:
        """Return what the base model says to the prompts, which is asked once where they are the same as before."""
        if self.said is None or self.said[0] != around:
            self.said = around, say(self.loaded, around)
        return self.said[1]

    def figures(
        self,
        cases: Sequence[Case],
        metrics: Sequence[str],
        text: HeldOut,
        seed: int = 0,
        deltas: Deltas | None = None,
        edits: Sequence[EditRequest] | None = None,
    ) -> dict[str, Figure]:
        """Return the registry's figures of cases and of a text, on the base model or with `deltas`.

        A metric that no case has, and one over a text that there is none of, is left out. `edits` are all that is
        edited; None: the cases'.
        """
        kept = [name for name in metrics if name in KEPT_METRICS and cases]
        around = self.around(cases, edits or [case.request for case in cases], text) if kept else None
        base = self.base_says(around) if around else None
        of_cases = [name for name in metrics if name in METRICS and cases]
        with edited(self.loaded, deltas) if deltas else nullcontext():
            found = figures(evaluate(self.loaded, cases, of_cases, seed, self.progress), seed)
            now = say(self.loaded, around) if around else None
            found |= prompt_figures(base, now, kept, seed)
            if "perplexity" in metrics and text.lines:
                found["perplexity"] = perplexity_of(self.choice, text, seed, self.progress)
            return found


def flat(found: Mapping[str, Figure]) -> dict[str, float]:
    """Return figures with the bounds of their intervals beside them."""
    return {
        f"{name}{part}": round(value, 3)
        for name, one in found.items()
        for part, value in (("", one.mean), ("_low", one.low), ("_high", one.high))
    }
