"""What eval puts beside base and edited model."""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kbsync.errors import SettingsError
from kbsync.memit import WeightDelta
from kbsync.metrics import Case, Neighbour, Ripple
from kbsync.models import LoadedModel
from kbsync.sync.arms import ARMS, arms, context, fine_tuned, next_token_loss, quantised, retrieval
from kbsync.sync.eval_cases import held_out, other_text
from kbsync.sync.evaluate import EvalOptions, run_eval
from kbsync.sync.model import choose_model
from tests.homes import SWAPPED, Editable, done, edit_by_hand, small
from tests.tiny_models import FACTS, TEXTS, known

__all__ = ["known", "small"]


def test_the_fact_itself_is_told_before_every_prompt_of_its_case() -> None:
    case = Case(
        FACTS[0],
        "Oslo",
        (Neighbour(FACTS[1].prompt, FACTS[1].subject, FACTS[1].target),),
        generation=("France is",),
        ripples=(Ripple("alias", "The capital of the French Republic is", ("Paris",)),),
    )
    told = context([case, replace(case, request=FACTS[2])])
    fact = "The capital of France is Paris. "
    for prompt in (
        "The capital of France is",
        "What is the capital of France?",
        "France is governed from its capital",
        "The capital of Norway is",
        "France is",
        "The capital of the French Republic is",
    ):
        assert told(prompt) == fact
    assert told("The capital of Japan is") == "The capital of Japan is Tokyo. "
    assert told("Berlin") == ""


def test_what_is_tuned_on_is_not_what_is_measured(small: Editable, tmp_path: Path) -> None:
    choice = choose_model(small.name, corpus=small.corpus)
    measured = held_out(choice, None)
    tuned = other_text(choice, None, measured)
    assert tuned
    assert not {*tuned} & {*measured.lines}
    assert other_text(replace(choice, corpus=None), small.corpus, held_out(choice, small.corpus)) == []
    assert other_text(replace(choice, corpus=None), None, None) == []


def test_a_retriever_finds_the_fact_by_its_words() -> None:
    told = retrieval(FACTS)
    assert told("What is the capital of Saint Lucia?").endswith("The capital of Saint Lucia is Castries. ")
    assert told("Ireland").endswith("The capital of Ireland is Dublin. ")
    assert told("zzz") == ""
    assert retrieval(FACTS[:1])("France") == "The capital of France is Paris. "


def test_arms_are_made_in_their_order_and_what_cannot_be_made_is_told(known: LoadedModel) -> None:
    made = arms(["tuned", "context"], known, nullcontext, [], [], TEXTS)
    assert [(one.name, one.asks_around) for one in made] == [("context", False), ("tuned", True)]
    with pytest.raises(SettingsError, match="--beside 2bit: there are context, retrieval, 8bit, 4bit, tuned"):
        arms(["2bit"], known, None, [], [], [])
    with pytest.raises(SettingsError, match="--beside 4bit: the home has no edits of this model"):
        arms(["context", "4bit"], known, None, [], [], [])


def test_fewer_bits_are_further_from_the_weights_and_all_come_back(known: LoadedModel) -> None:
    weight = known.weight(1)
    base, moved = weight.clone(), {}
    for kind in ("Q8_0", "Q4_0"):
        with quantised(known, kind):
            moved[kind] = float((known.weight(1) - base).norm() / base.norm())
    assert 0 < moved["Q8_0"] < 0.02 < moved["Q4_0"] < 0.2
    # By hand: the scale of a block of 32 is its largest |w| over 127.
    with quantised(known, "Q8_0"):
        block = base[0, :32]
        scale = (block.abs().max() / 127).half().float()
        assert torch.allclose(known.weight(1)[0, :32], (block / (block.abs().max() / 127)).round() * scale, atol=1e-6)


def test_fine_tuning_lowers_the_loss_of_its_text_and_leaves_no_trace(known: LoadedModel) -> None:
    """That all is as it was found is checked by the fixture."""
    rows = known.tokenizer(list(TEXTS[-3:]))["input_ids"]
    with torch.no_grad():
        before = float(next_token_loss(known, rows))
    with fine_tuned(known, TEXTS[-3:], steps=8), torch.no_grad():
        assert float(next_token_loss(known, rows)) < before
    with pytest.raises(SettingsError, match="needs text to tune on"), fine_tuned(known, ["x"]):
        pass


@pytest.fixture(scope="module")
def home(small: Editable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose model has a delta that means nothing."""
    far = {1: WeightDelta(torch.full((64, 1), 0.1), torch.full((1, 256), 0.1))}
    return edit_by_hand(tmp_path_factory.mktemp("arms") / "home", small.name, far, {"France": SWAPPED["France"]})


def test_the_page_and_its_figures(small: Editable, home: Path, tmp_path: Path) -> None:
    asked = ("eval", "--home", home, "--model", small.name, "--metrics", "ES,said", "--report", tmp_path / "page")
    found = done(*asked, "--quick", "--json").json
    assert json.loads((tmp_path / "page" / "eval.json").read_text("utf-8")) == found
    assert [*found["beside"]] == ["retrieval"]
    assert found["calibration"].keys() == {"base", "edited"}
    assert found["base"].keys() == {"ES", "said", "calibration_error"}
    page = (tmp_path / "page" / "eval.html").read_text("utf-8")
    assert "<h2>What it is sure of, and what is right</h2>" in page
    assert f"<h1>{small.name}</h1>" in page


def test_what_a_page_measures() -> None:
    whole = EvalOptions(page="full").for_page()
    assert (whole.beside, whole.withdraw, whole.sample) == (ARMS, 5, 40)
    assert EvalOptions(page="full", sample=300).for_page().sample == 300
    assert EvalOptions(Path("x"), page="full").for_page().withdraw is None
    quick = EvalOptions(page="quick", sample=3).for_page()
    assert (quick.beside, quick.withdraw, quick.sample) == (("retrieval",), None, 3)


def test_all_of_them_side_by_side(small: Editable, home: Path) -> None:
    beside = ("context", "retrieval", "4bit")
    names = ("ES", "recall", "kl_unrelated", "kept_unrelated")
    found = run_eval(home, small.name, EvalOptions(metrics=names, corpus=small.corpus, beside=beside))
    assert tuple(found["beside"]) == beside
    assert found["edited"] is not None
    assert found["beside"]["4bit"].keys() == found["edited"].keys() == {*names}
    assert found["beside"]["context"].keys() == {"ES", "recall"}  # it is told nothing around the cases
    assert found["base"]["kl_unrelated"].mean == 0
    assert found["base"]["kept_unrelated"].mean == 100
    assert found["edited"]["kl_unrelated"].mean > 0
    assert found["beside"]["4bit"]["kl_unrelated"].mean != pytest.approx(found["edited"]["kl_unrelated"].mean)
