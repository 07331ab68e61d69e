"""Groups: requests that share a key share one delta; and the further wordings that a fact is written on.

Requests whose text is the same up to the last subject token have one key, and one key cannot hold two values.

A key depends on the words before the subject, so a fact that is written on its prompt alone is lost on a prompt that
begins with the subject. Written on several wordings, a fact has one delta (the mean of its losses, as over the contexts
of Eqn. 16) and a key for each. A wording that begins with the subject gives all facts of the subject one key, so they
become one group.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kbsync.facts import EditRequest, content_id
from kbsync.models import LoadedModel, locate
from kbsync.models.scoring import question_prompt


@dataclass(frozen=True, slots=True)
class RequestGroup:
    """Requests with one delta. Without wordings, their text is the same up to the last subject token: one key."""

    requests: tuple[EditRequest, ...]
    wordings: tuple[EditRequest, ...] = ()
    """the requests in further words"""
    keys: tuple[EditRequest, ...] = ()
    """one request or wording for each key beside that of the first request"""

    @property
    def id(self) -> str:
        """Content id of the members in all their words, whatever their order was."""
        return content_id("group1", sorted(request.id for request in (*self.requests, *self.wordings)))


def edited_wordings(loaded: LoadedModel, request: EditRequest, count: int) -> list[EditRequest]:
    """Return the request in at most `count` further words: its question first, as this model is asked, then others.

    Left out are those in which the subject is no more than the text's first token: models without a begin token have
    nearly the same key for every token there (cosines up to 1.00 between countries), so no fact can be told by it.
    """
    question = question_prompt(loaded.tokenizer, request.question) if request.question and count else None
    prompts = dict.fromkeys([*([question] if question else []), *request.wordings])
    prompts.pop(request.prompt, None)
    if not count:
        return []
    placed = locate(loaded.tokenizer, [(prompt, request.subject, "") for prompt in prompts])
    told = [prompt for prompt, tokens in zip(prompts, placed, strict=True) if tokens.subject_last > 0]
    return [replace(request, prompt=prompt, wordings=()) for prompt in told[:count]]


def group_requests(loaded: LoadedModel, requests: Sequence[EditRequest], wordings: int = 0) -> list[RequestGroup]:
    """Group requests, each in at most so many further `wordings`, by their tokens up to the last subject token.

    Requests any of whose wordings share a key are one group. The result depends on the set alone.
    """
    ordered = sorted(requests, key=lambda request: request.id)
    further = [edited_wordings(loaded, request, wordings) for request in ordered]
    every = [(place, one) for place, request in enumerate(ordered) for one in (request, *further[place])]
    placed = locate(loaded.tokenizer, [(one.prompt, one.subject, one.target) for _, one in every])
    keys = [tokens.ids[: tokens.subject_last + 1] for tokens in placed]
    leader = list(range(len(ordered)))  # of each request's group: its first request
    first_with: dict[tuple[int, ...], int] = {}
    for (place, _), key in zip(every, keys, strict=True):
        join(leader, first_with.setdefault(key, place), place)
    members: dict[int, list[int]] = defaultdict(list)
    for place in range(len(ordered)):
        members[root(leader, place)].append(place)
    own_keys: dict[int, dict[tuple[int, ...], EditRequest]] = defaultdict(dict)
    for (place, one), key in zip(every, keys, strict=True):
        own_keys[root(leader, place)].setdefault(key, one)
    groups = []
    for first, places in members.items():
        own = tuple(ordered[place] for place in places)
        words = tuple(one for place in places for one in further[place])
        groups.append(RequestGroup(own, words, tuple(own_keys[first].values())[1:]))
    return groups


def columns(groups: Sequence[RequestGroup]) -> tuple[list[RequestGroup], list[int]]:
    """Return a column of the solve for each key, in the groups' order, and the number of each one's group.

    A group's own first column is the group itself; a further key's is a group of the one request that it is read at.
    """
    found = [
        (number, one)
        for number, group in enumerate(groups)
        for one in (group, *(RequestGroup((request,)) for request in group.keys))
    ]
    return [one for _, one in found], [number for number, _ in found]


def root(leader: list[int], place: int) -> int:
    """Return the first request of the group of request `place`."""
    while leader[place] != place:
        place = leader[place]
    return place


def join(leader: list[int], one: int, other: int) -> None:
    """Make the groups of two requests one."""
    first, second = sorted((root(leader, one), root(leader, other)))
    leader[second] = first
