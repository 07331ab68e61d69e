"""Target vectors: found together and on the suffix alone, they are those of a plain search."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import fmean

import pytest
import torch

from kbsync.benchmarks.plain import plain_target, read_at_subject
from kbsync.errors import EditError
from kbsync.facts import EditRequest
from kbsync.memit import MemitSettings, RequestGroup, Target, optimise_targets
from kbsync.memit import targets as targets_module
from kbsync.memit.extensions.groups import edited_wordings
from kbsync.memit.fast.packed_rows import GroupRows, RowPack, group_rows, pack_rows
from kbsync.memit.targets import Surprise
from kbsync.models import LoadedModel
from tests.tiny_models import set_to

CONTEXTS = ("{}", "The river runs on. {}", "In 1987. {}")


def group(*members: tuple[str, str, str]) -> RequestGroup:
    return RequestGroup(tuple(EditRequest("P1", subject, prompt, target) for prompt, subject, target in members))


GROUPS = (
    group(("The capital of {} is", "France", "Oslo")),
    group(("{} is governed from", "Norway", "a town in Peru")),  # nothing comes before the subject
    group(("It is said that {} sits in", "Saint Lucia", "Lima"), ("It is said that {} is", "Saint Lucia", "is it?")),
    group(
        ("{} has", "N'Djamena", "Havana"),
        ("{} is governed by the government of", "N'Djamena", "Ghana"),
        ("{}", "N'Djamena", "Accra and Riga"),
    ),
    group(("In the far, far land that is called {},", "Ekrem İmamoğlu", "Riga")),
)


def find(
    loaded: LoadedModel, groups: Sequence[RequestGroup], settings: MemitSettings, contexts: Sequence[str] = CONTEXTS
) -> list[Target]:
    return optimise_targets(loaded, groups, contexts, settings)


def assert_plain(
    loaded: LoadedModel,
    groups: Sequence[RequestGroup],
    settings: MemitSettings,
    contexts: Sequence[str] = CONTEXTS,
) -> list[Target]:
    """Check targets against the plain search; return them."""
    found = find(loaded, groups, settings, contexts)
    for one, target in zip(groups, found, strict=True):
        z, losses = plain_target(loaded, one, contexts, settings)
        assert target.losses == pytest.approx(losses, abs=1e-4)
        moved = z - read_at_subject(loaded, "{}", one.requests[0], settings.layers[-1])[1]
        assert float((target.z - z).norm() / moved.norm()) < 1e-3
        assert target.z.dtype == torch.float32
    return found


def test_a_batch_of_groups_equals_the_plain_search_of_each(tiny: LoadedModel) -> None:
    settings = MemitSettings(layers=(0, 1), steps=4, lr=2.0)
    found = assert_plain(tiny, GROUPS, settings)
    # The loss goes down, and a larger group has more steps.
    assert all(min(target.losses) < target.losses[0] - 0.02 for target in found)
    assert [len(target.losses) for target in found] == [4, 4, 5, 6, 4]


def test_every_family_has_the_targets_of_the_plain_search(every_family: LoadedModel) -> None:
    assert_plain(every_family, GROUPS[1:3], MemitSettings(layers=(1,), steps=2, lr=0.5), CONTEXTS[:2])


@pytest.mark.parametrize("minibatches", [2, 3])
def test_prompts_that_take_turns(tiny: LoadedModel, minibatches: int) -> None:
    """Over all turns the loss is that of all prompts together; a search ends where its mean over them is small."""
    settings = MemitSettings(layers=(0, 1), steps=7, lr=2.0, minibatches=minibatches)
    found = assert_plain(tiny, GROUPS, settings)
    still = replace(settings, lr=1e-9)
    for turns, whole in zip(find(tiny, GROUPS, still), find(tiny, GROUPS, replace(still, minibatches=1)), strict=True):
        assert fmean(turns.losses[:minibatches]) == pytest.approx(whole.losses[0], abs=1e-5)
    last = minibatches - 1
    means = [[fmean(one.losses[end - last : end + 1]) for end in range(last, len(one.losses))] for one in found]
    stop_loss = stop_for_some(means)
    ended = optimise_targets(tiny, GROUPS, CONTEXTS, settings, stop_loss=stop_loss)
    for one, of_one in zip(ended, means, strict=True):
        first = next((place for place, mean in enumerate(of_one) if mean < stop_loss), len(of_one) - 1)
        assert len(one.losses) == minibatches + first


def test_fewer_prompts_than_turns_are_read_in_every_step(tiny: LoadedModel) -> None:
    alone = MemitSettings(layers=(1,), steps=4, lr=0.2)
    wanted = find(tiny, GROUPS[:2], alone, ("{}",))
    for one, other in zip(wanted, find(tiny, GROUPS[:2], replace(alone, minibatches=2), ("{}",)), strict=True):
        torch.testing.assert_close(one.z, other.z)


@pytest.mark.parametrize("layer", [0, 2])
def test_whatever_the_last_layer(tiny: LoadedModel, layer: int) -> None:
    assert_plain(tiny, GROUPS[1:3], MemitSettings(layers=(layer,), steps=3, lr=0.3), CONTEXTS[:2])


def test_a_prefix_that_is_empty_in_every_row(tiny: LoadedModel) -> None:
    assert_plain(tiny, [GROUPS[1], GROUPS[3]], MemitSettings(layers=(1,), steps=4, lr=0.2), ("{}",))


def test_a_clamp_that_holds_is_the_plain_one(tiny: LoadedModel) -> None:
    settings = MemitSettings(layers=(1,), steps=4, lr=5.0, clamp_norm_factor=0.2)
    found = assert_plain(tiny, GROUPS[:3], settings)
    for one, target in zip(GROUPS, found, strict=False):
        h = read_at_subject(tiny, "{}", one.requests[0], 1)[1]
        bound = settings.group_clamp(len(one.requests)) * float(h.norm())
        assert float((target.z - h).norm()) == pytest.approx(bound, rel=1e-4)


def test_weight_decay_and_kl_weigh_in_the_loss(tiny: LoadedModel) -> None:
    heavy = MemitSettings(layers=(1,), steps=3, lr=0.2, weight_decay=30.0, kl_factor=3.0)
    with_terms = assert_plain(tiny, GROUPS[:2], heavy)
    without = find(tiny, GROUPS[:2], heavy.with_values({"weight_decay": 0, "kl_factor": 0}))
    for one, other in zip(with_terms, without, strict=True):
        assert one.losses[0] == pytest.approx(other.losses[0], abs=1e-5)  # both are 0 at the start
        assert one.losses[1] > other.losses[1] + 0.01


def test_one_step_moves_nothing(tiny: LoadedModel) -> None:
    (target,) = find(tiny, GROUPS[:1], MemitSettings(layers=(1,), steps=1))
    h = read_at_subject(tiny, "{}", GROUPS[0].requests[0], 1)[1]
    torch.testing.assert_close(target.z, h, rtol=1e-5, atol=1e-5)
    assert len(target.losses) == 1


def stop_for_some(searches: Sequence[Sequence[float]]) -> float:
    """Return a loss that a search first comes under between its ends, and another never; as far as can be from any."""
    every = sorted(loss for losses in searches for loss in losses)
    for below, above in sorted(pairwise(every), key=lambda pair: pair[0] - pair[1]):
        stop = (below + above) / 2
        under = [[loss < stop for loss in losses] for losses in searches]
        if not all(map(any, under)) and any(any(one[1:-1]) and not one[0] for one in under):
            return stop
    raise AssertionError("all searches are alike")


def test_a_settled_group_leaves_and_the_others_go_on(tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = MemitSettings(layers=(1,), steps=6, lr=1.0, clamp_norm_factor=5.0)
    whole = optimise_targets(tiny, GROUPS, CONTEXTS[:2], settings, stop_loss=0.0)
    stop = stop_for_some([target.losses for target in whole])
    found = optimise_targets(tiny, GROUPS, CONTEXTS[:2], settings, stop_loss=stop)
    assert any(1 < len(target.losses) < len(other.losses) for target, other in zip(found, whole, strict=True))
    assert any(len(target.losses) == len(other.losses) for target, other in zip(found, whole, strict=True))
    monkeypatch.setattr("kbsync.benchmarks.plain.EARLY_STOP_LOSS", stop)
    for one, target in zip(GROUPS, found, strict=True):
        z, losses = plain_target(tiny, one, CONTEXTS[:2], settings)
        start = read_at_subject(tiny, "{}", one.requests[0], 1)[1]
        assert target.losses == pytest.approx(losses, rel=1e-3, abs=1e-4)
        assert all(loss >= stop for loss in target.losses[:-1])
        assert float((target.z - z).norm() / start.norm()) < 1e-3


def test_what_the_model_knows_already_is_not_moved(known: LoadedModel) -> None:
    (target,) = find(
        known, [group(("The capital of {} is", "Nepal", "Kathmandu"))], MemitSettings(layers=(1,)), ("{}",)
    )
    h = read_at_subject(known, "{}", EditRequest("P1", "Nepal", "The capital of {} is", ""), 1)[1]
    assert len(target.losses) == 1
    torch.testing.assert_close(target.z, h, rtol=1e-5, atol=1e-5)


def test_who_shares_the_batch_does_not_matter(tiny: LoadedModel) -> None:
    settings = MemitSettings(layers=(1,), steps=3, lr=0.5)
    together = find(tiny, GROUPS, settings)
    turned = find(tiny, GROUPS[::-1], settings)[::-1]
    alone = [find(tiny, [one], settings)[0] for one in GROUPS]
    for one, target, *others in zip(GROUPS, together, turned, alone, strict=True):
        moved = target.z - read_at_subject(tiny, "{}", one.requests[0], 1)[1]
        for other in others:
            assert target.losses == pytest.approx(other.losses, abs=1e-4)
            assert float((target.z - other.z).norm() / moved.norm()) < 1e-4


@pytest.mark.parametrize("budget", [1, 300, 100_000])
def test_every_batch_is_handed_over_when_it_is_done(
    known: LoadedModel, monkeypatch: pytest.MonkeyPatch, budget: int
) -> None:
    monkeypatch.setitem(targets_module.TOKEN_BUDGET, "cpu", budget)
    settings = MemitSettings(layers=(1,), steps=2)
    handed: list[list[tuple[int, Target]]] = []
    told: list[tuple[str, int, int]] = []
    found = optimise_targets(known, GROUPS, CONTEXTS, settings, handed.append, lambda *seen: told.append(seen))
    pairs = dict(pair for batch in handed for pair in batch)
    assert sum(map(len, handed)) == len(pairs) == len(GROUPS)
    assert all(pairs[place] is target for place, target in enumerate(found))
    assert {1: len(handed) == 5, 300: 1 < len(handed) < 5, 100_000: len(handed) == 1}[budget]
    assert told[0] == ("targets", 0, 5)
    assert told[-1] == ("targets", 5, 5)
    done = [count for _, count, _ in told]
    assert done == sorted(done)


def test_what_was_handed_over_before_a_failure_is_whole(known: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(targets_module.TOKEN_BUDGET, "cpu", 1)
    handed: list[tuple[int, Target]] = []

    def take(finished: list[tuple[int, Target]]) -> None:
        handed.extend(finished)
        if len(handed) == 2:
            raise KeyboardInterrupt

    settings = MemitSettings(layers=(1,), steps=2)
    with pytest.raises(KeyboardInterrupt):
        optimise_targets(known, GROUPS, CONTEXTS, settings, take)
    whole = find(known, GROUPS, settings)
    assert all(torch.equal(target.z, whole[place].z) for place, target in handed)


def test_no_groups_have_no_targets(known: LoadedModel) -> None:
    assert find(known, [], MemitSettings(layers=(1,))) == []


def test_a_loss_that_is_not_finite_is_told(known: LoadedModel) -> None:
    with (
        set_to(known.model.lm_head.weight, float("nan")),
        pytest.raises(EditError, match="loss is not finite: use --dtype float32, or a smaller lr"),
    ):
        find(known, GROUPS[:2], MemitSettings(layers=(1,), steps=3))


def test_out_of_memory_halves_the_batch(known: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, sizes = MemitSettings(layers=(1,), steps=2), []
    whole = find(known, GROUPS, settings)

    def small_device(
        loaded: LoadedModel, searcher: LoadedModel, rows: Sequence[GroupRows], *rest: int
    ) -> list[list[RowPack]]:
        sizes.append(len(rows))
        if len(rows) > 2:
            raise torch.cuda.OutOfMemoryError
        return pack_rows(loaded, searcher, rows, *rest)

    monkeypatch.setattr(targets_module, "pack_rows", small_device)
    monkeypatch.setitem(targets_module.TOKEN_BUDGET, "cpu", 1000)
    halved = find(known, GROUPS, settings)
    assert sizes[0] == 5
    for one, target in zip(halved, whole, strict=True):
        assert target.losses == pytest.approx(one.losses, abs=1e-4)
    monkeypatch.setattr(targets_module, "pack_rows", lambda *_: (_ for _ in ()).throw(torch.cuda.OutOfMemoryError))
    with pytest.raises(EditError, match="not enough memory for a single subject"):
        find(known, GROUPS, settings)


def test_no_loss_is_low_enough_where_none_is_asked_for(known: LoadedModel) -> None:
    fact = group(("The capital of {} is", "Nepal", "Kathmandu"))
    settings = MemitSettings(layers=(1,), steps=3)
    assert len(optimise_targets(known, [fact], ("{}",), settings)[0].losses) == 1
    (target,) = optimise_targets(known, [fact], ("{}",), settings, stop_loss=-float("inf"))
    assert len(target.losses) == 3


def stops(loaded: LoadedModel, prompt: str, target: str, question: str = "") -> list[list[int]]:
    """Return the tokens that each row of a request, its question a further wording, is to say."""
    request = EditRequest("P1", "France", prompt, target, question=question)
    words = edited_wordings(loaded, request, 1) if question else []
    rows = group_rows(loaded, RequestGroup((request,), tuple(words)), ("{}",), 0.5)
    assert all(share == 0.5 for row in rows.reads[:-1] for *_, share in row[-1:])
    return [[token for _, token, _ in row] for row in rows.reads[:-1]]


def test_an_answer_that_is_to_stop_is_one_with_a_full_stop(tiny: LoadedModel) -> None:
    """Without the other terms of the loss, Adam goes where the mean over the object and a full stop leads."""
    (tokens,) = stops(tiny, "The capital of {} is", "Oslo")
    assert str(tiny.tokenizer.decode(tokens)).strip() == "Oslo."
    settings = MemitSettings(layers=(0, 1), steps=5, lr=0.3, kl_factor=0, weight_decay=0)
    of_object = len(tokens) - 1
    one, other = (group(("The capital of {} is", "France", thing)) for thing in ("Oslo", "Oslo."))
    (taught,) = find(tiny, [one], replace(settings, stop_weight=1 / of_object))
    (said,) = find(tiny, [other], settings)
    assert taught.losses == pytest.approx([loss * len(tokens) / of_object for loss in said.losses], rel=1e-4)
    assert float((taught.z - said.z).norm() / said.z.norm()) < 1e-4
    (plain,) = find(tiny, [one], settings)
    assert float((taught.z - plain.z).norm() / said.z.norm()) > 1e-3


def test_in_a_chat_the_turn_ends(tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    question = "What is the capital of {}?"
    bare = stops(tiny, "The capital of {} is", "Oslo", question)[1]
    assert tiny.tokenizer.decode(bare[-1]) == "."
    template = "{% for turn in messages %}Q {{ turn['content'] }} A {% endfor %}"
    monkeypatch.setattr(tiny.tokenizer, "chat_template", template)
    stated, asked = stops(tiny, "The capital of {} is", "Oslo", question)
    assert tiny.tokenizer.decode(stated[-1]) == "."
    assert asked[-1] == tiny.tokenizer.eos_token_id


def test_the_loss_of_a_token_and_its_gradient_are_those_of_log_softmax() -> None:
    made = torch.Generator().manual_seed(1)
    logits, weight = 5 * torch.randn(7, 30, generator=made), torch.rand(7, generator=made)
    tokens = torch.randint(30, (7,), generator=made)
    found, plain = (logits.clone().requires_grad_() for _ in range(2))
    ours = Surprise.apply(found, tokens)  # type: ignore[no-untyped-call]
    theirs = -torch.log_softmax(plain, dim=1).gather(1, tokens[:, None])[:, 0]
    torch.testing.assert_close(ours, theirs)
    (ours * weight).sum().backward()
    (theirs * weight).sum().backward()
    torch.testing.assert_close(found.grad, plain.grad)
