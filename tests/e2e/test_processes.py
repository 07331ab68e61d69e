"""`accelerate launch` with two processes: what one process does, shared out."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from kbsync.ledger import read_tensors
from tests.homes import COUNTRIES, SWAPPED, Editable, deltas_of, difference, make_home
from tests.tiny_models import CAPITALS, one_thread

ROOT = Path(__file__).resolve().parents[2]
FACTS = {country: SWAPPED[country] for country in COUNTRIES[:7]}
KNOWN = {country: CAPITALS[country] for country in COUNTRIES[8:12]}
KEPT = ("--set", "rest_weight=0.02")
TABLES = {
    "edits": "relation, subject, object, prompt, request, state",
    "batches": "model, algorithm, settings, state, device",
    "metrics": "batch, name, round(before, 3), round(after, 3)",
    "targets": "model, steps, round(loss, 3)",
}


def launched(home: Path, small: Editable) -> dict[str, Any]:
    """Apply under `accelerate launch` with two processes; return what the leader printed."""
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    where = ["--cpu", "--num_machines=1", "--num_processes=2", f"--main_process_port={port}"]
    asked = ["apply", "--home", str(home), *map(str, small.arguments), *KEPT, "--yes", "--json"]
    launch = ["-m", "accelerate.commands.launch", *where, "--mixed_precision=no", "--dynamo_backend=no"]
    ran = subprocess.run(
        [sys.executable, *launch, "-m", "kbsync", *asked],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    printed: dict[str, Any] = json.loads(ran.stdout)
    return printed


def rows(home: Path, table: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(home / "ledger.db")) as db:
        return sorted(db.execute(f"SELECT {TABLES[table]} FROM {table}"), key=str)


def vectors(home: Path) -> torch.Tensor:
    """All target vectors of a home, in the order of their keys."""
    with closing(sqlite3.connect(home / "ledger.db")) as db:
        found = db.execute("SELECT file, row FROM targets ORDER BY key").fetchall()
    return torch.stack([read_tensors(home / "tensors" / file)["z"][row] for file, row in found])


def test_two_processes_do_what_one_does(small: Editable, tmp_path: Path) -> None:
    homes = [make_home(tmp_path / name, P36=FACTS | KNOWN) for name in ("one", "two")]
    with one_thread():
        alone = small.apply(homes[0], *KEPT)
    shared = launched(homes[1], small)
    assert shared["optimised"] == alone["optimised"] == len(FACTS)
    one, two = (vectors(home) for home in homes)
    assert float((one - two).norm() / one.norm()) < 1e-4
    assert difference(deltas_of(homes[1]), deltas_of(homes[0])) < 1e-3
    for table in TABLES:
        assert rows(homes[1], table) == rows(homes[0], table), table
    names = [sorted(path.name for path in (home / "tensors").glob("covariance*")) for home in homes]
    assert names[0] == names[1] != []
    for name in names[0]:
        before, after = (read_tensors(home / "tensors" / name) for home in homes)
        for key, value in before.items():
            torch.testing.assert_close(after[key], value, rtol=1e-10, atol=1e-12)
