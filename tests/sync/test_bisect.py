"""Canaries keep a state from becoming current; bisect finds the edits that break one, and goes on without them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kbsync.cli.choices import parse_values
from kbsync.errors import SettingsError
from kbsync.ledger import Ledger, write_tensors
from kbsync.ledger.facts import vetoes
from kbsync.models import greedy_answers, load_model
from kbsync.sync.apply import ApplyOptions, prepared
from kbsync.sync.bisect import Found, bisect, first_breaking
from kbsync.sync.deltas import target_keys
from kbsync.sync.guards import Canary, Guard, read_canaries
from kbsync.sync.known import prompt_of
from tests.fuzz import each
from tests.homes import (
    COUNTRIES,
    SWAPPED,
    Editable,
    active,
    batches,
    copied,
    counts,
    done,
    kbsync,
    keep,
    make_home,
    pull,
)
from tests.tiny_models import CAPITALS

A, B, C = COUNTRIES[:3]
BEGINNINGS = (
    "In 1987. ",
    "So. ",
    "Greece. ",
    "Is it? ",
    "The mayor. ",
    "Lima. ",
    "Isn't it? ",
    "Oslo. ",
    "Riga. ",
    "Far. ",
)
RELATIONS = tuple(f"P{number}" for number in range(1, 11))
TEMPLATES = yaml.safe_dump(
    {
        relation: {
            "label": "capital",
            "prompt": f"{begin}The capital of {{}} is",
            "paraphrases": [f"{other}. {begin}The capital of {{}} is" for other in ("A", "B", "C", "D")],
            "question": "What is the capital of {}?",
        }
        for relation, begin in zip(RELATIONS, BEGINNINGS, strict=True)
    }
)


def canaries(folder: Path, *content: Mapping[str, object]) -> Path:
    file = folder / "canaries.yaml"
    file.write_text(yaml.safe_dump(list(content)), encoding="utf-8")
    return file


@each()
@given(st.lists(st.integers(0, 9), min_size=200, max_size=200), st.integers(1, 200))
def test_one_of_two_hundred_takes_ten_steps(relations: list[int], culprit: int) -> None:
    steps = []

    def breaks(count: int) -> bool:
        steps.append(count)
        return count >= culprit

    assert first_breaking([f"P{one}" for one in sorted(relations)], breaks) == culprit
    assert len(steps) <= 10  # and one solve before and one after


@each()
@given(st.lists(st.booleans(), min_size=2, max_size=40))
def test_whatever_breaks_the_last_is_to_blame(broken: list[bool]) -> None:
    broken[0], broken[-1] = False, True  # broken[n]: the first n break; edits may make up for one another
    found = first_breaking(["P1"] * (len(broken) - 1), lambda count: broken[count])
    assert broken[found]
    assert not broken[found - 1]


HARMLESS = ("layers=2", "lambda=1", "contexts=1", "wordings=0", "steps=1", "lr=1e-9", "clamp_norm_factor=3")
"""all targets are where the base model is, so that an edit changes nothing"""


def plant(home: Path, model: Editable, relation: str, subject: str) -> str:
    """Give a fact that is to be written a target far away, after which the model talks nonsense; return its prompt."""
    options = ApplyOptions(model.name, include_known=True, values=parse_values(model.settings), corpus=model.corpus)
    with prepared(home, options) as ready:
        edits = ready.batch(ready.plan()).edits
        work = ready.work
        keys = target_keys(work, edits.groups, edits.retries)
        requests = [group.requests[0] for group in edits.groups]
        (place,) = [n for n, one in enumerate(requests) if (one.relation, one.subject) == (relation, subject)]
        far = 1000 * torch.randn(1, 64, generator=torch.Generator().manual_seed(0))
        file, _ = write_tensors(work.ledger.tensors, {"z": far}, {"model": work.model.key, "keys": keys[place]})
        work.ledger.record_targets(work.model.key, file, [(keys[place], 0, 1, 0.0)])
        return prompt_of(requests[place])


def test_a_harmful_edit_among_two_hundred_is_found(small: Editable, tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", TEMPLATES, **dict.fromkeys(RELATIONS, CAPITALS))
    prompt = plant(home, replace(small, settings=HARMLESS), "P7", C)
    (answer,) = greedy_answers(load_model(small.name), [prompt])
    asked: list[Found] = []

    def refuse(found: Sequence[Found]) -> bool:
        asked.extend(found)
        return False

    options = ApplyOptions(small.name, include_known=True, values=parse_values(HARMLESS), corpus=small.corpus)
    done = bisect(home, replace(options, canaries=(Canary(prompt, (answer,)),)), refuse)
    assert [(one.relation, one.subject) for one in asked] == [("P7", C)]
    assert asked[0].breaks.startswith(f"canary {prompt!r} fails")
    assert done["solves"] <= 12
    assert done["applied"] is None
    with Ledger.open(home) as ledger:
        assert vetoes(ledger) == []  # the user said no
        searched = ledger.db.execute("SELECT count(*) FROM targets").fetchone()[0]
    assert searched == len(RELATIONS) * len(CAPITALS)  # none but those of the whole batch


@pytest.fixture(scope="module")
def harmless(small: Editable) -> Editable:
    return replace(small, settings=HARMLESS)


@pytest.fixture(scope="module")
def kept(harmless: Editable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one edit applied, and two more to come, of which one does harm."""
    home = make_home(tmp_path_factory.mktemp("canaries") / "home", P36={A: SWAPPED[A]})
    harmless.apply(home)
    pull(home, P36={country: SWAPPED[country] for country in (A, B, C)})
    plant(home, harmless, "P36", B)
    return keep(home)


