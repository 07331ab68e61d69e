"""The edits that benchmarks write, on any model: a data set's records, or the fixtures' facts with other objects."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from kbsync.datasets import open_dataset
from kbsync.errors import SettingsError
from kbsync.facts import EditRequest
from kbsync.metrics import Case, Counterfact, cases, counterfacts
from kbsync.models import LoadedModel, score_targets
from kbsync.sync.eval_cases import case_of
from kbsync.sync.home import Progress, silent
from kbsync.sync.practice import practice_requests


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
