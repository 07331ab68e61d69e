"""Eval: what it measures, against the parts that it is made of; what it records."""

from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest

from kbsync.datasets import open_dataset
from kbsync.errors import SettingsError
from kbsync.ledger import Ledger
from kbsync.memit import edited
from kbsync.metrics import KEPT_METRICS, Case, Neighbour, evaluate, perplexity, summary
from kbsync.models import load_model
from kbsync.practice.datasets import counterfact_records, json_text
from kbsync.sync.eval_cases import dataset_cases, drawn
from kbsync.sync.evaluate import EvalOptions, default_metrics, run_eval
from tests.homes import SWAPPED, Editable, deltas_of, make_home, small, snapshot
from tests.tiny_models import FACTS

__all__ = ["small"]


@pytest.fixture(scope="module")
def home(small: Editable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two edits, and a third fact of their relation."""
    made = make_home(
        tmp_path_factory.mktemp("eval") / "home",
        P36={"France": SWAPPED["France"], "Japan": SWAPPED["Japan"], "Peru": "Lima"},
    )
    small.apply(made)
    return made


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight records; each object has two holders, so that there are neighbours."""
    facts = [replace(fact, paraphrases=(*fact.paraphrases, "When in {}, one is in")) for fact in FACTS]
    twins = [replace(fact, subject=f"Old {fact.subject}") for fact in facts[:8]]
    others = [replace(fact, relation="P37", prompt="{} of old is") for fact in facts[8:12]]
    path = tmp_path_factory.mktemp("set") / "counterfact.json"
    path.write_text(json_text(counterfact_records([*facts[:8], *twins, *others], 8)), encoding="utf-8")
    return path


def test_the_ledgers_edits_are_measured_as_by_the_parts(small: Editable, home: Path) -> None:
    names = ("ES", "PS", "NS", "EM", "recall", "GE", "RS")
    found = run_eval(home, small.name, EvalOptions(metrics=names))
    assert (found["measured"], found["cases"], found["batch"]) == ("ledger", 2, 1)
    assert found["edited"] is not None
    assert found["base"]["recall"].mean == 0  # the base says the country's own capital
    assert found["edited"]["EM"].mean > found["base"]["EM"].mean
    assert found["relations"].keys() == {"P36"}
    assert found["relations"]["P36"]["edited"] == found["edited"]
    with Ledger.open(home, create=False) as ledger:
        rows = {row.name: (row.before, row.after) for row in ledger.metrics(1) if row.edit is None}
    assert rows["eval_ES"] == (found["base"]["ES"].mean, found["edited"]["ES"].mean)
    assert rows["eval_S"] == (found["base"]["S"].mean, found["edited"]["S"].mean)
    # All edits are the first batch's, so apply has measured the same.
    for name in ("ES", "PS", "NS", "S", "recall"):
        assert rows[f"eval_{name}"] == pytest.approx(rows[name])


def test_a_data_set_is_only_measured(small: Editable, home: Path, dataset: Path) -> None:
    before = snapshot(home)
    found = run_eval(home, small.name, EvalOptions(dataset))
    assert snapshot(home) == before
    assert (found["measured"], found["cases"], found["batch"]) == ("counterfact.json", 8, None)
    assert sum(one["cases"] for one in found["relations"].values()) == 8
    cases = dataset_cases(open_dataset(dataset))
    loaded = load_model(small.name, device="cpu")
    base = summary(evaluate(loaded, cases, ("ES", "NS")))
    with edited(loaded, deltas_of(home)):
        after = summary(evaluate(loaded, cases, ("ES", "NS")))
    assert found["edited"] is not None
    for name in base:
        assert found["base"][name].mean == pytest.approx(base[name])
        assert found["edited"][name].mean == pytest.approx(after[name])


def test_without_edits_there_is_the_base_alone(small: Editable, dataset: Path, tmp_path: Path) -> None:
    found = run_eval(tmp_path / "nohome", small.name, EvalOptions(dataset, sample=3))
    assert (found["cases"], found["sampled"], found["edited"]) == (3, True, None)
    assert not (tmp_path / "nohome").exists()


def test_perplexity_of_held_out_text(small: Editable, home: Path, dataset: Path, tmp_path: Path) -> None:
    lines = [f"The mayor of {fact.target} sits in {fact.subject}." for fact in FACTS]
    corpus = tmp_path / "heldout.txt"
    corpus.write_text("\n".join([*lines, "", "x"]), encoding="utf-8")
    found = run_eval(home, small.name, EvalOptions(corpus=corpus))
    assert found["text"] == {"corpus": "heldout.txt", "lines": len(lines) + 1}
    assert found["edited"] is not None
    loaded = load_model(small.name, device="cpu")
    before = perplexity(loaded, lines)
    with edited(loaded, deltas_of(home)):
        after = perplexity(loaded, lines)
    assert before != pytest.approx(after)
    assert (found["base"]["perplexity"].mean, found["edited"]["perplexity"].mean) == pytest.approx((before, after))
    assert found["edited"]["perplexity"].low < after < found["edited"]["perplexity"].high
    assert found["relations"]["P36"]["base"].keys() == found["base"].keys() - {"perplexity", *KEPT_METRICS}
    with Ledger.open(home, create=False) as ledger:
        rows = {row.name: (row.before, row.after) for row in ledger.metrics(1) if row.edit is None}
    assert rows["eval_perplexity"] == pytest.approx((before, after))
    alone = run_eval(tmp_path / "nohome", small.name, EvalOptions(dataset, ("perplexity",), corpus))
    assert (alone["base"], alone["edited"]) == ({"perplexity": found["base"]["perplexity"]}, None)


def test_without_held_out_text_there_is_no_perplexity(small: Editable, dataset: Path, tmp_path: Path) -> None:
    options = EvalOptions(dataset, ("ES", "perplexity"))
    with pytest.raises(SettingsError, match="has no corpus: name held-out text with --corpus"):
        run_eval(tmp_path, small.name, options)
    for content, said in (("\n \n", "has no text to measure"), ("x\n", "has no line of two tokens")):
        (tmp_path / "bare.txt").write_text(content, encoding="utf-8")
        with pytest.raises(SettingsError, match=said):
            run_eval(tmp_path, small.name, replace(options, corpus=tmp_path / "bare.txt"))


def test_generated_texts_and_references(small: Editable, dataset: Path, tmp_path: Path) -> None:
    options = EvalOptions(dataset, ("GE", "RS"), sample=2)
    found = run_eval(tmp_path, small.name, options)["base"]
    assert 0 < found["GE"].mean < 700
    assert run_eval(tmp_path, small.name, options)["base"] == found
    cases = dataset_cases(open_dataset(dataset), 2)
    assert all(case.generation and case.references for case in cases)
    values = evaluate(load_model(small.name, device="cpu"), cases, ["RS"])["RS"]
    assert found["RS"].mean == pytest.approx(fmean(value for value in values if value is not None))
    (tmp_path / "told.json").write_text('{"Atlantis": "a city"}', encoding="utf-8")
    elsewhere = replace(options, references=tmp_path / "told.json")
    partly = run_eval(tmp_path, small.name, elsewhere)
    assert (partly["unmeasured"], partly["base"]) == (("RS",), {"GE": found["GE"]})
    with pytest.raises(SettingsError, match="RS: no case has what this needs"):
        run_eval(tmp_path, small.name, replace(elsewhere, metrics=("RS",)))


def test_a_sample_is_a_part_of_a_larger_one() -> None:
    items = list(range(100))
    few, more = drawn(items, 10, 0), drawn(items, 30, 0)
    assert set(few) < set(more)
    assert few == sorted(few)
    assert drawn(items, 10, 1) != few
    assert drawn(items, None, 0) == drawn(items, 1000, 0) == items


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (EvalOptions(metrics=("ES", "XS")), "unknown metric XS; there are ES, PS, NS"),
        (EvalOptions(), "has no edits in .*: run `kbsync apply` first, or name a --dataset"),
    ],
)
def test_what_cannot_be_measured(options: EvalOptions, said: str, small: Editable, tmp_path: Path) -> None:
    make_home(tmp_path / "home", P36={"France": "Paris"})
    with pytest.raises(SettingsError, match=said):
        run_eval(tmp_path / "home", small.name, options)


def test_what_is_measured_by_default_is_what_the_cases_have() -> None:
    with_old, without = Case(FACTS[0], "Lyon"), Case(FACTS[1], "")
    assert default_metrics([with_old, without]) == ("ES", "PS", "NS", "recall", "paraphrase_recall")
    assert default_metrics([without]) == ("efficacy", "paraphrase", "specificity")
    assert default_metrics([with_old], text=True) == ("ES", "PS", "NS", "recall", "paraphrase_recall", "perplexity")
    follows = replace(without, portability=(Neighbour("{}", "Paris is in", "France"),))
    assert default_metrics([without, follows])[-1] == "portability"