@pytest.fixture
def home(kept: Path) -> Iterator[Path]:
    with copied(kept) as copy:
        yield copy


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Canaries that the base model passes."""
    told: Mapping[str, object] = {"prompt": f"The capital of {A} is", "must_contain": [CAPITALS[A], "another"]}
    return canaries(tmp_path, told, {"prompt": f"The capital of {C} is", "must_not_contain": "Atlantis"})


def test_a_canary_keeps_the_old_state(home: Path, harmless: Editable, file: Path) -> None:
    refused = kbsync("apply", "--home", home, *harmless.arguments, "--canaries", file, "--yes")
    assert refused.code == 1
    assert f"canary 'The capital of {A} is' fails: the answer is" in refused.err
    assert f"must contain {CAPITALS[A]!r} or 'another'" in refused.err
    assert "`kbsync bisect` finds the edits that do it" in refused.err
    assert f"'The capital of {C} is'" not in refused.err
    assert list(active(home)) == [A]
    assert batches(home)[-1].state == "failed"


def test_bisect_goes_on_without_it(home: Path, harmless: Editable, file: Path) -> None:
    arguments = ("bisect", "--home", home, *harmless.arguments, "--canaries", file, "--yes", "--json")
    found = done(*arguments).json
    assert [(one["relation"], one["subject"], one["object"]) for one in found["found"]] == [("P36", B, SWAPPED[B])]
    assert set(active(home)) == {A, C}
    with Ledger.open(home) as ledger:
        (veto,) = vetoes(ledger)
    assert (veto.subject, veto.object) == (B, SWAPPED[B])
    assert (veto.reason or "").startswith(f"found by bisect: canary 'The capital of {A} is' fails")
    assert counts(home, harmless) == {"=": 2, "!": 1}
    again = done(*arguments).json
    assert (again["found"], again["applied"]["batch"]) == ([], None)
    done("retract", "--home", home, "--subject", B, "--relation", "P36", "--undo")
    assert counts(home, harmless) == {"=": 2, "+": 1}


def test_what_was_made_current_before_is_searched_too(home: Path, harmless: Editable, file: Path) -> None:
    forced = harmless.apply(home, "--canaries", file, "--force")
    assert forced["edits"] == 3
    assert (batches(home)[-1].reason or "").startswith("forced: canary")
    found = done("bisect", "--home", home, *harmless.arguments, "--canaries", file, "--yes", "--json").json
    assert [one["subject"] for one in found["found"]] == [B]
    assert set(active(home)) == {A, C}


def test_a_bound_is_searched_like_a_canary(home: Path, harmless: Editable) -> None:
    found = done("bisect", "--home", home, *harmless.arguments, "--max-weight-change", 100, "--yes", "--json").json
    assert [one["subject"] for one in found["found"]] == [B]
    assert "% of its weights" in found["found"][0]["breaks"]
    assert set(active(home)) == {A, C}


def test_a_canary_that_the_base_model_fails_is_nobody_s_fault(home: Path, harmless: Editable, tmp_path: Path) -> None:
    file = canaries(tmp_path, {"prompt": "The capital of Peru is", "must_contain": "Atlantis"})
    refused = kbsync("bisect", "--home", home, *harmless.arguments, "--canaries", file, "--yes")
    assert refused.code == 1
    assert "so it is without these edits, too" in refused.err
    assert list(active(home)) == [A]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt: a", "1:1: the file: this is no list"),
        ("[]", "this list is empty"),
        ("- {prompt: a}", "1:3: 0: say what the answer must be: must_contain or must_not_contain"),
        ("- {must_contain: a}", "'prompt' is missing"),
        ("- {prompt: a, must_contain: 3}", "1:29: 0.must_contain: 3 is no text or list"),
        ("- {prompt: a, must_contain: []}", "this list is empty"),
        ("- {prompt: a, must: b}", "there is no 'must' here"),
    ],
)
def test_a_bad_file_of_canaries_has_its_place(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "canaries.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as raised:
        read_canaries(file)
    assert message in str(raised.value)


def test_a_guard_on_record_has_its_canaries() -> None:
    guard = Guard(canaries=(Canary("p", ("a", "b")), Canary("q", (), ("c",))))
    assert Guard.recorded(json.loads(json.dumps(guard.record()))) == guard  # as a retraction takes it


def test_an_answer_is_compared_by_its_words() -> None:
    assert Canary("p", ("new  york", "NYC")).fault(" New York City") is None
    assert Canary("p", ("Paris",)).fault("Lyon") == "must contain 'Paris'"
    assert Canary("p", (), ("Paris",)).fault("paris.") == "must not contain 'Paris'"
