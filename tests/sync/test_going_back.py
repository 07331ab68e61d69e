"""Going back, on the small model: the weights of a state that is current again are those that it had."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kbsync.errors import EditError, LedgerError, SettingsError
from kbsync.ledger import Ledger
from kbsync.sync.answers import ask
from kbsync.sync.apply import ApplyOptions, apply
from kbsync.sync.export import export
from kbsync.sync.retract import lift, retract
from kbsync.sync.rollback import rollback, rollbacks_so_far
from kbsync.sync.status import used_model
from kbsync.sync.verify import verify
from tests.homes import (
    COUNTRIES,
    SWAPPED,
    Editable,
    active,
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
from tests.ledger.helpers import ROOT
from tests.tiny_models import CAPITALS

A, B, C, D = COUNTRIES[:4]
KNOWN = {country: CAPITALS[country] for country in COUNTRIES[5:8]}


@pytest.fixture(scope="module")
def kept(small: Editable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with three edits: A, B, C. Not to be changed."""
    home = make_home(
        tmp_path_factory.mktemp("back") / "home", P36={**{one: SWAPPED[one] for one in (A, B, C)}, **KNOWN}
    )
    small.apply(home)
    return keep(home)


@pytest.fixture
def home(kept: Path) -> Iterator[Path]:
    with copied(kept) as home:
        yield home


HOLD = """
import sys, pathlib
from kbsync.ledger import Ledger
with Ledger.open(pathlib.Path(sys.argv[1])) as ledger, ledger.writer("apply practice"):
    print("held", flush=True)
    sys.stdin.read()
"""


def yes(planned: object) -> bool:
    return True


def alter(ledger: Ledger, statement: str) -> None:
    """Change rows as a fault of kbsync's own would: they are sealed as they then are."""
    ledger.db.execute("PRAGMA foreign_keys = OFF")
    with ledger.writing() as db:
        db.execute(statement)


def test_there_and_back_gives_the_same_weights(small: Editable, home: Path) -> None:
    first = deltas_of(home)
    pull(home, P36={A: SWAPPED[A], B: SWAPPED[D], D: SWAPPED[D], **KNOWN})
    small.apply(home)
    second = deltas_of(home)
    assert active(home).keys() == {A, B, D}
    for to, deltas, subjects in ((1, first, {A, B, C}), (2, second, {A, B, D})):
        assert rollback(home, to, None, yes) is not None
        found = deltas_of(home)
        assert all(torch.equal(found[layer], deltas[layer]) for layer in (1, 2))
        assert active(home).keys() == subjects
    rollback(home, 1, None, yes)
    assert counts(home, small) == {"+": 1, "~": 1, "-": 1, "=": 1, "k": 3}
    again = small.apply(home)
    assert (again["batch"], again["optimised"], again["from_cache"]) == (3, 0, 3)
    assert difference(deltas_of(home), second) < 1e-4
    assert rollback(home, 0, None, yes) is not None
    assert deltas_of(home) == {}
    assert counts(home, small) == {"+": 3, "k": 3}
    (base,) = ask(home, small.name, [f"The capital of {A} is"])
    assert (base["base"][0].text, base["edited"]) == (CAPITALS[A], None)
    assert verify(home)["whole"]


def test_a_retracted_fact_alone_is_taken_out(small: Editable, home: Path) -> None:
    pull(home, P36={A: SWAPPED[A], B: SWAPPED[B], C: SWAPPED[C], D: SWAPPED[D], **KNOWN})
    previews: list[dict[str, Any]] = []

    def look(planned: dict[str, Any]) -> bool:
        previews.append(planned)
        return True

    result = retract(home, B.upper(), "P36", look, reason="a test", corpus=small.corpus)
    about = {"subject": B, "relation": "P36", "objects": [SWAPPED[B]]}
    assert previews == [{**about, "model": small.name, "written": [SWAPPED[B]], "others": []}]
    assert result is not None
    applied = result["applied"]
    assert (applied["edits"], applied["optimised"], applied["from_cache"]) == (2, 0, 2)
    assert active(home).keys() == {A, C}  # D is new, and waits
    assert counts(home, small) == {"+": 1, "=": 2, "k": 3, "!": 1}
    # The state is that of an apply which never knew the fact.
    other = make_home(home.with_name("other"), P36={A: SWAPPED[A], C: SWAPPED[C], **KNOWN})
    small.apply(other)
    assert difference(deltas_of(home), deltas_of(other)) < 1e-4
    shutil.rmtree(other)
    small.apply(home)
    assert active(home).keys() == {A, C, D}
    (veto,) = lift(home, B, "P36")
    assert (veto["subject"], veto["object"]) == (B, None)
    assert counts(home, small) == {"+": 1, "=": 3, "k": 3}
    assert small.apply(home)["optimised"] == 0


