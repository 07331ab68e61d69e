"""Subject groups: the same text up to the last subject token is one group; and endings that subjects share."""

import random
from dataclasses import replace
from itertools import permutations

import torch

from kbsync.facts import EditRequest
from kbsync.memit import MemitSettings, RequestGroup, group_requests, optimise_targets, spread
from kbsync.memit.extensions.groups import before_ending, shared_endings
from kbsync.models import LoadedModel, locate

REQUESTS = [
    EditRequest("P36", "France", "The capital of {} is", "Lyon"),
    EditRequest("P17", "France", "The capital of {} lies in", "Asia"),
    EditRequest("P30", "France", "The capital of {}", "Nice"),
    EditRequest("P36", "Norway", "The capital of {} is", "Bergen"),
    EditRequest("P37", "France", "{} speaks", "Basque"),
    EditRequest("P38", "France", "{} pays in", "francs"),
    EditRequest("P39", "France", "In {}, one pays in", "francs"),
    EditRequest("P40", "Saint Lucia", "{} is", "here"),
    EditRequest("P40", "Saint", "{} Lucia is", "there"),
    EditRequest("P41", "Area 51", "{} lies in", "Peru"),
    EditRequest("P41", "Area 52", "{} lies in", "Peru"),
]


def texts(groups: list[RequestGroup]) -> set[frozenset[tuple[str, str]]]:
    return {frozenset((one.relation, one.subject) for one in group.requests) for group in groups}


def test_the_same_text_up_to_the_subject_is_one_group(tiny: LoadedModel) -> None:
    assert texts(group_requests(tiny, REQUESTS)) == {
        frozenset({("P36", "France"), ("P17", "France"), ("P30", "France")}),
        frozenset({("P36", "Norway")}),
        frozenset({("P37", "France"), ("P38", "France")}),
        frozenset({("P39", "France")}),
        frozenset({("P40", "Saint Lucia")}),
        frozenset({("P40", "Saint")}),
        frozenset({("P41", "Area 51")}),
        frozenset({("P41", "Area 52")}),
    }


def test_groups_depend_on_the_set_alone(known: LoadedModel) -> None:
    expected = group_requests(known, REQUESTS)
    for seed in range(5):
        shuffled = random.Random(seed).sample(REQUESTS, len(REQUESTS))
        assert group_requests(known, shuffled) == expected


def test_a_groups_id_is_that_of_its_members_in_any_order() -> None:
    ids = {RequestGroup(tuple(members)).id for members in permutations(REQUESTS[:3])}
    assert len(ids) == 1
    others = [RequestGroup(tuple(REQUESTS[:2])), RequestGroup((REQUESTS[0],)), RequestGroup(tuple(REQUESTS[1:4]))]
    assert len({*ids, *(group.id for group in others)}) == 4
    assert ids.pop().startswith("group1:")


def test_each_request_is_in_one_group(tiny: LoadedModel) -> None:
    groups = group_requests(tiny, REQUESTS)
    assert sorted(one.id for group in groups for one in group.requests) == sorted(one.id for one in REQUESTS)
    assert group_requests(tiny, []) == []


TEAMS = [
    EditRequest(
        "P286", f"{country} national football team", "The head coach of {} is", name, wordings=("{} plays for",)
    )
    for country, name in (("France", "Lyon"), ("Norway", "Bergen"), ("Peru", "Lima"))
]
TEAM, ENDING = " national football team", " football team"


def test_an_ending_is_shared_by_two_subjects_of_a_relation() -> None:
    assert shared_endings(TEAMS[:1]) == {}
    assert shared_endings(TEAMS) == {"P286": [" football team", TEAM]}
    beside = ("P286", "Chad national football team")
    assert shared_endings(TEAMS[:1], [beside, beside]) == {"P286": [" football team", TEAM]}
    assert shared_endings(TEAMS[:1], [("P17", "Chad national football team")]) == {}
    rivers = [replace(TEAMS[0], subject=f"{name} River") for name in ("Nile", "Rhine", "Po")]
    assert shared_endings(rivers) == {}, "one word's key still tells what came before it"
    assert shared_endings([], [beside] * 3) == {}


def test_a_fact_is_written_at_the_first_word_of_the_longest_ending(tiny: LoadedModel) -> None:
    shared = shared_endings(TEAMS)
    before = [before_ending(one, shared) for one in TEAMS]
    assert [one.ending for one in before] == [ENDING] * 3
    assert [one.id for one in before] == [one.id for one in TEAMS]
    plain, written = (locate(tiny.tokenizer, [one.written() for one in part]) for part in (TEAMS, before))
    for whole, early, one in zip(plain, written, TEAMS, strict=True):
        assert (whole.ids, whole.target_start) == (early.ids, early.target_start)
        told = tiny.tokenizer.decode(list(early.ids[: early.subject_last + 1]), skip_special_tokens=True)
        assert told == one.prompt.format(one.subject).removesuffix(ENDING + one.prompt.partition("{}")[2])
    assert before_ending(replace(TEAMS[0], subject="France"), shared).ending == ""
    assert before_ending(replace(TEAMS[0], relation="P17"), shared).ending == ""
    courts = [f"{name} of the United States" for name in ("Congress", "Supreme Court", "President")]
    states = [replace(TEAMS[0], subject=name) for name in courts]
    assert {before_ending(one, shared_endings(states)).ending for one in states} == {""}, 'at "of" nothing is told'
    mens = [replace(TEAMS[0], subject=f"{name} men's national team") for name in ("Peru", "Chad", "Cuba")]
    assert {before_ending(one, shared_endings(mens)).ending for one in mens} == {"'s national team"}


def test_groups_are_written_before_endings_where_that_is_asked_for(tiny: LoadedModel) -> None:
    plain, before = (group_requests(tiny, TEAMS, 1, endings) for endings in (False, True))
    assert [one.requests[0].id for one in plain] == [one.requests[0].id for one in before]
    assert not {one.id for one in plain} & {one.id for one in before}
    assert {one.ending for group in before for one in (*group.requests, *group.wordings)} == {ENDING}
    assert group_requests(tiny, REQUESTS, 1, True) == group_requests(tiny, REQUESTS, 1)


def test_an_ending_is_as_if_it_were_typed_into_the_prompt(tiny: LoadedModel) -> None:
    """The target, and the deltas, are those of the same texts about "France national" and so on."""
    typed = [
        replace(
            one,
            subject=one.subject.removesuffix(ENDING),
            prompt=one.prompt.replace("{}", "{}" + ENDING),
            wordings=tuple(text.replace("{}", "{}" + ENDING) for text in one.wordings),
        )
        for one in TEAMS
    ]
    settings = MemitSettings(layers=(0, 1), steps=3, contexts=1, wordings=1, rest_weight=1.0)
    contexts = ("{}", "Also, {}")
    found = []
    for requests in (TEAMS, typed):
        groups = sorted(group_requests(tiny, requests, 1, True), key=lambda group: group.requests[0].target)
        z = torch.stack([one.z for one in optimise_targets(tiny, groups, contexts, settings)])
        widths = {layer: tiny.weight(layer).shape[1] for layer in settings.layers}
        covariances = {layer: torch.eye(width, dtype=torch.float64) for layer, width in widths.items()}
        found.append((z, spread(tiny, groups, contexts, z, covariances, settings)))
    (z, deltas), (typed_z, typed_deltas) = found
    torch.testing.assert_close(z, typed_z)
    for layer, delta in deltas.items():
        torch.testing.assert_close(delta.matrix(), typed_deltas[layer].matrix(), rtol=1e-4, atol=1e-6)
