"""A probe asks the model: what it knows, and what it does not recall after an edit."""

import shutil
from pathlib import Path

import pytest
import torch

from kbsync.ledger import Ledger
from kbsync.memit import WeightDelta
from kbsync.sync.answers import probed_plan
from kbsync.sync.apply import ApplyOptions, Proposal, apply
from kbsync.sync.plan import Plan, plan_for
from kbsync.sync.status import status_for
from tests.homes import COUNTRIES, SWAPPED, Editable, done, edit_by_hand, make_home, pull, snapshot
from tests.tiny_models import CAPITALS, random_folder

NEW = {country: SWAPPED[country] for country in COUNTRIES[:3]}
KNOWN = {country: CAPITALS[country] for country in COUNTRIES[4:8]}


def signs(plan: Plan) -> dict[str, str]:
    return {row.subject: row.sign for row in plan.rows}


@pytest.fixture(scope="module")
def applied(small: Editable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose three edits were given no step to learn anything."""
    home = make_home(tmp_path_factory.mktemp("probe") / "home", P36={**NEW, **KNOWN})
    small.apply(home, "--set", "steps=1")
    return home


def test_what_the_base_model_knows_is_told_and_remembered(small: Editable, tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", P36={**NEW, **KNOWN})
    assert set(signs(plan_for(home, small.name)).values()) == {"+"}
    probed = probed_plan(home, small.name)
    assert signs(probed) == {**dict.fromkeys(NEW, "+"), **dict.fromkeys(KNOWN, "k")}
    assert signs(plan_for(home, small.name)) == signs(probed)  # from what was recorded
    assert set(signs(probed_plan(home, small.name, include_known=True)).values()) == {"+"}
    with Ledger.open(home, create=False) as ledger:
        assert ledger.batches() == []


def test_a_second_probe_needs_no_model(small: Editable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make_home(tmp_path / "home", P36={**NEW, **KNOWN})
    first = probed_plan(home, small.name)
    with monkeypatch.context() as patch:
        patch.setattr("kbsync.sync.answers.choose_model", lambda *given, **options: pytest.fail("a model was loaded"))
        assert probed_plan(home, small.name) == first
        done("plan", "--home", home, *small.model, "--probe")
    pull(home, P36={**NEW, **KNOWN, "Kenya": "Nairobi"})
    assert signs(probed_plan(home, small.name))["Kenya"] == "k"  # one that it has not been asked


def test_an_edit_with_too_few_steps_is_x(small: Editable, applied: Path) -> None:
    assert signs(plan_for(applied, small.name))["France"] == "x"  # as the apply found it
    probed = probed_plan(applied, small.name)
    assert signs(probed) == {**dict.fromkeys(NEW, "x"), **dict.fromkeys(KNOWN, "k")}
    assert not probed.in_sync
    assert {row.reason for row in probed.having("x")} == {"applied, but the model does not recall it"}


def test_an_edit_that_is_recalled_is_not(small: Editable, tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", P36=KNOWN)
    small.apply(home, "--include-known", "--set", "steps=1")
    assert signs(probed_plan(home, small.name)) == dict.fromkeys(KNOWN, "=")


def test_on_the_command_line(small: Editable, applied: Path, tmp_path: Path) -> None:
    home = Path(shutil.copytree(applied, tmp_path / "home"))
    for command in (("plan", *small.model), ("status",)):
        probed = done(*command, "--home", home, "--probe", "--json").json
        assert probed["model"] == small.name
        assert (probed["counts"]["x"], probed["counts"]["="], probed["counts"]["k"]) == (3, 0, 4)
        assert done(*command, "--home", home, "--json").json["counts"]["x"] == 3
    probed = done("status", "--home", home, "--probe", "--json").json
    assert probed["metrics"] == status_for(home, None)["metrics"]
    before = snapshot(home)
    done("status", "--home", home)
    assert snapshot(home) == before


def test_a_later_model_is_asked_and_given_what_it_lost(
    small: Editable, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    none = {1: WeightDelta(torch.zeros(64, 1), torch.zeros(1, 256))}
    home = edit_by_hand(tmp_path / "home", small.name, none, KNOWN)
    pull(home, P36={**KNOWN, **NEW})
    lost = str(random_folder(tmp_path_factory.getbasetemp(), "gpt2"))  # as if all had been trained away
    for later, sign in ((small.name, "="), (lost, "x")):
        ran = done("status", "--home", home, *small.model, "--probe", "--json", "--model-file", later)
        assert {row["subject"]: row["sign"] for row in ran.json["facts"]} == dict.fromkeys(KNOWN, sign)
    plans: list[Plan] = []

    def no(proposal: Proposal) -> bool:
        plans.append(proposal.plan)
        return False

    shutil.copytree(small.name, tmp_path / "later")
    for source in (lost, str(tmp_path / "later")):
        assert apply(home, ApplyOptions(source, only_lost=True), no) is None
    assert [signs(plan) for plan in plans] == [dict.fromkeys(KNOWN, "+"), dict.fromkeys(KNOWN, "k")]