@pytest.mark.parametrize("algorithm", ["memit", "rome"])
def test_settings_that_are_gone_may_be_on_record(small: Editable, home: Path, algorithm: str) -> None:
    if algorithm != "memit":
        small.apply(home, "--algorithm", algorithm)
    older = "json_set(settings, '$.hold', 2, '$.emphasis', 1.5, '$.coupling', 6, '$.group_weight', 3)"
    with Ledger.open(home) as ledger:
        alter(ledger, f"UPDATE batches SET settings = {older}")
        alter(ledger, f"UPDATE models SET settings = {older}")
    done("history", "--home", home)
    done("status", "--home", home, *small.model)
    made_anew = small.apply(home, "--algorithm", algorithm)
    assert (made_anew["edits"], made_anew["optimised"]) == (3, 0)
    assert small.apply(home, "--algorithm", algorithm)["batch"] is None
    with Ledger.open(home) as ledger:
        alter(ledger, f"UPDATE batches SET settings = {older}")
    assert retract(home, B, "P36", yes, corpus=small.corpus) is not None
    assert active(home).keys() == {A, C}
    with Ledger.open(home, create=False) as ledger:
        assert ledger.batches()[-1].algorithm == algorithm


def test_a_fact_that_is_not_written_needs_no_model(home: Path) -> None:
    fresh = next(iter(KNOWN))
    result = retract(home, fresh, "P36", yes)
    assert result is not None
    assert (result["applied"], result["retraction"]["written"]) == (None, [])
    assert active(home).keys() == {A, B, C}
    with pytest.raises(SettingsError, match=f"P36 of {A} is not retracted: nothing to undo"):
        lift(home, A, "P36")
    with pytest.raises(SettingsError, match="is not retracted"):
        lift(home, fresh, "P36", "Elsewhere")


def test_an_apply_that_fails_leaves_the_retraction_on_record(small: Editable, home: Path) -> None:
    said = rf"corpus .*nosuch does not exist.* on record, and `kbsync apply --model {small.name}` takes the fact out"
    with pytest.raises(EditError, match=said):
        retract(home, B, "P36", yes, corpus=home / "nosuch")
    assert active(home).keys() == {A, B, C}
    assert counts(home, small) == {"-": 1, "=": 2, "k": 3}


@pytest.mark.parametrize(
    ("subject", "thing", "said"),
    [
        ("Frence", None, "P36 of 'Frence' is not on record: did you mean France"),
        (A, "Elsewhere", rf"P36 of {A} is {SWAPPED[A]}, not 'Elsewhere': correct --object, or leave it out"),
    ],
)
def test_what_cannot_be_retracted(home: Path, subject: str, thing: str | None, said: str) -> None:
    before = snapshot(home)
    with pytest.raises(SettingsError, match=said):
        retract(home, subject, "P36", yes, object_name=thing)
    assert retract(home, A, "P36", lambda planned: False) is None
    assert snapshot(home) == before


def faults(found: dict[str, Any]) -> dict[str, list[str]]:
    return {check["name"]: check["faults"] for check in found["checks"] if check["faults"]}


def test_a_whole_home_is_found_whole(small: Editable, home: Path) -> None:
    before = snapshot(home)
    found = verify(home, small.name, corpus=small.corpus)
    assert faults(found) == {}
    assert {check["name"]: check["checked"] for check in found["checks"]} == {
        **{"database": 1, "batches": 1, "edits": 3, "requests": 3, "files of batches": 1, "files of target vectors": 1},
        **{"base model": 1, "deltas solved again": 2, "rows": 6, "values": 1, "other files": 2},
        "files of covariances": 2,
    }
    assert snapshot(home) == before


