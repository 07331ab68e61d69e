"""A story of seeded days for the fault tests: a world behind a SPARQL server, and a pull and an apply each day.

Day n lies in the year 2000 + n, and a pull reads what was current in it. The story is told once without faults; what
`status` shows and `export` writes before and after each command is kept, to compare a home that met faults with.
"""

import json
import random
import shutil
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tests.e2e.commands import run
from tests.homes import COUNTRIES, TEMPLATES, Editable, kbsync
from tests.oxigraph_server import world
from tests.tiny_models import CAPITALS

__all__ = ["Moment", "Step", "Story", "look", "new_home", "recorded", "shown_by_status", "write_world"]

FIRST_YEAR = 2000
STATED = 12
"""countries with a capital on each day"""
Weights = Mapping[str, torch.Tensor]


def days_of(seed: int, count: int) -> list[dict[str, tuple[str, ...]]]:
    """Return country -> capitals of each day; each day some change, go and come, and one is in conflict."""
    draw = random.Random(seed)
    cities = list(CAPITALS.values())
    day: dict[str, tuple[str, ...]] = {
        country: (other(draw, cities, country),) for country in draw.sample(COUNTRIES, STATED)
    }
    days = []
    for _ in range(count):
        days.append(dict(day))
        for country in draw.sample(sorted(day), 4):
            del day[country]
        new = draw.sample([country for country in COUNTRIES if country not in day], 4)
        day.update({country: (other(draw, cities, country),) for country in new})
        changed = draw.sample(sorted(day), 3)
        day.update({country: (other(draw, cities, country),) for country in changed})
        day[changed[0]] = tuple(draw.sample([city for city in cities if city != CAPITALS[changed[0]]], 2))
    return days


def other(draw: random.Random, cities: list[str], country: str) -> str:
    """Return a capital that the country does not have, so that the base model does not know it."""
    return draw.choice([city for city in cities if city != CAPITALS[country]])


def write_world(path: Path, seed: int, count: int) -> Path:
    """Write the days as statements with a beginning and an end."""
    lines = [f'kb:{slug(name)} rdfs:label "{name}"@en .' for name in (*COUNTRIES, *CAPITALS.values())]
    for number, day in enumerate(days_of(seed, count)):
        year = FIRST_YEAR + number
        for country, capitals in day.items():
            for city in capitals:
                node = f"kb:{slug(country)}-{slug(city)}-{year}"
                lines += [
                    f"kb:{slug(country)} p:P36 {node} .",
                    f"{node} ps:P36 kb:{slug(city)} ; wikibase:rank wikibase:NormalRank ;",
                    f'  pq:P580 "{year}-01-01T00:00:00Z"^^xsd:dateTime ;',
                    f'  pq:P582 "{year + 1}-01-01T00:00:00Z"^^xsd:dateTime .',
                ]
    return world(path, "\n".join(lines) + "\n")


def slug(name: str) -> str:
    return name.lower().replace(" ", "-")


@dataclass(frozen=True, slots=True)
class Moment:
    """What a user sees of a home: the rows and figures of `status`, and the weights that `export` writes."""

    status: Any
    weights: Weights

    def same(self, other: "Moment") -> bool:
        """Whether both show one state, weights to within 1e-6."""
        return self.status == other.status and self.difference(other) < 1e-6

    def difference(self, other: "Moment") -> float:
        """Return the largest relative Frobenius difference of a weight."""
        if self.weights.keys() != other.weights.keys():
            return float("inf")
        return max((relative(self.weights[name], other.weights[name]) for name in self.weights), default=0.0)


def relative(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm().clamp(min=1e-12))


def shown_by_status(home: Path, model: Editable) -> Any:
    """Return the rows and figures of `status`; None before the first pull is recorded.

    There may be no ledger yet (which it must say), or one that the first pull has just made.
    """
    said = kbsync("status", "--home", home, *model.model, "--json")
    if said.code:
        assert "run `kbsync pull` first" in said.err, said.err
        return None
    rows = [(row["sign"], row["subject"], row["object"], row["previous"]) for row in said.json["facts"]]
    return (rows, said.json["metrics"]) if rows else None


