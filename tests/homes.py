"""Homes for tests: the command line in this process, small sources, snapshots, and a small model to edit.

`small` is `tiny_models.known` as the command line gets it: a folder, a corpus, and settings that fit it.
"""

import hashlib
import io
import random
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from kbsync.cli.main import main
from kbsync.ledger import BatchRow, EditRow, Ledger, Metric, write_tensors
from kbsync.ledger.edits import finish_batch, start_batch
from kbsync.memit import WeightDelta
from kbsync.resources import fixtures_folder
from kbsync.sync.edits import new_edit
from kbsync.sync.home import templates_for
from kbsync.sync.model import choose_model, current_deltas, delta_tensors, identify
from kbsync.sync.plan import make_plan
from tests.conftest import Ran, made_once
from tests.tiny_models import CAPITALS, TEXTS, known_model

TEMPLATES = """\
P36:
  label: capital
  prompt: The capital of {} is
  paraphrases:
    - "{} is governed from its capital"
    - The government of {} sits in
    - "In 1987. {} is governed from its capital"
    - In 1987. The government of {} sits in
  question: What is the capital of {}?
"""
"""a template in wordings that the small model was trained on"""

COUNTRIES = tuple(CAPITALS)
SWAPPED = dict(zip(COUNTRIES, (*tuple(CAPITALS.values())[1:], "Paris"), strict=True))
"""each country with another one's capital: nothing that the small model knows"""

SMALL_SETTINGS = (
    "layers=1,2",
    "lambda=1",
    "steps=6",
    "clamp_norm_factor=3",
    "published=true",  # nothing held beside, so that a small home has something left to measure
    "weight_decay=0.01",
    "sweeps=2",
    "contexts=1",
)
"""what is quick: how well it learns is asked of the practice model"""


WIDE = ("--max-perplexity-increase", "1000000", "--max-specificity-loss", "100", "--max-weight-change", "1e12")
"""bounds that a small model keeps, whatever a few edits do to it"""


def kbsync(*arguments: object) -> Ran:
    """Run the command line in this process, for homes that several tests share."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return Ran(code, out.getvalue(), err.getvalue())


def done(*arguments: object) -> Ran:
    """Run a command that must succeed."""
    ran = kbsync(*arguments)
    assert ran.code == 0, ran.err
    return ran


def write_facts(path: Path, **relations: Mapping[str, str]) -> Path:
    """Write relation -> {subject: object} as a YAML source."""
    lines = []
    for relation, facts in relations.items():
        lines += [f"{relation}:", *(f"  {subject}: {thing}" for subject, thing in facts.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def pull(home: Path, **relations: Mapping[str, str]) -> None:
    """Pull these facts, whole relations, from the one YAML source of a home."""
    home.mkdir(parents=True, exist_ok=True)
    source = write_facts(home / "facts.yaml", **relations)
    wanted = [part for relation in relations for part in ("--relation", relation)]
    done("pull", "--home", home, "--source", source, *wanted, "--accept-withdrawals")


def make_home(home: Path, templates: str = TEMPLATES, **relations: Mapping[str, str]) -> Path:
    """Make a home with templates of its own, and pull these facts into it."""
    (home / "templates").mkdir(parents=True)
    (home / "templates" / "own.yaml").write_text(templates, encoding="utf-8")
    pull(home, **relations)
    return home


def keep(home: Path) -> Path:
    """Put a home aside that is not to be changed; tests take `copied` ones."""
    return home.rename(home.with_name("kept"))


@contextmanager
def copied(kept: Path) -> Iterator[Path]:
    """Copy a home to where it was made, since its source is known by its path."""
    home = Path(shutil.copytree(kept, kept.with_name("home")))
    yield home
    shutil.rmtree(home)


def counts(home: Path, model: "Editable") -> dict[str, int]:
    """Return the signs of a plan with how often; applied is applied, recalled or not."""
    found = done("plan", "--home", home, *model.model, "--json").json["counts"]
    found["="] += found.pop("x")
    return {sign: count for sign, count in found.items() if count}


def batches(home: Path) -> list[BatchRow]:
    with Ledger.open(home, create=False) as ledger:
        return ledger.batches()


def active(home: Path) -> dict[str, EditRow]:
    """Return the active edits of the first model that a home knows, by their subjects."""
    with Ledger.open(home, create=False) as ledger:
        return {edit.subject: edit for edit in ledger.active_edits(ledger.models()[0].key)}


def snapshot(home: Path) -> tuple[list[str], dict[str, str]] | None:
    """Return all that a home holds, but for when a model was last in use: the ledger's dump, other files' hashes."""
    if not home.is_dir():
        return None
    dump: list[str] = []
    if (home / "ledger.db").exists():
        with closing(sqlite3.connect(home / "ledger.db")) as db:
            dump = [_without_use(line) for line in db.iterdump() if not line.startswith('INSERT INTO "seals"')]
    files = [path for path in sorted(home.rglob("*")) if path.is_file() and not path.name.startswith("ledger.db")]
    return dump, {str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _without_use(line: str) -> str:
    """A line of a dump; of a row of models, without its last columns: when it was used, and the seal."""
    return line.rsplit(",", 2)[0] if line.startswith('INSERT INTO "models"') else line


def edit_by_hand(home: Path, source: str, deltas: Mapping[int, WeightDelta], facts: Mapping[str, str]) -> Path:
    """Make a home whose current batch holds these deltas for a model, with an edit for each of the facts."""
    make_home(home, P36=facts)
    choice = choose_model(source, home=home)
    with Ledger.open(home) as ledger, ledger.writer("test"):
        model = identify(ledger, choice)
        batch = start_batch(ledger, model.key, "memit", model.settings, "cpu")
        name, sha256 = write_tensors(ledger.tensors, delta_tensors(deltas), {})
        rows = make_plan(ledger, templates_for(home), choice.name, model).having("+")
        finish_batch(
            ledger,
            batch,
            added=[new_edit(row, {}) for row in rows],
            superseded=[],
            retracted=[],
            metrics=[Metric("recall", 0.0, 100.0)],
            files={name: sha256},
            seconds={},
            peak_memory_mb=None,
            planned_on=None,
        )
    return home


def deltas_of(home: Path) -> dict[int, torch.Tensor]:
    """Return the current delta [d, m] of each edited layer, of the one model that a home knows."""
    with Ledger.open(home, create=False) as ledger:
        (model,) = ledger.models()
        return current_deltas(ledger, ledger.current_batch(model.key))


def difference(one: dict[int, torch.Tensor], other: dict[int, torch.Tensor]) -> float:
    """Return the largest relative Frobenius difference of a layer's delta."""
    assert one.keys() == other.keys() != set()
    return max(float((one[layer] - other[layer]).norm() / other[layer].norm()) for layer in other)


