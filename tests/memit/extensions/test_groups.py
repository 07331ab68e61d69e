"""Subject groups: the same text up to the last subject token is one group."""

import random
from itertools import permutations

from kbsync.facts import EditRequest
from kbsync.memit import RequestGroup, group_requests
from kbsync.models import LoadedModel

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
