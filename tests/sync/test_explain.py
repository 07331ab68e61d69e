"""Explaining an edit on the small model, and the hint that follows from where it is lost."""

from dataclasses import replace
from pathlib import Path

import pytest

from kbsync.ledger import Ledger
from kbsync.memit import MemitSettings
from kbsync.memit.extensions.explain import Reading
from kbsync.models import load_model, score_targets
from kbsync.sync.explain import ExplainedWording, Near, hint
from tests.homes import SWAPPED, TEMPLATES, Editable, done, kbsync, make_home, snapshot
from tests.tiny_models import CAPITALS, FACTS

EDITED = ("France", "Norway", "Japan")


@pytest.fixture(scope="module")
def home(small: Editable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("explain") / "home"
    told = TEMPLATES + '  inverse: "{} is the capital of"\n'
    make_home(home, told, P36={country: SWAPPED[country] for country in EDITED} | {"Peru": "Lima"})
    small.apply(home, "--compile-inverse")
    return home


def test_a_page_about_one_edit(home: Path, small: Editable, tmp_path: Path) -> None:
    before = snapshot(home)
    ran = done("explain", "--home", home, "France P36", *small.model, "--json", "--plot", tmp_path / "page.png")
    found = ran.json
    assert (found["subject"], found["relation"], found["object"]) == ("France", "P36", SWAPPED["France"])
    kinds = [(one["kind"], one["edited"]) for one in found["wordings"]]
    assert kinds == [("prompt", True), *[("paraphrase", False)] * 4, ("question", False)]
    loaded = load_model(small.name, device="cpu")
    prompt = found["wordings"][0]
    assert prompt["text"] == "The capital of France is"
    (score,) = score_targets(loaded, [(FACTS[0].prompt, "France", SWAPPED["France"])])
    base = prompt["readings"]["base"]
    assert base["log_prob"] == pytest.approx(score.log_prob, abs=1e-4)
    assert (base["recall"], base["answer"]) == (score.exact, CAPITALS["France"])
    assert base["turns_at"] is not None
    assert {*prompt["readings"]} == {"base", "target", "subject", "model"}
    assert prompt["readings"]["target"]["log_prob"] > base["log_prob"] + 1, "the target on record was put in"
    assert [*prompt["delivered"]] == ["1", "2"]
    assert found["nearest"]["subject"] in EDITED[1:]
    assert found["hint"]
    assert (tmp_path / "page.png").exists()
    assert (tmp_path / "page.svg").exists()
    told = done("explain", "--home", home, "France P36", *small.model).out
    for text in ("target by hand", "weights at subject", "paraphrase, held out", f"hint: {found['hint']}"):
        assert text in told
    assert snapshot(home) == before


def test_an_inverse_fact(home: Path, small: Editable) -> None:
    city = SWAPPED["France"]
    found = done("explain", "--home", home, f"{city.lower()} ^P36", *small.model, "--json").json
    assert (found["subject"], found["relation"], found["object"]) == (city, "^P36", "France")
    (prompt,) = found["wordings"]
    assert (prompt["text"], prompt["edited"]) == (f"{city} is the capital of", True)
    assert prompt["readings"]["target"]["log_prob"] > prompt["readings"]["base"]["log_prob"]
    told = kbsync("log", "--home", home, "--subject", city, "--relation", "^P36").err
    assert "^P36 is made of the facts of P36: name one of these" in told


@pytest.mark.parametrize(
    ("fact", "told"),
    [
        ("France", "write subject and relation, such as 'France P36'"),
        ("Peru P36", "P36 of Peru is not written into"),
        ("Chile P36", "P36 of 'Chile' is not on record"),
        ("Lima ^P36", "^P36 of Lima is not written into"),
        ("Lima ^", "'' is not a relation id"),
    ],
)
def test_facts_that_cannot_be_explained(home: Path, small: Editable, fact: str, told: str) -> None:
    ran = kbsync("explain", "--home", home, fact, *small.model)
    assert (ran.code, told in ran.err) == (1, True), ran.err


def test_without_its_target_vector(small: Editable, tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", P36={"France": SWAPPED["France"]})
    small.apply(home)
    with Ledger.open(home, create=False) as ledger:
        for row in ledger.targets():
            (ledger.tensors / row.file).unlink(missing_ok=True)
    ran = kbsync("explain", "--home", home, "France P36", *small.model)
    assert (ran.code, "the target vector of P36 of France is not in" in ran.err) == (1, True), ran.err


def wording(rights: str, *, edited: bool = True) -> ExplainedWording:
    """A wording; `rights` has a letter for each way, y where it is right."""
    ways = ("base", "target", "subject", "model")
    readings = {way: Reading(letter == "y", "Oslo", -1.0, None) for way, letter in zip(ways, rights, strict=True)}
    return ExplainedWording("prompt", edited, "", readings, {})


FAR = Near("Peru", "P36", "Lima", 0.5, False)


@pytest.mark.parametrize(
    ("found", "near", "told"),
    [
        ([wording("nyyy"), wording("nyyy", edited=False)], FAR, "it holds on every wording"),
        (
            [wording("nnnn"), wording("nyyn", edited=False)],
            FAR,
            "`kbsync apply --retry`, or --set steps=80",
        ),
        ([wording("nynn")], FAR, "--set lambda=100, or --set sweeps=3"),
        ([wording("nyyn")], FAR, "preserve the rest of the prompt (--set rest_weight=1)"),
        ([wording("nyyy"), wording("nnnn", edited=False)], FAR, "edit more wordings (--set wordings=2)"),
        ([wording("nyyy"), wording("nyyn", edited=False)], FAR, "preserve the rest of the prompt"),
        ([wording("nynn")], replace(FAR, cosine=0.99), "conflicts with P36 of Peru (Lima): cosine of their keys 0.99"),
        ([wording("nynn")], replace(FAR, object="Oslo"), "conflicts with P36 of Peru (Oslo)"),
        ([wording("nnnn")], replace(FAR, shared=True), "conflicts with P36 of Peru (Lima): they share one delta"),
        ([wording("nynn")], None, "a smaller lambda or more sweeps"),
    ],
)
def test_the_hint_follows_from_where_it_is_lost(found: list[ExplainedWording], near: Near | None, told: str) -> None:
    settings = MemitSettings(steps=40, lambda_=300.0, sweeps=2)
    assert told in hint(found, settings, near)