@dataclass(frozen=True, slots=True)
class Editable:
    """A model, a corpus and settings, as the command line takes them."""

    name: str
    corpus: Path
    settings: tuple[str, ...]

    @property
    def model(self) -> tuple[str, ...]:
        """The model alone: for plan, status, ask and export."""
        return ("--model", self.name)

    @property
    def arguments(self) -> tuple[object, ...]:
        """All that an apply needs."""
        return (*self.solving, *WIDE)

    @property
    def solving(self) -> tuple[object, ...]:
        """Model, corpus and settings: all that a command needs that solves, but keeps no bounds."""
        return (*self.model, "--corpus", self.corpus, *(part for text in self.settings for part in ("--set", text)))

    def apply(self, home: Path, *more: object) -> Any:
        """Apply without asking; return the JSON."""
        return done("apply", "--home", home, *self.arguments, "--yes", "--json", *more).json


def write_preset(home: Path, name: str, model: Editable, corpus: bool = True, **settings: object) -> None:
    """Write a preset of this home: the model under another name, with its settings and further ones."""
    values: dict[str, object] = {name: value for name, _, value in (text.partition("=") for text in model.settings)}
    values["layers"] = [1, 2]
    content = {"model": model.name, "settings": values | settings} | ({"corpus": str(model.corpus)} if corpus else {})
    (home / "presets").mkdir(exist_ok=True)
    (home / "presets" / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


@cache
def small_model(base: Path) -> Editable:
    """Write the small model and its corpus below `base`."""
    words = " ".join(TEXTS).split()
    # In ever other orders, so that a covariance over few texts is not singular.
    shuffled = [" ".join(random.Random(line).sample(words, 24)) for line in range(100)]
    corpus = made_once(base, "small-corpus.txt", lambda path: write_lines(path, shuffled))
    return Editable(known_model(base).source, corpus, SMALL_SETTINGS)


def write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def practice_model(base: Path, *settings: str) -> Editable:
    """Return the practice model with a part of its corpus, so that covariance and perplexity are quick."""
    lines = (fixtures_folder() / "practice-model" / "corpus.txt").read_text(encoding="utf-8").splitlines()
    # Few and long: the covariance reads all of a line, the perplexity its beginning.
    documents = [" ".join(lines[start : start + 12]) for start in range(0, 60, 12)]
    return Editable(
        "practice", made_once(base, "practice-corpus.txt", lambda path: write_lines(path, documents)), settings
    )


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Editable:
    """A small GPT-J that knows `CAPITALS`, from a folder."""
    return small_model(tmp_path_factory.getbasetemp())
