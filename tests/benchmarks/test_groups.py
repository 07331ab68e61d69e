"""Several objects for a subject, measured on a small model: each way writes all edits from the same base."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kbsync.benchmarks.bench import Bench, Pool
from kbsync.benchmarks.groups import measure_size
from kbsync.facts import EditRequest
from kbsync.ledger import Ledger
from kbsync.memit import MemitSettings
from kbsync.models import LoadedModel
from kbsync.sync.model import ModelChoice
from tests.homes import Editable, small
from tests.tiny_models import FACTS

__all__ = ["small"]

SETTINGS = MemitSettings(layers=(1, 2), lambda_=1.0, steps=12, clamp_norm_factor=3.0, weight_decay=0.01, contexts=1)
FIGURES = {"ES", "PS", "NS", "S", "recall", "paraphrase_recall", "perplexity"}


def other_wordings(relation: str, prompt: str) -> list[EditRequest]:
    """Further relations for the small model: the bench asks of what is `known` no more than its texts."""
    return [replace(fact, relation=relation, prompt=prompt, paraphrases=("{} sits by",)) for fact in FACTS]


KNOWN = [*FACTS, *other_wordings("P1", "The government of {} sits in"), *other_wordings("P2", "In 1987. {} is like")]


POOL = Pool("tests", KNOWN)


@pytest.fixture
def bench(known: LoadedModel, small: Editable, tmp_path: Path) -> Iterator[Bench]:
    with Ledger.open(tmp_path) as ledger, ledger.writer("tests"):
        yield Bench(ledger, ModelChoice("known", known, SETTINGS, small.corpus, None))


def test_each_way_is_measured(bench: Bench) -> None:
    figures = measure_size(bench, POOL, 2, 3, seed=0)
    assert (figures["objects"], figures["subjects"], figures["edits"], figures["new_relations"]) == (2, 3, 6, 0)
    assert list(figures["ways"]) == ["apart", "groups", "single"]
    assert all(way.keys() == FIGURES for way in figures["ways"].values())
    assert figures["ways"]["groups"] != figures["ways"]["apart"] != figures["ways"]["single"]


def test_with_one_object_all_ways_are_one(bench: Bench) -> None:
    figures = measure_size(bench, POOL, 1, 3, seed=0)
    assert figures["ways"]["apart"] == figures["ways"]["groups"] == figures["ways"]["single"]
    assert figures["edits"] == 3


def test_the_figures_are_the_same_again_and_the_model_is_left_as_found(bench: Bench) -> None:
    before = bench.figures([], ("perplexity",), bench.text([]))
    assert measure_size(bench, POOL, 1, 2, seed=1) == measure_size(bench, POOL, 1, 2, seed=1)
    assert bench.figures([], ("perplexity",), bench.text([])) == before
