"""The demo: what it teaches, and what it tells of a model that was taught."""

from pathlib import Path
from typing import Any

import pytest

from kbsync.resources import fixtures_folder
from kbsync.sync.answers import ask
from kbsync.sync.apply import ApplyOptions
from kbsync.sync.demo import LATEST, RELATIONS, latest, story
from kbsync.sync.home import silent
from kbsync.sync.plan import plan_for
from tests.homes import COUNTRIES, SWAPPED, Editable, done, make_home, small

__all__ = ["small"]

EDITS = 4


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    taught = {country: SWAPPED[country] for country in COUNTRIES[:EDITS]}
    return make_home(tmp_path_factory.mktemp("demo") / "home", P36=taught)


@pytest.fixture(scope="module")
def told(small: Editable, home: Path) -> dict[str, Any]:
    options = ApplyOptions(
        small.name,
        values=dict(text.split("=") for text in small.settings),
        corpus=small.corpus,
        bounds={"max_perplexity_increase": 1e6, "max_specificity_loss": 100, "max_weight_change": 1e6},
    )
    return story(home, [], options, silent)


def test_the_plan_shows_what_the_model_said(told: dict[str, Any]) -> None:
    rows = told["plan"].having("+")
    assert len(rows) == EDITS
    assert all(row.previous and row.previous != row.object for row in rows)


def test_answers_before_and_after(told: dict[str, Any], small: Editable, home: Path) -> None:
    assert len(told["answers"]) == EDITS  # the small model has no chat template: a paraphrase each
    assert told["status"]["plan"].counts["="] + told["status"]["plan"].counts["x"] == EDITS
    prompts = [said["prompt"] for said in told["answers"]]
    now = ask(home, small.name, prompts, count=1)
    assert [said["base"] for said in told["answers"]] == [one["base"][0].text for one in now]
    assert [said["after"] for said in told["answers"]] == [one["edited"][0].text for one in now if one["edited"]]


def test_one_fact_is_withdrawn_in_the_end(told: dict[str, Any], small: Editable, home: Path) -> None:
    (gone,) = [said for said in told["answers"] if said["withdrawn"]]
    assert told["withdrawn"] in gone["prompt"]
    plan = plan_for(home, small.name)
    assert [row.subject for row in plan.having("!")] == [told["withdrawn"]]
    assert len(plan.having("=", "x")) == EDITS - 1


def test_a_pretrained_model_is_taught_what_changed_last(tmp_path: Path) -> None:
    source = fixtures_folder() / "wikidata" / "later.ttl"
    done("pull", "--home", tmp_path, "--source", source, *(part for one in RELATIONS for part in ("--relation", one)))
    plan = plan_for(tmp_path, None)
    chosen = latest(plan)
    assert len(chosen) == LATEST * len(RELATIONS)
    for relation in RELATIONS:
        facts = [row.fact for row in plan.having("+") if row.fact and row.fact.since and row.relation == relation]
        taken = [fact.since for fact in facts if (relation, fact.subject_key) in chosen]
        left = [fact.since for fact in facts if (relation, fact.subject_key) not in chosen]
        assert min(str(since) for since in taken) >= max(str(since) for since in left)