def test_covariances_that_are_gone_or_changed(home: Path) -> None:
    one, other = sorted((home / "tensors").glob("covariance*.safetensors"))
    content = one.read_bytes()
    one.unlink()
    assert faults(verify(home)) == {
        "files of covariances": [
            f"{one} is missing: restore a copy, or delete it and collect it again with `kbsync stats`"
        ]
    }
    shutil.copyfile(other, one)
    found = faults(verify(home))
    assert found["files of covariances"] == [
        f"{one} is not the one that the current state was solved with: restore a copy of it"
    ]
    assert found.keys() == {"files of covariances", "other files"}
    for damaged in (content[: len(content) // 2], content[:-1] + bytes([content[-1] ^ 1])):
        one.write_bytes(damaged)
        assert any(str(one) in fault for said in faults(verify(home)).values() for fault in said)
    one.write_bytes(content)
    assert verify(home)["whole"]


DAMAGE = {
    "UPDATE batches SET state = 'rolled back'": {"edits": "and by its batches it should be rolled back"},
    "UPDATE edits SET state = 'rolled back' WHERE id = 1": {
        "edits": "is rolled back, and by its batches it should be active"
    },
    "UPDATE edits SET object = 'Elsewhere' WHERE id = 1": {"requests": "edit 1 (P36 of "},
    "UPDATE edits SET subject_key = 'x' WHERE id = 2": {"edits": "edit 2 (P36 of"},
    "DELETE FROM facts WHERE id IN (SELECT fact FROM edits)": {"database": "rows of edits name a row of facts"},
}


@pytest.mark.parametrize("statement", DAMAGE)
def test_a_ledger_that_contradicts_itself(home: Path, statement: str) -> None:
    with Ledger.open(home) as ledger:
        alter(ledger, statement)
    found = faults(verify(home))
    assert found.keys() == DAMAGE[statement].keys()
    for name, said in DAMAGE[statement].items():
        assert said in found[name][0]


def test_files_that_are_not_as_they_were_written(small: Editable, home: Path) -> None:
    with Ledger.open(home) as ledger:
        (batch,) = ledger.batches()
        (state,), (targets,) = batch.files, {row.file for row in ledger.targets()}
    path = home / "tensors" / targets
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    (home / "tensors" / state).unlink()
    found = faults(verify(home))
    assert found.keys() == {"files of batches", "files of target vectors"}
    assert f"{state} is missing; it holds the current state" in found["files of batches"][0]
    assert f"{targets} is not what kbsync wrote" in found["files of target vectors"][0]
    path.unlink()
    ran = kbsync("verify", "--home", home, *small.model, "--corpus", small.corpus)
    assert ran.code == 1
    assert "3 of 3 target vectors are missing from the cache" in ran.out
    rollback(home, 0, None, yes)
    assert "no rollback to batch 1 without it" in faults(verify(home))["files of batches"][0]


def test_a_delta_that_is_not_what_its_edits_solve_to(small: Editable, home: Path) -> None:
    with Ledger.open(home) as ledger:
        alter(ledger, "UPDATE batches SET settings = json_set(settings, '$.lambda', 7.0)")
    found = faults(verify(home, small.name, corpus=small.corpus))
    assert found.keys() == {"deltas solved again"}
    assert "the delta of layer 1 is not what its edits solve to" in found["deltas solved again"][0]


def test_weights_that_have_changed(small: Editable, home: Path) -> None:
    with Ledger.open(home) as ledger:
        alter(ledger, "UPDATE models SET weights_sha256 = 'abc'")
    assert verify(home)["whole"]
    found = faults(verify(home, small.name))
    assert found.keys() == {"base model"}
    assert "the ledger has abc; put back the weights" in found["base model"][0]


def test_asking_and_exporting_need_no_lock_and_leave_no_trace(small: Editable, home: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(small.name, tmp_path / "other"))
    before = snapshot(home)
    used = used_model(home)
    command = [sys.executable, "-c", HOLD, str(home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        (asked,) = ask(home, small.name, [f"The capital of {A} is"])
        assert asked["edited"] is not None
        (asked,) = ask(home, str(other), [f"The capital of {A} is"])
        assert asked["edited"] is None
        assert export(home, small.name, tmp_path / "out")["edits"] == 3
        for arguments in (("history",), ("log", "--subject", A), ("verify",), ("status",), ("plan", *small.model)):
            assert kbsync(*arguments, "--home", home).code == 0, arguments
        assert "is changing a model's state" in kbsync("rollback", "0", "--yes", "--home", home).err
        holder.communicate("")
    (home / "lock").write_text("")
    assert used_model(home) == used
    assert snapshot(home) == before


def test_an_apply_undoes_no_rollback_that_came_after_it_began(small: Editable, home: Path) -> None:
    seen = rollbacks_so_far(home)
    assert rollback(home, 0, None, yes) is not None
    options = ApplyOptions(small.name, corpus=small.corpus, rollbacks=seen)
    with pytest.raises(
        LedgerError, match="the model was rolled back after this apply began: see `kbsync status`, and run"
    ):
        apply(home, options, yes)
    assert not active(home)
