"""An apply, by the command line on the small model: what it asks, writes, measures, keeps, and leaves alone."""

import importlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kbsync.ledger import Ledger
from kbsync.models import load_model
from tests.homes import (
    COUNTRIES,
    SWAPPED,
    Editable,
    copied,
    counts,
    deltas_of,
    difference,
    done,
    kbsync,
    keep,
    make_home,
    pull,
    snapshot,
)
from tests.tiny_models import CAPITALS

NEW = {country: SWAPPED[country] for country in COUNTRIES[:4]}
KNOWN = {country: CAPITALS[country] for country in COUNTRIES[4:10]}
"""what the base model says anyway; also the neighbourhood of the edits"""


@pytest.fixture(scope="module")
def first(small: Editable, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A home to which four new facts beside six known ones were applied, and the apply's JSON. Not to be changed."""
    home = make_home(tmp_path_factory.mktemp("first") / "home", P36={**NEW, **KNOWN})
    applied = small.apply(home)
    return keep(home), applied


@pytest.fixture
def home(first: tuple[Path, Any]) -> Iterator[Path]:
    with copied(first[0]) as home:
        yield home


def answer(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_figures_before_and_after(first: tuple[Path, Any]) -> None:
    _, applied = first
    assert set(applied) == {
        "batch", "edits", "optimised", "from_cache", "metrics", "seconds", "peak_memory_mb", "failed", "planned", "left"
    }  # fmt: skip
    assert applied["left"] == {}
    assert (applied["batch"], applied["edits"], applied["optimised"], applied["from_cache"]) == (1, 4, 4, 0)
    metrics = applied["metrics"]
    assert {"ES", "PS", "NS", "S", "recall", "perplexity"} <= metrics.keys()
    assert (metrics["ES"]["before"], metrics["recall"]["before"], metrics["NS"]["before"]) == (0, 0, 100)
    assert all(0 <= metrics[name]["after"] <= 100 for name in ("ES", "PS", "NS", "S", "recall"))
    assert metrics["perplexity"]["after"] != metrics["perplexity"]["before"]
    assert {"targets", "covariance", "keys", "solve", "measure", "total"} <= applied["seconds"].keys()
    assert len(applied["failed"]) == round(4 - 4 * metrics["recall"]["after"] / 100)


def test_the_ledger_has_it_all(first: tuple[Path, Any], small: Editable) -> None:
    home, applied = first
    with Ledger.open(home, create=False) as ledger:
        (batch,) = ledger.batches()
        assert (batch.state, batch.algorithm, batch.device) == ("done", "memit", "cpu")
        assert (batch.settings["lambda"], batch.settings["steps"], batch.settings["layers"]) == (1, 6, [1, 2])
        assert {path.name for path in ledger.tensors.iterdir()} > set(batch.files)
        edits = ledger.edits(batch.id)
        assert {edit.subject: edit.object for edit in edits} == NEW
        rows = ledger.metrics(batch.id)
        whole = {row.name: (row.before, row.after) for row in rows if row.edit is None}
        assert whole == {name: (figure["before"], figure["after"]) for name, figure in applied["metrics"].items()}
        for name in ("ES", "PS", "NS", "recall"):
            each = [row for row in rows if row.name == name and row.edit is not None]
            assert {row.edit for row in each} == {edit.id for edit in edits}
            assert sum(row.after or 0 for row in each) / len(each) == pytest.approx(whole[name][1])
    assert counts(home, small) == {"=": 4, "k": 6}


def test_a_second_apply_is_in_sync_and_writes_nothing(home: Path, small: Editable) -> None:
    before = snapshot(home)
    weak = done("plan", "--home", home, *small.model, "--json").json["counts"]["x"]
    again = small.apply(home)
    assert (again["batch"], again["edits"], again["optimised"]) == (None, 4, 0)
    assert again["left"] == ({"x": weak} if weak else {})
    assert snapshot(home) == before
    shown = " ".join(done("apply", "--home", home, *small.arguments).out.split())
    left = f"nothing to apply; what is left: {weak} not recalled (`kbsync apply --retry`)"
    assert shown == f"{left if weak else 'in sync: nothing to do'}, 4 edits are active"


def test_it_shows_the_plan_and_asks(small: Editable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make_home(tmp_path / "home", P36={"France": SWAPPED["France"], "Norway": CAPITALS["Norway"]})
    answer(monkeypatch, "n\n")
    ran = kbsync("apply", "--home", home, *small.arguments)
    assert (ran.code, ran.out.strip()) == (1, "")
    assert re.search(r"\+ +P36 +France +Oslo +new", ran.err)
    assert re.search(r"k +1 +the base model knows it already", ran.err)
    assert "has no preset" not in ran.err  # layers and lambda are given
    assert "Write this into the model? [Y/n]" in ran.err
    assert ran.err.rstrip().endswith("nothing was written")
    with Ledger.open(home, create=False) as ledger:
        assert ledger.batches() == []
        assert not ledger.tensors.exists()
    answer(monkeypatch, "y\n")
    ran = kbsync("apply", "--home", home, *small.arguments)
    assert ran.code == 0, ran.err
    assert "batch 1: 1 edits active" in ran.out
    assert "1 targets optimised, 0 from the cache" in ran.out


def test_no_answer_writes_nothing(small: Editable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make_home(tmp_path / "home", P36={"France": SWAPPED["France"]})
    answer(monkeypatch, "")
    ran = kbsync("apply", "--home", home, *small.arguments)
    assert ran.code == 1
    with Ledger.open(home, create=False) as ledger:
        assert ledger.batches() == []


def test_a_new_fact_is_found_and_the_others_are_cached(home: Path, small: Editable) -> None:
    pull(home, P36={**NEW, **KNOWN, "Kenya": "Warsaw"})
    assert counts(home, small) == {"+": 1, "=": 4, "k": 5}
    applied = small.apply(home)
    assert (applied["batch"], applied["edits"], applied["optimised"], applied["from_cache"]) == (2, 5, 1, 4)
    with Ledger.open(home, create=False) as ledger:
        assert [edit.subject for edit in ledger.edits(2)] == ["Kenya"]
        assert [edit.subject for edit in ledger.edits(1)] == sorted(NEW)


def test_a_changed_object_supersedes(home: Path, small: Editable) -> None:
    pull(home, P36={**NEW, **KNOWN, "France": "Lima"})
    (row,) = [row for row in done("plan", "--home", home, *small.model, "--json").json["facts"] if row["sign"] == "~"]
    assert (row["subject"], row["object"], row["previous"]) == ("France", "Lima", NEW["France"])
    assert small.apply(home)["edits"] == 4
    with Ledger.open(home, create=False) as ledger:
        states = {(edit.subject, edit.object): edit.state for batch in (1, 2) for edit in ledger.edits(batch)}
        assert states["France", NEW["France"]] == "superseded"
        assert states["France", "Lima"] == "active"


def test_a_withdrawn_fact_is_retracted(home: Path, small: Editable) -> None:
    rest = {country: NEW[country] for country in COUNTRIES[1:4]}
    pull(home, P36={**rest, **KNOWN})
    assert counts(home, small) == {"-": 1, "=": 3, "k": 6}
    applied = small.apply(home)
    assert (applied["edits"], applied["optimised"], applied["from_cache"]) == (3, 0, 3)
    assert applied["metrics"]["recall"]["after"] >= applied["metrics"]["recall"]["before"]


def test_without_its_last_edit_the_model_is_the_base(home: Path, small: Editable, tmp_path: Path) -> None:
    assert deltas_of(home)
    pull(home, P36=KNOWN)
    applied = small.apply(home)
    assert (applied["batch"], applied["edits"], applied["failed"]) == (2, 0, [])
    assert deltas_of(home) == {}
    out = tmp_path / "exported"
    done("export", "--home", home, *small.model, "--to", out)
    base, edited = (dict(load_model(str(folder)).model.named_parameters()) for folder in (small.name, out))
    assert base.keys() == edited.keys()
    assert all(torch.equal(base[name], edited[name]) for name in base)


def test_limit_takes_a_part_and_the_next_apply_the_rest(small: Editable, tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", P36=NEW)
    assert small.apply(home, "--limit", 3)["edits"] == 3
    assert counts(home, small) == {"+": 1, "=": 3}
    assert small.apply(home)["optimised"] == 1
    assert counts(home, small) == {"=": 4}


def test_a_relation_filter_keeps_the_edits_of_others(home: Path, small: Editable) -> None:
    pull(home, P36=KNOWN, P30={"France": "Asia"})
    applied = small.apply(home, "--relation", "P30")
    # A target hangs on its own group alone: France's other edit keeps its own.
    assert (applied["edits"], applied["optimised"], applied["from_cache"]) == (5, 1, 4)
    assert counts(home, small) == {"-": 4, "=": 1, "k": 6}


def test_known_facts_are_edited_where_asked(small: Editable, tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", P36=dict(list(KNOWN.items())[:2]))
    applied = small.apply(home)
    assert (applied["batch"], applied["edits"]) == (None, 0)
    assert counts(home, small) == {"k": 2}
    assert small.apply(home, "--include-known")["edits"] == 2
    assert counts(home, small) == {"=": 2}


def test_other_settings_make_the_state_anew(home: Path, small: Editable) -> None:
    before = deltas_of(home)
    applied = small.apply(home, "--set", "steps=2")
    assert (applied["batch"], applied["edits"], applied["optimised"]) == (2, 4, 4)
    assert difference(deltas_of(home), before) > 0.01
    with Ledger.open(home, create=False) as ledger:
        assert [batch.settings["steps"] for batch in ledger.batches()] == [6, 2]
    back = small.apply(home)
    assert (back["batch"], back["optimised"], back["from_cache"]) == (3, 0, 4)
    assert difference(deltas_of(home), before) == 0


def test_conflicts_are_recorded_with_how_they_were_resolved(small: Editable, tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", P36={"Peru": "Riga"})
    source = tmp_path / "conflict.yaml"
    facts = [f"- {{subject: France, relation: P36, object: {thing}}}\n" for thing in ("Oslo", "Lima")]
    for known in (facts[:1], facts):
        source.write_text("".join(known))
        done("pull", "--home", home, "--relation", "P36", "--source", source)
    refused = kbsync("apply", "--home", home, *small.arguments, "--yes", "--on-conflict", "error")
    assert refused.code == 1
    assert refused.err.startswith("Error: 1 conflict: P36: France has 2 objects")
    applied = small.apply(home)
    assert applied["edits"] == 1
    assert small.apply(home, "--on-conflict", "first")["edits"] == 2
    with Ledger.open(home, create=False) as ledger:
        met = [ledger.conflicts(batch=batch.id) for batch in ledger.batches()]
        assert [[note.resolution for note in notes] for notes in met] == [["kept out"], ["first: Oslo"]]


def test_what_fails_inside_leaves_the_old_state(home: Path, small: Editable, tmp_path: Path) -> None:
    before = deltas_of(home)
    pull(home, P36={**NEW, **KNOWN, "Kenya": "Warsaw"})
    short = tmp_path / "short.txt"
    short.write_text("Too short a text.\n")
    ran = kbsync("apply", "--home", home, *small.arguments, "--yes", "--corpus", short)
    assert (ran.code, ran.out) == (1, "")
    assert re.search(
        r"^Error: the corpus has \d+ tokens; the covariance of this model needs 256", ran.err, re.MULTILINE
    )
    assert difference(deltas_of(home), before) == 0
    with Ledger.open(home, create=False) as ledger:
        assert [batch.state for batch in ledger.batches()] == ["done", "failed"]
        assert "the corpus has" in (ledger.batches()[1].reason or "")
        assert [edit.subject for edit in ledger.active_edits(ledger.models()[0].key)] == sorted(NEW)
    assert counts(home, small) == {"+": 1, "=": 4, "k": 5}
    # The target that was found is kept: the next apply has it from the cache.
    applied = small.apply(home)
    assert (applied["edits"], applied["optimised"], applied["from_cache"]) == (5, 0, 5)


def test_a_corpus_that_is_missing_or_no_text(home: Path, small: Editable, tmp_path: Path) -> None:
    pull(home, P36={**NEW, **KNOWN, "Kenya": "Warsaw"})
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    for name, trouble in {"nosuch.txt": "does not exist", "bytes.txt": "cannot be read as UTF-8 text"}.items():
        ran = kbsync("apply", "--home", home, *small.arguments, "--yes", "--corpus", tmp_path / name)
        assert ran.code == 1
        assert f"Error: corpus {tmp_path / name} {trouble}" in ran.err


def test_a_lost_state_is_made_again(home: Path, small: Editable) -> None:
    before = deltas_of(home)
    with Ledger.open(home, create=False) as ledger:
        (name,) = ledger.batches()[0].files
    (home / "tensors" / name).unlink()
    ran = kbsync("ask", "--home", home, *small.model, "The capital of France is")
    assert ran.code == 1
    assert f"{name} is missing: restore a copy, or run `kbsync apply` to make it again" in ran.err
    assert small.apply(home)["from_cache"] == 4
    assert difference(deltas_of(home), before) == 0


def test_the_file_of_a_few_edits_holds_factors(first: tuple[Path, Any]) -> None:
    deltas = deltas_of(first[0])
    assert {layer: tuple(delta.shape) for layer, delta in deltas.items()} == {1: (64, 256), 2: (64, 256)}
    with Ledger.open(first[0], create=False) as ledger:
        (name,) = ledger.batches()[0].files
    # Four edits: 4 x (64 + 256) numbers a layer, in place of 64 x 256.
    assert (first[0] / "tensors" / name).stat().st_size < 64 * 256 * 2


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_loss_through_the_cast_is_shown(dtype: str, small: Editable, tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", P36=NEW)
    metrics = small.apply(home, "--dtype", dtype, "--set", "layers=1", "--set", "lambda=0.01")["metrics"]
    assert metrics["recall_masters"]["before"] is None
    assert abs(metrics["recall_masters"]["after"] - metrics["recall_active"]["after"]) <= 25
    with Ledger.open(home, create=False) as ledger:
        kept = {row.name: row.after for row in ledger.metrics(1) if row.edit is None}
    assert kept["recall_masters"] == metrics["recall_masters"]["after"]


def test_jitter_is_on_record(small: Editable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("kbsync.memit.solve")
    monkeypatch.setattr(module, "JITTERS", (1e-10,))
    home = make_home(tmp_path / "home", P36={"France": SWAPPED["France"]})
    ran = done("apply", "--home", home, *small.arguments, "--yes", "-v")
    assert re.search(r"jitter\W+1e-10", ran.out)
    assert "layer 1: 1e-10 of lambda C's mean diagonal was added to the diagonal" in ran.err
    assert "solve on cpu: the model uses no other device" in ran.err
    with Ledger.open(home, create=False) as ledger:
        assert {row.name: row.after for row in ledger.metrics(1)}["jitter"] == 1e-10


def test_a_model_on_disk_is_edited_as_one_in_memory(first: tuple[Path, Any], small: Editable, tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", P36={**NEW, **KNOWN})
    applied = small.apply(home, "--device", "auto", "--max-memory", "cpu=500KB")
    assert applied["edits"] == 4
    assert difference(deltas_of(home), deltas_of(first[0])) < 1e-3
    refused = kbsync("apply", "--home", home, *small.arguments, "--yes", "--max-memory", "cpu=500KB")
    assert refused.code == 1
    assert "--max-memory bounds what each device takes under --device auto: give both" in refused.err
