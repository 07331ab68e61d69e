"""Target vectors are searched once: by what they depend on they are found again."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
import torch

from kbsync.facts import EditRequest
from kbsync.ledger import Ledger
from kbsync.memit import MemitSettings, RequestGroup, group_requests
from kbsync.models import LoadedModel
from kbsync.sync.deltas import Targets, cached_targets
from kbsync.sync.model import ModelChoice, Session
from tests.homes import SWAPPED
from tests.tiny_models import known

__all__ = ["known"]

CONTEXTS = ("{}", "In 1987. {}")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "home") as opened, opened.writer("test"):
        yield opened


@pytest.fixture
def choice(known: LoadedModel) -> ModelChoice:
    return ModelChoice("known", known, MemitSettings(layers=(1, 2), steps=4), None, None)


def groups(choice: ModelChoice, *subjects: str, prompt: str = "The capital of {} is") -> list[RequestGroup]:
    requests = [EditRequest("P36", subject, prompt, SWAPPED[subject]) for subject in subjects]
    return group_requests(choice.loaded, requests)


def find(
    ledger: Ledger,
    choice: ModelChoice,
    wanted: Sequence[RequestGroup],
    contexts: tuple[str, ...] = CONTEXTS,
    retries: Mapping[str, int] = MappingProxyType({}),
) -> Targets:
    work = Session.of(ledger, choice)
    return cached_targets(replace(work, model=replace(work.model, contexts=contexts)), wanted, retries)


def test_what_was_found_is_found_again_bit_for_bit(ledger: Ledger, choice: ModelChoice) -> None:
    wanted = groups(choice, "France", "Norway")
    first = find(ledger, choice, wanted)
    assert (tuple(first.z.shape), first.optimised, first.from_cache) == ((2, 64), 2, 0)
    again = find(ledger, choice, wanted)
    assert (again.optimised, again.from_cache, again.keys) == (0, 2, first.keys)
    assert torch.equal(again.z, first.z)
    assert set(ledger.find_targets(list(first.keys.values()))) == set(first.keys.values())


def test_only_new_ones_are_searched_and_the_order_is_the_groups(ledger: Ledger, choice: ModelChoice) -> None:
    one = find(ledger, choice, groups(choice, "Norway"))
    wanted = groups(choice, "France", "Norway", "Japan")
    three = find(ledger, choice, wanted)
    assert (three.optimised, three.from_cache) == (2, 1)
    place = next(index for index, group in enumerate(wanted) if group.requests[0].subject == "Norway")
    assert torch.equal(three.z[place], one.z[0])
    backwards = find(ledger, choice, wanted[::-1])
    assert torch.equal(backwards.z, three.z.flip(0))


@pytest.mark.parametrize(
    ("changed", "searched"),
    [
        ({"steps": 3}, 1),
        ({"lr": 0.1}, 1),
        ({"clamp_norm_factor": 0.3}, 1),
        ({"kl_factor": 0.0}, 1),
        ({"weight_decay": 0.1}, 1),
        ({"stop_weight": 0.1}, 1),
        ({"layers": (0, 1)}, 1),
        ({"layers": (0, 2)}, 0),  # the last edited layer alone matters
        ({"lambda_": 1.0}, 0),
        ({"sweeps": 2}, 0),
        ({"covariance_tokens": 500}, 0),
    ],
)
def test_it_depends_on_what_the_search_reads_and_on_nothing_else(
    changed: dict[str, object], searched: int, ledger: Ledger, choice: ModelChoice
) -> None:
    wanted = groups(choice, "France")
    find(ledger, choice, wanted)
    other = replace(choice, settings=replace(choice.settings, **changed))  # type: ignore[arg-type]
    assert find(ledger, other, wanted).optimised == searched


def test_other_contexts_prompts_and_objects_are_other_targets(ledger: Ledger, choice: ModelChoice) -> None:
    find(ledger, choice, groups(choice, "France"))
    assert find(ledger, choice, groups(choice, "France"), ("{}",)).optimised == 1
    assert find(ledger, choice, groups(choice, "France", prompt="{} is governed from")).optimised == 1
    other = group_requests(choice.loaded, [EditRequest("P36", "France", "The capital of {} is", "Lima")])
    assert find(ledger, choice, other).optimised == 1


def test_a_group_that_has_grown_is_searched_again_and_both_stay(ledger: Ledger, choice: ModelChoice) -> None:
    both = [EditRequest("P36", "France", f"The capital of {{}} {verb}", "Oslo") for verb in ("is", "was")]
    (small,), (large,) = group_requests(choice.loaded, both[:1]), group_requests(choice.loaded, both)
    assert len(large.requests) == 2
    find(ledger, choice, [small])
    grown = find(ledger, choice, [large])
    assert grown.optimised == 1
    assert len(grown.keys) == 2
    assert len(set(grown.keys.values())) == 1
    assert find(ledger, choice, [small]).from_cache == 1


TWO = [
    EditRequest("P36", "France", "The capital of {} is", "Oslo"),
    EditRequest("P37", "France", "In {}, one speaks", "Spanish"),
]


def test_a_target_does_not_depend_on_the_subjects_other_groups(ledger: Ledger, choice: ModelChoice) -> None:
    both, (alone,) = group_requests(choice.loaded, TWO), group_requests(choice.loaded, TWO[:1])
    first = find(ledger, choice, [alone])
    second = find(ledger, choice, both)
    assert (second.optimised, second.from_cache) == (1, 1)
    assert second.keys[TWO[0].id] == first.keys[TWO[0].id]
    retried = find(ledger, choice, both, retries={TWO[1].id: 1})
    assert retried.optimised == 1


def test_a_file_that_is_gone_is_made_again(ledger: Ledger, choice: ModelChoice) -> None:
    wanted = groups(choice, "France", "Norway")
    first = find(ledger, choice, wanted)
    for path in ledger.tensors.iterdir():
        path.unlink()
    again = find(ledger, choice, wanted)
    assert again.optimised == 2
    assert torch.allclose(again.z, first.z, atol=1e-5)


def test_nothing_wanted(ledger: Ledger, choice: ModelChoice) -> None:
    nothing = find(ledger, choice, [])
    assert (len(nothing.z), nothing.keys, nothing.optimised, nothing.from_cache) == (0, {}, 0, 0)
