"""The data sets of the experiments: records without conflicts in one seeded order, as cases."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from kbsync.datasets import DataSet, Record, open_dataset
from kbsync.errors import SettingsError
from kbsync.metrics import Case
from kbsync.resources import fixtures_folder
from kbsync.workflows.eval_cases import case_of, with_references
from kbsync.workflows.practice_datasets import COUNTERFACT, ZSRE
from kbsync.workflows.references import record_references

__all__ = ["checked_dataset", "default_data", "default_zsre", "evenly", "ordered_cases"]

Item = TypeVar("Item")


def default_data() -> Path:
    """Return the practice data set in CounterFact's form."""
    return fixtures_folder() / COUNTERFACT


def default_zsre() -> Path:
    """Return the practice data set in zsRE's form."""
    return fixtures_folder() / ZSRE


def ordered_cases(path: Path, wanted: str, seed: int) -> list[Case]:
    """Return a data set's cases in a seeded order, of those in conflict (Eqn. 5) the first alone.

    References are the sentences of the data set's own prompts. Raises as `checked_dataset` does.
    """
    records = list(checked_dataset(path, wanted))
    texts = record_references(records)
    drawn = random.Random(seed).sample(records, len(records))
    return [with_references(case_of(record), texts) for record in without_conflicts(drawn, wanted)]


def checked_dataset(path: Path, wanted: str) -> DataSet:
    """Open a data set; SettingsError where it is not of the `wanted` form, DataSetError where it is bad."""
    dataset = open_dataset(path)
    if dataset.format != wanted:
        raise SettingsError(f"{path} is in {dataset.format}'s form; what is asked for is a data set in {wanted}'s")
    return dataset


def without_conflicts(records: Sequence[Record], form: str) -> list[Record]:
    """Return the first record of each subject and relation; zsRE names no relation, so there it is the prompt."""
    found: dict[tuple[str, str], Record] = {}
    for record in records:
        request = record.request
        asked = request.prompt if form == "zsre" else request.relation
        found.setdefault((asked, request.subject), record)
    return list(found.values())


def evenly(items: Sequence[Item], count: int) -> list[Item]:
    """Return `count` of the items (all where there are fewer), evenly over their order."""
    if len(items) <= count:
        return list(items)
    return [items[place * len(items) // count] for place in range(count)]
