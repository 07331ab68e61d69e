"""A bench on a small model that knows twenty capitals, with small data sets made of them."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from kbsync.benchmarks.paper.bench import Measurements, PaperBench
from kbsync.benchmarks.paper.data import Sizes, open_data
from kbsync.benchmarks.paper.run import USUAL
from kbsync.ledger import Ledger
from kbsync.memit import MemitSettings
from kbsync.models import LoadedModel
from kbsync.sync.model import ModelChoice
from kbsync.sync.practice import train_for
from tests.homes import Editable, small
from tests.tiny_models import FACTS, known, known_model, left_as_found

__all__ = ["known", "small"]

SETTINGS = MemitSettings(layers=(0,), lambda_=0.01, steps=12, clamp_norm_factor=8.0, weight_decay=0.01, contexts=1)
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


def write_data(folder: Path) -> tuple[Path, Path]:
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
    return files


def make_bench(ledger: Ledger, loaded: LoadedModel, folder: Path, corpus: Path) -> PaperBench:
    """All editors, on data sets that are written into the folder."""
    choice = ModelChoice("known", loaded, SETTINGS, corpus, None)
    data, kept = open_data(*write_data(folder), 0), Measurements(folder / "out" / "units.jsonl")
    return PaperBench(ledger, choice, kept, data=data, sizes=SIZES, rows=USUAL, values={"ft": {"steps": "7"}})


@pytest.fixture(scope="session")
def trained(small: Editable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the covariance and with MEND's network, which is trained for four steps."""
    folder = tmp_path_factory.mktemp("trained")
    model = left_as_found(known_model(Path(tmp_path_factory.getbasetemp())))
    with model as loaded, Ledger.open(folder / "home") as ledger, ledger.writer("tests"):
        made = make_bench(ledger, loaded, folder, small.corpus)
        made.covariances(SETTINGS.layers)
        train_for(ledger, made.choice, (FACTS, "tests"), len(FACTS), 4, without=made.evaluated)
    return folder / "home"


@pytest.fixture
def bench(known: LoadedModel, small: Editable, trained: Path, tmp_path: Path) -> Iterator[PaperBench]:
    """A bench in a home of its own."""
    shutil.copytree(trained, tmp_path / "home")
    with Ledger.open(tmp_path / "home") as ledger, ledger.writer("tests"):
        yield make_bench(ledger, known, tmp_path, small.corpus)
