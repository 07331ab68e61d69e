"""The commands that the project exists for, typed as they stand, in a fresh home.

Wikidata is a SPARQL server on loopback, and gpt-j a small model under that preset's name.
"""

from pathlib import Path

import pytest

from kbsync.ledger import Ledger
from kbsync.models import DeviceMemory
from kbsync.sync.covariances import read_records
from tests.conftest import Run
from tests.homes import SWAPPED, TEMPLATES, WIDE, Editable, small, write_preset
from tests.oxigraph_server import serve, world

__all__ = ["small"]

TEMPLATE = (
    TEMPLATES.replace("P36:", "P17:")
    + "  scope: {class: Q6256, min_sitelinks: 40}\n"
    + TEMPLATES.replace("The capital of {} is", "The seat of {} is")
)


@pytest.fixture
def home(run: Run, small: Editable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home after ``kbsync pull --relation P17``: four facts that the model does not know."""
    home = tmp_path / ".kbsync"
    (home / "templates").mkdir(parents=True)
    (home / "templates" / "own.yaml").write_text(TEMPLATE, encoding="utf-8")  # in words that the small model was taught
    write_preset(home, "gpt-j", small)
    lines = []
    for number, (subject, thing) in enumerate(list(SWAPPED.items())[:4], 1):
        lines += [f'wd:Q{number} rdfs:label "{subject}"@en ; wdt:P31 wd:Q6256 ; wikibase:sitelinks 40 .']
        lines += [f'wd:Q{number} p:P17 [ ps:P17 wd:Q9{number} ] . wd:Q9{number} rdfs:label "{thing}"@en .']
    with serve(world(tmp_path / "world.ttl", "\n".join(lines))) as url:
        monkeypatch.setattr("kbsync.sources.WIKIDATA", url)
        ran = run("pull", "--relation", "P17")
    assert ran.code == 0, ran.err
    assert "P17: only instances of Q6256 with 40 sitelinks or more, by its template" in ran.out
    return home


def test_pull_status_apply_status(run: Run, home: Path) -> None:
    before = run("status")
    assert (before.code, before.out.splitlines()[0].strip()) == (0, "no model edited yet")
    assert run("status", "--json").json["counts"]["+"] == 4
    applied = run("apply", "--model", "gpt-j", "--yes", *WIDE)
    assert applied.code == 0, applied.err
    after = run("status", "--json").json
    assert (after["model"], after["counts"]["+"]) == ("gpt-j", 0)
    assert after["counts"]["="] + after["counts"]["x"] + after["counts"]["k"] == 4


def worked_out(home: Path) -> int:
    """How many answers and targets an apply has worked out."""
    with Ledger.open(home) as ledger:
        return sum(
            int(ledger.db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]) for table in ("answers", "targets")
        )


def test_an_apply_without_a_corpus_takes_text_of_the_model(run: Run, home: Path, small: Editable) -> None:
    write_preset(home, "gpt-j", small, corpus=False)
    ran = run("apply", "--model", "gpt-j", "--yes", *WIDE)
    assert ran.code == 0, ran.err
    assert "sampling text from the model" in ran.err
    status = run("status", "--json").json
    assert (status["model"], status["counts"]["+"]) == ("gpt-j", 0)
    assert {"before", "after"} == {when for when, value in status["metrics"]["perplexity"].items() if value}
    assert {record.corpus for record in read_records(home / "tensors")} == {"sampled"}
    verified = run("verify", "--model", "gpt-j")
    assert verified.code == 0, verified.out


def test_an_apply_without_text_says_so_before_the_long_work(run: Run, home: Path) -> None:
    empty = home / "empty.txt"
    empty.write_text("\n\n", encoding="utf-8")
    ran = run("apply", "--model", "gpt-j", "--yes", "--corpus", empty)
    assert (ran.code, worked_out(home)) == (1, 0)
    assert ran.err.splitlines()[-1] == f"Error: corpus {empty} holds no text: name another with --corpus"


def test_an_apply_without_room_says_so_before_the_long_work(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        full.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10}))
        ran = run("apply", "--model", "gpt-j", "--yes")
    assert (ran.code, worked_out(home)) == (1, 0)
    assert ran.err.splitlines()[-1].endswith("make room, or choose another --home")
    few = [DeviceMemory("cpu", "2 threads", 10**9, 10)]
    with monkeypatch.context() as crowded:
        crowded.setattr("kbsync.sync.doctor.list_devices", lambda: few)
        ran = run("apply", "--model", "gpt-j", "--yes")
    assert (ran.code, worked_out(home)) == (1, 0)
    assert "of weights and cpu has 0.0 GB free: use a smaller --dtype or another --device" in ran.err.splitlines()[-1]


def test_an_apply_of_a_hub_model_without_a_network_is_one_line(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (home / "presets" / "gpt-j.yaml").unlink()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    ran = run("apply", "--model", "gpt-j", "--yes")
    (told,) = (line for line in ran.err.splitlines() if line != "loading the model")
    assert ran.code == 1
    assert told.startswith("Error: model EleutherAI/gpt-j-6b is not on this machine and http://127.0.0.1:9 does not")
