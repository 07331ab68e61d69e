"""What the benchmarks share: the edits that they write, on any model and data set, and the model with its measures."""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from kbsync.datasets import open_dataset
from kbsync.errors import SettingsError
from kbsync.facts import EditRequest
from kbsync.memit import (
    MemitSettings,
    RequestGroup,
    edited,
    group_requests,
    optimise_targets,
    sample_contexts,
    spread,
)
from kbsync.metrics import Case, Counterfact, cases, counterfacts, measure, perplexity, summary
from kbsync.models import LoadedModel, score_targets
from kbsync.sync.corpus import documents
from kbsync.sync.covariances import covariances_for, with_text
from kbsync.sync.eval_cases import case_of
from kbsync.sync.home import Progress, silent
from kbsync.sync.model import ModelChoice
from kbsync.sync.practice import practice_requests

__all__ = ["Deltas", "Pool", "Workbench", "edit_pool", "published"]

PERPLEXITY_LINES = 200
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")

Deltas = Mapping[int, torch.Tensor]
"""layer -> change of W_out from the base, [d, m]"""


PUBLISHED: dict[str, Any] = {
    **{"sweeps": 1, "emphasis": 1.0, "coupling": 0.0, "group_weight": 1.0},
    **{"rest_weight": 0.0, "hold_subjects": 0, "hold_relations": 0, "wordings": 0, "search_dtype": "float32"},
}
"""what switches off all that kbsync adds to MEMIT"""


def published(settings: MemitSettings) -> MemitSettings:
    """Return MEMIT as it was published: one sweep, one wording, and nothing that kbsync adds.

    Layers, lambda and the search are the model's own; where its search has no contexts, it gets the paper's.
    """
    return replace(settings, **PUBLISHED, contexts=settings.contexts or MemitSettings().contexts)


@dataclass(frozen=True, slots=True)
class Pool:
    """What edits are drawn from."""

    source: str
    """name of the data set, or ``fixtures``"""
    facts: Sequence[EditRequest]
    """with the objects that hold; neighbours and other objects are drawn from them"""
    records: Mapping[tuple[str, str], Case] = field(default_factory=dict)
    """the data set's cases by relation and subject; none of the fixtures"""

    def edits(self, count: int, seed: int = 0) -> list[Counterfact]:
        """Return `count` edits in a seeded order, fewer where there are fewer; a smaller count is a prefix."""
        if not self.records:
            return counterfacts(self.facts, count, seed)
        ordered = sorted(self.records.values(), key=lambda case: case.request.id)
        random.Random(seed).shuffle(ordered)
        return [Counterfact(case.request, case.old) for case in ordered[:count]]

    def require(self, count: int, seed: int, option: str) -> list[Counterfact]:
        """Return `count` edits; SettingsError, which names the option that asks for them, where there are fewer."""
        found = self.edits(count, seed)
        if len(found) < count:
            why = "the data set has" if self.records else "the model knows enough facts of the fixtures for"
            raise SettingsError(f"{option} needs {count} edits, and {why} {len(found)}: ask for fewer")
        return found

    def cases(self, edits: Sequence[Counterfact]) -> list[Case]:
        """Return a case for each edit, with the data set's own neighbours where it has some."""
        made = cases(edits, self.facts)
        own = [self.records.get((case.request.relation, case.request.subject)) for case in made]
        return [
            replace(case, neighbours=record.neighbours) if record and record.neighbours else case
            for case, record in zip(made, own, strict=True)
        ]


def edit_pool(loaded: LoadedModel, dataset: Path | None = None, progress: Progress = silent) -> Pool:
    """Return the records of a data set; without one, the fixtures' facts that are the model's top answers.

    Raises DataSetError for a bad data set, SettingsError for one without the objects before the edits, and for a model
    that knows no fact of the fixtures.
    """
    if dataset is not None:
        found = [case_of(record) for record in open_dataset(dataset)]
        if not all(case.old for case in found):
            raise SettingsError(f"{dataset} does not name the objects before the edits: use one in CounterFact's form")
        records: dict[tuple[str, str], Case] = {}
        for case in found:
            records.setdefault((case.request.relation, case.request.subject), case)
        return Pool(dataset.name, [replace(one.request, target=one.old) for one in records.values()], records)
    facts = practice_requests("earlier")
    triples = [(fact.prompt, fact.subject, fact.target) for fact in facts]
    scores = score_targets(loaded, triples, lambda done: progress("asking the model", done, len(facts)))
    known = [fact for fact, score in zip(facts, scores, strict=True) if score.exact]
    if not known:
        raise SettingsError(f"{loaded.source} recalls none of the fixtures' facts: name a data set (--dataset FILE)")
    return Pool("fixtures", known)


class Workbench:
    """A model with its contexts, covariances and pool, taken once; targets are searched on the base, once for each."""

    def __init__(self, home: Path, choice: ModelChoice, pool: Pool, progress: Progress = silent) -> None:
        """Take contexts, and covariances into the home; raise SettingsError where there is no text for those."""
        choice = with_text(home, choice, progress)
        self.choice, self.loaded, self.settings, self.pool = choice, choice.loaded, choice.settings, pool
        self.progress = progress
        self.contexts = sample_contexts(self.loaded, self.settings)
        self.covariances = covariances_for(home / "tensors", choice, progress)

    def groups(self, requests: Sequence[EditRequest]) -> list[RequestGroup]:
        """Return the requests as groups by subject."""
        return group_requests(self.loaded, requests)

    def find(self, groups: Sequence[RequestGroup], targets: dict[str, torch.Tensor]) -> None:
        """Search the targets that `targets` lacks, by a group's id, and put them in."""
        missing = [group for group in groups if group.id not in targets]
        found = optimise_targets(self.loaded, missing, self.contexts, self.settings, progress=self.progress)
        targets |= {group.id: target.z for group, target in zip(missing, found, strict=True)}

    def solve(self, groups: Sequence[RequestGroup], targets: Mapping[str, torch.Tensor]) -> Deltas:
        """Return the deltas that hold all the groups, from the base."""
        z = torch.stack([targets[group.id] for group in groups])
        found = spread(self.loaded, groups, self.contexts, z, self.covariances, self.settings, self.progress)
        return {layer: delta.matrix() for layer, delta in found.items()}

    def text(self, edits: Sequence[Counterfact]) -> list[str]:
        """Return the corpus' first lines without the sentences that name an edited subject, or its new object."""
        if self.choice.corpus is None:
            return []
        names = sorted({name for edit in edits for name in (edit.request.subject, edit.request.target)})
        named = re.compile("|".join(map(re.escape, names)) or r"(?!)")
        lines = (
            " ".join(part for part in SENTENCE_END.split(line) if not named.search(part))
            for line in documents(self.choice.corpus)
        )
        return list(islice((line for line in lines if line.strip()), PERPLEXITY_LINES))

    def figures(
        self, edits: Sequence[Counterfact], text: Sequence[str], deltas: Deltas | None = None
    ) -> dict[str, float]:
        """Return ES, PS, NS, S and recall of edits in percent, and perplexity of a text, on base or edited model."""
        with edited(self.loaded, deltas or {}):
            found = summary(measure(self.loaded, self.pool.cases(edits), self.progress)) if edits else {}
            if text:
                found["perplexity"] = perplexity(self.loaded, text, self.settings.sequence_length)
        return found
