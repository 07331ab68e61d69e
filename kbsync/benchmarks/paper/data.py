"""What the experiments are made on: data sets as cases in one seeded order, sizes, and the paper's own tables."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml

from kbsync.datasets import DataSet, Record, open_dataset
from kbsync.errors import SettingsError
from kbsync.metrics import Case
from kbsync.resources import fixtures_folder
from kbsync.sync.eval_cases import References, case_of, read_references, record_references, with_references
from kbsync.sync.practice import COUNTERFACT, ZSRE

Item = TypeVar("Item")
BOUNDED = ("category_edits", "mixture", "layers", "lambda_edits", "timed", "elections", "stars")
"""sizes that no `--edits` raises"""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Numbers of edits, and of cases that are measured; the defaults are the size ``standard``."""

    edits: int = 1000
    """N of `counterfact` and `scaling`"""
    also: tuple[int, ...] = (300,)
    """further n of both, under N"""
    points: int = 16
    """n = exp(ln(N) i / points), i = 0..points"""
    measured: int = 120
    """cases that are measured of n edits, evenly over their order"""
    generated: int = 20
    """of those, cases with free text for GE and RS"""
    lines: int = 200
    """of text, for perplexity"""
    zsre: int = 200
    categories: int = 5
    """relations, those of the most records"""
    category_edits: int = 30
    mixture: int = 700
    """edits of a mixture at most"""
    mixture_pairs: int = 4
    mixture_steps: int = 3
    mixture_draws: int = 1
    """samples of each mixture and each part"""
    traced: int = 100
    """facts that are traced"""
    noises: int = 3
    """draws of noise for each traced fact"""
    decays: int = 5
    """values of FT-W's weight decay over four decades"""
    layers: int = 200
    lambdas: int = 9
    """values over four decades"""
    lambda_edits: int = 200
    timed: int = 50
    elections: int = 71
    stars: int = 127


def sizes_of(
    name: str,
    edits: int | None = None,
    cases: int | None = None,
    categories: int | None = None,
    noises: int | None = None,
) -> Sizes:
    """Return the sizes of a name in sizes.yaml, with what the user asks for in its place.

    `edits` bounds every experiment's, `cases` all that is measured. SettingsError for a name that there is not, or
    fewer than 2 edits.
    """
    named: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("sizes.yaml").read_text("utf-8"))
    if name not in named:
        raise SettingsError(f"--size {name}: choose one of {', '.join(named)}")
    given: dict[str, Any] = {field: tuple(value) if field == "also" else value for field, value in named[name].items()}
    sizes = Sizes(**given)
    if edits is not None:
        if edits < 2:
            raise SettingsError(f"--edits {edits}: ask for 2 at least")
        bounded = {field: min(edits, getattr(sizes, field)) for field in BOUNDED}
        sizes = replace(sizes, edits=edits, zsre=edits, **bounded)
    if cases is not None:
        fewer = {field: min(cases, getattr(sizes, field)) for field in ("generated", "traced")}
        sizes = replace(sizes, measured=cases, **fewer)
    return replace(sizes, categories=categories or sizes.categories, noises=noises or sizes.noises)


@dataclass(frozen=True, slots=True)
class PaperData:
    """The cases of the two data sets in one seeded order."""

    files: tuple[Path, ...]
    counterfact: list[Case]
    zsre: list[Case]
    """none where there is no such data set"""
    seed: int
    references: str = "the sentences of the data's own prompts"
    """what RS compares generated text with"""


@cache
def published_tables() -> dict[str, dict[str, Any]]:
    """Return the paper's tables, where they are known: experiment -> table, source and rows."""
    content: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("published.yaml").read_text("utf-8"))
    source = content.pop("source")
    return {name: {"table": part["table"], "source": source, "rows": part["rows"]} for name, part in content.items()}


def open_data(dataset: Path | None, zsre: Path | None, seed: int, references: Path | None = None) -> PaperData:
    """Read the data sets; where none is named, those of the practice model, and no zsRE beside another data set.

    `references` holds the texts about objects; None: the sentences of the data set's own prompts.
    Raises SettingsError for one of another form, DataSetError for a bad one.
    """
    if dataset is None:
        dataset, zsre = fixtures_folder() / COUNTERFACT, zsre or fixtures_folder() / ZSRE
    files = {"counterfact": dataset, **({"zsre": zsre} if zsre else {})}
    opened = {wanted: open_dataset(path) for wanted, path in files.items()}
    for wanted, found in opened.items():
        if found.format != wanted:
            told = f"{files[wanted]} is in {found.format}'s form"
            raise SettingsError(f"{told}; a data set in {wanted}'s form is needed here")
    texts = read_references(references) if references else None
    cases = {wanted: ordered_cases(found, seed, texts) for wanted, found in opened.items()}
    data = PaperData(tuple(files.values()), cases["counterfact"], cases.get("zsre", []), seed)
    return replace(data, references=references.name) if references else data


def ordered_cases(dataset: DataSet, seed: int, references: References | None) -> list[Case]:
    """Return a data set's cases in a seeded order, of those in conflict (Eqn. 5) the first alone.

    zsRE names no relation, so there it is the prompt.
    """
    records = list(dataset)
    texts = record_references(records) if references is None else references
    found: dict[tuple[str, str], Record] = {}
    for record in random.Random(seed).sample(records, len(records)):
        request = record.request
        found.setdefault((request.prompt if dataset.format == "zsre" else request.relation, request.subject), record)
    return [with_references(case_of(record), texts) for record in found.values()]


def evenly(items: Sequence[Item], count: int) -> list[Item]:
    """Return `count` of the items (all where there are fewer), evenly over their order."""
    if len(items) <= count:
        return list(items)
    return [items[place * len(items) // count] for place in range(count)]
