"""The practice data sets in fixtures/: made again they are the same bytes, and they read as what they say they are."""

from pathlib import Path

import pytest

from kbsync.datasets import open_dataset
from kbsync.resources import fixtures_folder
from kbsync.sync.practice import COUNTERFACT, RECORDS, ZSRE, practice_requests, write_datasets
from tests.conftest import Run


def test_made_again_they_are_the_same(run: Run, tmp_path: Path) -> None:
    ran = run("practice", "datasets", "--to", tmp_path / "made", "--json")
    assert (ran.code, ran.json) == (0, RECORDS)
    for name in (COUNTERFACT, ZSRE):
        assert (tmp_path / "made" / name).read_bytes() == (fixtures_folder() / name).read_bytes()
    assert write_datasets(tmp_path / "made") == ran.json


@pytest.mark.parametrize("name", [COUNTERFACT, ZSRE])
def test_they_read_whole(name: str) -> None:
    found = open_dataset(fixtures_folder() / name)
    records = list(found)
    assert (found.format, len(records), found.unplaced) == (name.partition("-")[0], RECORDS[name], 0)
    assert len({(one.request.relation, one.request.subject, one.request.prompt) for one in records}) == RECORDS[name]
    assert all(one.request.target != one.old for one in records)


def test_counterfact_edits_facts_of_the_fixtures_and_leaves_its_neighbourhood_alone() -> None:
    known = {(fact.prompt.format(fact.subject), fact.target) for fact in practice_requests("earlier")}
    records = list(open_dataset(fixtures_folder() / COUNTERFACT))
    edited = {one.request.prompt.format(one.request.subject) for one in records}
    assert {(one.request.prompt.format(one.request.subject), one.old) for one in records} <= known
    near = {(one.prompt, one.object) for record in records for one in record.neighbourhood}
    assert near <= known
    assert not edited & {prompt for prompt, _ in near}
    assert all(record.neighbourhood for record in records)
    assert all(len(record.request.paraphrases) == 2 and record.generation for record in records)
    assert all((prompt, record.request.target) in known for record in records for prompt in record.attributes)