def look(home: Path, model: Editable, folder: Path) -> Moment:
    """Run `status` and `export`; without a ledger or a batch they must say so, and nothing else."""
    out = folder / "exported"
    shutil.rmtree(out, ignore_errors=True)
    wrote = kbsync("export", "--home", home, *model.model, "--to", out)
    if wrote.code:
        assert "run `kbsync apply` first" in wrote.err or "run `kbsync pull` first" in wrote.err, wrote.err
    return Moment(shown_by_status(home, model), {} if wrote.code else load_file(out / "model.safetensors"))


def recorded(home: Path) -> list[str]:
    """Return the ledger's rows but for times, ids that count attempts, and attempts that had no effect, as lines."""
    done = "(SELECT count(*) FROM batches AS b WHERE b.state = 'done' AND b.id <= {})"
    queries = {
        "facts": """SELECT relation, subject_key, subject_label, object_key, object_label, rank, since,
            withdrawn IS NULL FROM facts ORDER BY id""",
        "history": """SELECT f.subject_key, h.object_key, h.ended, h.restated_by IS NULL
            FROM fact_history AS h JOIN facts AS f ON f.id = h.fact ORDER BY h.id""",
        "pulls": """SELECT relation, new, changed, withdrawn, unchanged, conflicting FROM pulls
            WHERE new + changed + withdrawn > 0 ORDER BY id""",
        "batches": "SELECT algorithm, settings, files FROM batches WHERE state = 'done' ORDER BY id",
        "edits": f"""SELECT {done.format("edits.batch")}, relation, subject_key, object_key, prompt, request, target,
            state, {done.format("ended_by")} FROM edits ORDER BY id""",
        "metrics": f"""SELECT {done.format("metrics.batch")}, edit, name, "before", "after" FROM metrics ORDER BY id""",
        "targets": "SELECT key, model, steps, loss FROM targets ORDER BY key",
        "models": "SELECT key, name, weights_sha256, contexts, layers FROM models",
        "answers": "SELECT model, prompt, answer FROM answers ORDER BY prompt",
    }
    with closing(sqlite3.connect(home / "ledger.db")) as db:
        return [f"{name}: {json.dumps(row)}" for name, query in queries.items() for row in db.execute(query)]


@dataclass(frozen=True, slots=True)
class Step:
    """One command of the story as it went without faults."""

    arguments: tuple[object, ...]
    seconds: float
    before: Moment
    after: Moment

    def state(self, moment: Moment) -> str:
        """Return whether a moment shows the state before the command or the one after it, whole."""
        found = [name for name, known in (("old", self.before), ("new", self.after)) if moment.same(known)]
        assert found, f"neither the state before {self.arguments[0]} nor the one after it: {moment.status}"
        return found[0]


def new_home(home: Path) -> Path:
    """Make a home that has a template, and no ledger."""
    (home / "templates").mkdir(parents=True)
    (home / "templates" / "own.yaml").write_text(TEMPLATES, encoding="utf-8")
    return home


@dataclass
class Story:
    """The commands of the days, run in a home of their own."""

    home: Path
    model: Editable
    endpoint: str
    folder: Path
    steps: list[Step] = field(default_factory=list)

    def tell(self, days: int) -> "Story":
        """Run every command; keep what is seen before and after each."""
        before = look(self.home, self.model, self.folder)
        for number in range(days):
            day = f"{FIRST_YEAR + number}-07-01"
            for arguments in (
                ("pull", "--relation", "P36", "--source", self.endpoint, "--as-of", day),
                # How well a model this small learns twelve facts is not the question.
                ("apply", *self.model.arguments, "--yes", "--force"),
            ):
                began = time.monotonic()
                ran = run(self.folder, *arguments, "--home", self.home)
                seconds = time.monotonic() - began
                assert ran.code == 0, ran.err
                after = look(self.home, self.model, self.folder)
                self.steps.append(Step(arguments, seconds, before, after))
                before = after
        return self
