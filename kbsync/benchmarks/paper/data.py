"""The data sets of the experiments: records without conflicts in one seeded order, as cases; the paper's own tables."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml

from kbsync.benchmarks.paper.drawings import Row
from kbsync.datasets import DataSet, Record, open_dataset
from kbsync.errors import SettingsError
from kbsync.metrics import Case
from kbsync.resources import fixtures_folder
from kbsync.sync.eval_cases import case_of, record_references, with_references
from kbsync.sync.practice import COUNTERFACT, ZSRE

__all__ = ["PaperData", "Published", "evenly", "open_data", "published_tables"]

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class PaperData:
    """The cases of the two data sets in one seeded order."""

    files: tuple[Path, ...]
    counterfact: list[Case]
    zsre: list[Case]
    """none where there is no such data set"""
    seed: int


@dataclass(frozen=True, slots=True)
class Published:
    """One table of the paper."""

    table: str
    source: str
    rows: tuple[Row, ...]


@cache
def published_tables() -> dict[str, Published]:
    """Return the paper's tables, where they are known, by the experiment that they belong to."""
    content: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("published.yaml").read_text(encoding="utf-8"))
    source = content.pop("source")
    return {name: Published(part["table"], source, tuple(part["rows"])) for name, part in content.items()}


def open_data(dataset: Path | None, zsre: Path | None, seed: int) -> PaperData:
    """Read the data sets; where none is named, those of the practice model, and no zsRE beside another data set.

    Raises SettingsError for one of another form, DataSetError for a bad one.
    """
    if dataset is None:
        dataset, zsre = fixtures_folder() / COUNTERFACT, zsre or fixtures_folder() / ZSRE
    opened = [checked_dataset(dataset, "counterfact"), *([checked_dataset(zsre, "zsre")] if zsre else [])]
    found = [ordered_cases(one, seed) for one in opened]
    return PaperData((dataset, *([zsre] if zsre else [])), found[0], found[1] if zsre else [], seed)


def ordered_cases(dataset: DataSet, seed: int) -> list[Case]:
    """Return a data set's cases in a seeded order, of those in conflict (Eqn. 5) the first alone.

    References are the sentences of the data set's own prompts.
    """
    records = list(dataset)
    texts = record_references(records)
    drawn = random.Random(seed).sample(records, len(records))
    return [with_references(case_of(record), texts) for record in without_conflicts(drawn, dataset.format)]


def checked_dataset(path: Path, wanted: str) -> DataSet:
    """Open a data set; SettingsError where it is not of the `wanted` form, DataSetError where it is bad."""
    dataset = open_dataset(path)
    if dataset.format != wanted:
        raise SettingsError(f"{path} is in {dataset.format}'s form; a data set in {wanted}'s form is needed here")
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
