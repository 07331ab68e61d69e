"""Facts in several wordings: one delta, a key for each; what is edited is never what is measured."""

from dataclasses import replace

import torch

from kbsync.benchmarks.plain import read_at_subject
from kbsync.facts import EditRequest
from kbsync.memit import MemitSettings, RequestGroup, edited, group_requests, optimise_targets, spread
from kbsync.memit.extensions.groups import BEHIND_WORDS, columns, edited_wordings
from kbsync.memit.extensions.preserved_keys import preserved_moments
from kbsync.memit.fast.packed_rows import search_model
from kbsync.memit.spread import at_every_key
from kbsync.models import LoadedModel, locate
from kbsync.models.scoring import question_prompt
from kbsync.resources import templates_folder
from kbsync.templates import load_templates

WORDS = ("{} is governed from", "The chief town of {} is")
ONE = EditRequest("P36", "France", "The capital of {} is", "Rome", (), "What is the capital of {}?", (), WORDS)
TWO = replace(ONE, subject="Italy", target="Paris")
LANGUAGE = EditRequest("P37", "France", "The language of {} is", "Italian", wordings=("{} speaks",))
SETTINGS = MemitSettings(layers=(0, 1), steps=4, contexts=0, wordings=3)


def test_the_published_way_is_one_prompt(tiny: LoadedModel) -> None:
    bare = [replace(one, wordings=(), question="") for one in (ONE, TWO, LANGUAGE)]
    assert [group.requests for group in group_requests(tiny, [ONE, TWO, LANGUAGE])] == [
        (request,) for request in sorted([ONE, TWO, LANGUAGE], key=lambda one: one.id)
    ]
    ids = [group.id for group in group_requests(tiny, bare)]
    assert ids == [group.id for group in group_requests(tiny, [ONE, TWO, LANGUAGE])]


def test_a_fact_in_several_wordings_is_one_group_with_a_key_for_each(tiny: LoadedModel) -> None:
    groups = group_requests(tiny, [ONE, TWO], 3)
    assert [len(group.requests) for group in groups] == [1, 1]
    for group in groups:
        (own,) = group.requests
        prompts = [own.prompt, *(one.prompt for one in group.wordings)]
        assert set(prompts) == {own.prompt, question_prompt(tiny.tokenizer, own.question), *WORDS}
        assert len(group.keys) == len(prompts) - 1
        assert {one.target for one in group.wordings} == {own.target}
    every, owner = columns(groups)
    assert [one.requests[0].subject for one in every] == [groups[number].requests[0].subject for number in owner]
    assert len(every) == sum(1 + len(group.keys) for group in groups)


def test_wordings_are_taken_in_order_up_to_their_number(tiny: LoadedModel) -> None:
    texts = [one.prompt for one in edited_wordings(tiny, ONE, 2)]
    assert texts == [question_prompt(tiny.tokenizer, ONE.question), WORDS[0]]
    assert edited_wordings(tiny, ONE, 0) == []
    assert len(group_requests(tiny, [ONE], 1)[0].wordings) == 1


def test_facts_that_share_the_key_of_a_wording_are_one_group(tiny: LoadedModel) -> None:
    (group,) = group_requests(tiny, [ONE, LANGUAGE], 3)
    assert {one.target for one in group.requests} == {"Rome", "Italian"}
    assert group == group_requests(tiny, [LANGUAGE, ONE], 3)[0]
    assert len(group_requests(tiny, [ONE, LANGUAGE])) == 2


def key_prompts(loaded: LoadedModel, *requests: EditRequest, wordings: int = 3) -> list[list[str]]:
    return [[one.prompt for one in group.keys] for group in group_requests(loaded, requests, wordings)]


def test_a_fact_on_one_kind_of_prompt_gets_a_key_of_the_other(tiny: LoadedModel) -> None:
    first, behind = (replace(ONE, prompt=prompt, question="", wordings=()) for prompt in WORDS)
    assert key_prompts(tiny, first) == [[BEHIND_WORDS]]
    assert key_prompts(tiny, behind) == [["{}"]]
    assert key_prompts(tiny, replace(first, wordings=WORDS)) == [[WORDS[1]]]  # it has both kinds
    assert key_prompts(tiny, first, wordings=0) == key_prompts(tiny, behind, wordings=0) == [[]]
    searched = [RequestGroup((first,)).id, RequestGroup((behind,)).id]
    assert [group_requests(tiny, [one], 3)[0].id for one in (first, behind)] == searched


