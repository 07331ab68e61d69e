"""A bench on a small model that knows twenty capitals, with small data sets made of them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from kbsync.benchmarks.paper.bench import PaperBench, PaperData
from kbsync.benchmarks.paper.sizes import Sizes
from kbsync.benchmarks.paper.units import Units
from kbsync.editors import EDITORS
from kbsync.ledger import Ledger
from kbsync.memit import MemitSettings
from kbsync.models import LoadedModel
from kbsync.workflows.choice import ModelChoice
from kbsync.workflows.mend import train_for
from kbsync.workflows.progress import silent
from tests.homes import small_model
from tests.tiny_models import FACTS, known

__all__ = ["known"]

SETTINGS = MemitSettings(layers=(0,), lambda_=0.01, steps=25, clamp_norm_factor=8.0, weight_decay=0.01, contexts=2)
SIZES = Sizes(
    edits=6,
    also=(3,),
    points=2,
    measured=4,
    generated=1,
    zsre=3,
    categories=2,
    category_edits=3,
    mixture=4,
    mixture_steps=2,
    traced=4,
    layers=3,
    lambdas=3,
    lambda_edits=3,
    timed=2,
    stars=20,
)


RECORDS = 11


def write_data(folder: Path) -> PaperData:
    """Write the two data sets: each capital's country gets the next one's; half are called another relation.

    Of the last facts there are no records: they are left for MEND's training.
    """
    counterfact, zsre = [], []
    for place, fact in enumerate(FACTS[:RECORDS]):
        other, near = FACTS[(place + 1) % len(FACTS)], FACTS[(place + 2) % len(FACTS)]
        first, second = (text.format(fact.subject) for text in fact.paraphrases)
        counterfact.append(
            {
                "requested_rewrite": {
                    "prompt": fact.prompt,
                    "relation_id": "P37" if place % 2 else "P30",
                    "target_new": {"str": other.target},
                    "target_true": {"str": fact.target},
                    "subject": fact.subject,
                },
                "paraphrase_prompts": [first],
                "neighborhood_prompts": [near.prompt.format(near.subject)],
                "attribute_prompts": [other.prompt.format(other.subject)],
                "generation_prompts": [second],
            }
        )
        zsre.append(
            {
                "subject": fact.subject,
                "src": fact.prompt.format(fact.subject),
                "rephrase": first,
                "answers": [other.target],
                "loc": near.prompt.format(near.subject),
                "loc_ans": near.target,
            }
        )
    files = folder / "counterfact.json", folder / "zsre.json"
    for file, records in zip(files, (counterfact, zsre), strict=True):
        file.write_text(json.dumps(records), encoding="utf-8")
    return PaperData(*files)


@pytest.fixture
def bench(known: LoadedModel, tmp_path: Path) -> Iterator[PaperBench]:
    """All editors; MEND's network is trained for four steps."""
    choice = ModelChoice("known", known, SETTINGS, small_model(Path(known.source).parent).corpus, None)
    with Ledger.open(tmp_path / "home") as ledger, ledger.writer("tests"):
        units = Units(tmp_path / "out" / "units.jsonl")
        made = PaperBench(ledger, choice, write_data(tmp_path), SIZES, list(EDITORS), units, silent)
        train_for(ledger, choice, (FACTS, "tests"), len(FACTS), 4, without=made.evaluated)
        yield made