def test_no_key_is_given_to_two_groups_nor_to_a_first_token(tiny: LoadedModel) -> None:
    behind = replace(ONE, question="", wordings=())
    assert key_prompts(tiny, behind, replace(LANGUAGE, wordings=())) == [[], []]
    assert sorted(key_prompts(tiny, behind, LANGUAGE)) == [[], [LANGUAGE.wordings[0]]]
    alone = locate(tiny.tokenizer, [("{}", "a", "")])[0].subject_last > 0
    assert key_prompts(tiny, replace(behind, subject="a")) == [["{}"] * alone]


def test_each_key_is_to_bring_its_own_state_as_far_as_the_first(known: LoadedModel) -> None:
    groups = group_requests(known, [ONE, TWO], 3)
    every, owner = columns(groups)
    h = torch.stack([read_at_subject(known, "{}", one.requests[0], 1)[1].double() for one in every], dim=1)
    firsts = [owner.index(number) for number in range(2)]
    z = h[:, firsts] + torch.tensor([[1.0, -2.0]]).double()
    wanted = at_every_key(z, owner, h)
    torch.testing.assert_close(wanted - h, torch.tensor([[1.0, -2.0]]).double()[:, owner].expand_as(h))


def test_all_keys_come_nearer_to_what_they_are_to_bring(known: LoadedModel) -> None:
    settings = replace(SETTINGS, lambda_=0.01, steps=15)
    groups = group_requests(known, [ONE, TWO], 3)
    z = torch.stack([target.z for target in optimise_targets(known, groups, ("{}",), settings)])
    m = known.weight(0).shape[1]
    covariances = {layer: torch.eye(m, dtype=torch.float64) for layer in settings.layers}
    every, owner = columns(groups)

    def states() -> torch.Tensor:
        return torch.stack([read_at_subject(known, "{}", one.requests[0], 1)[1].double() for one in every], dim=1)

    before = states()
    wanted = at_every_key(z.double().T, owner, before)
    with edited(known, spread(known, groups, ("{}",), z, covariances, settings)):
        left = (wanted - states()).norm(dim=0) / (wanted - before).norm(dim=0)
    assert float(left.max()) < 0.5


def test_held_prompts_are_columns_of_residual_zero(known: LoadedModel) -> None:
    groups = [RequestGroup((ONE,))]
    held = [replace(TWO, target="")]
    settings = replace(SETTINGS, rest_weight=0.0)
    alone = preserved_moments(known, groups, settings, held=held)
    both = preserved_moments(known, groups, replace(settings, rest_weight=1.0), held=held)
    rest = preserved_moments(known, groups, replace(settings, rest_weight=1.0))
    for layer in settings.layers:
        assert float(alone[layer].diagonal().sum()) > 0
        torch.testing.assert_close(both[layer], alone[layer] + rest[layer], rtol=1e-4, atol=1e-5)


def test_the_search_in_sixteen_bits_stays_near(known: LoadedModel) -> None:
    groups = group_requests(known, [ONE, TWO], 3)
    exact, near = (
        optimise_targets(known, groups, ("{}",), replace(SETTINGS, search_dtype=dtype, steps=3))
        for dtype in ("float32", "bfloat16")
    )
    for one, other in zip(exact, near, strict=True):
        assert one.z.dtype == other.z.dtype == torch.float32
        assert abs(one.losses[0] - other.losses[0]) < 0.1 * (1 + abs(one.losses[0]))
    assert search_model(known, SETTINGS) is known


def test_no_shipped_wording_is_measured(tiny: LoadedModel) -> None:
    for template in load_templates(templates_folder()):
        edits = {template.prompt, template.question, *template.wordings}
        assert not edits & set(template.paraphrases), template.relation


def test_a_subject_that_is_the_first_token_alone_is_not_edited_there(tiny: LoadedModel) -> None:
    """Its key is nearly that of every other token at the beginning of a text."""
    places = [
        locate(tiny.tokenizer, [(words, subject, "")])[0].subject_last
        for subject in ("a", "e", "France", "New Zealand")
        for words in ("{} is governed from", "The chief town of {} is")
    ]
    kept = [
        any(one.prompt == words for one in edited_wordings(tiny, replace(ONE, subject=subject), 9))
        for subject in ("a", "e", "France", "New Zealand")
        for words in ("{} is governed from", "The chief town of {} is")
    ]
    assert kept == [place > 0 for place in places]
    assert any(kept)
