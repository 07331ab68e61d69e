"""Groups: requests that share a key share one delta; and the further wordings that a fact is written on.

Requests whose text is the same up to the last subject token have one key, and one key cannot hold two values.

A key depends on the words before the subject, so a fact that is written on its prompt alone is lost on a prompt that
begins with the subject. Written on several wordings, a fact has one delta (the mean of its losses, as over the contexts
of Eqn. 16) and a key for each. A wording that begins with the subject gives all facts of the subject one key, so they
become one group.

Where a fact's prompts all begin with the subject, or none does, its delta is given one more key, of the other kind.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from kbsync.facts import EditRequest, content_id, linked
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
    def unsearched(self) -> list[EditRequest]:
        """The keys that are of no request or wording: `with_both_kinds` gives them."""
        return [one for one in self.keys if one not in (*self.requests, *self.wordings)]

    @property
    def id(self) -> str:
        """Content id of the members in all their words, whatever their order was."""
        ids = sorted(request.id for request in (*self.requests, *self.wordings))
        ends = sorted([request.id, request.ending] for request in self.requests if request.ending)
        return content_id("group1", [*ids, *ends])


FEWEST_ALIKE = 2
"""subjects of a relation that make an ending a shared one"""
FIRST_WORD = re.compile(r"\W*\w{3,}")
"""of an ending; shorter ones ("of") say nothing of what begins there"""


def endings(subject: str) -> list[str]:
    """Return what could be a subject's shared ending: two words or more behind another one, the longest first."""
    words = subject.split(" ")
    return [" " + " ".join(words[begin:]) for begin in range(1, len(words) - 1)]


def shared_endings(requests: Iterable[EditRequest], others: Iterable[tuple[str, str]] = ()) -> dict[str, list[str]]:
    """Return relation -> endings that subjects of its requests share, with `FEWEST_ALIKE` of its subjects in all.

    `others` are (relation, subject) of facts beside the requests.
    """
    subjects = {(one.relation, one.subject) for one in requests}
    wanted = {(relation, ending) for relation, subject in subjects for ending in endings(subject)}
    every = subjects.union(others) if wanted else ()
    counts = Counter((relation, ending) for relation, subject in every for ending in endings(subject))
    found: dict[str, list[str]] = defaultdict(list)
    for relation, ending in sorted(wanted):
        if counts[relation, ending] >= FEWEST_ALIKE:
            found[relation].append(ending)
    return dict(found)


def before_ending(request: EditRequest, shared: Mapping[str, Collection[str]]) -> EditRequest:
    """Return the request, to be written at the first word of the longest ending that its subject shares, if any.

    The key at the last token of "Austria national football team" is nearly that of any other national team (cosine
    0.97 to 0.99 in SmolLM2-135M), so that no delta can tell them apart. At "national" it is 0.79. At "Austria" it would
    be 0.35, but what is written there is said of the country as well (docs/real-models.md).
    """
    own = next((ending for ending in endings(request.subject) if ending in shared.get(request.relation, ())), "")
    first = FIRST_WORD.match(own)
    return replace(request, ending=own[first.end() :] if first else "")


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
    placed = locate(loaded.tokenizer, [(*request.written(prompt)[:2], "") for prompt in prompts])
    told = [prompt for prompt, tokens in zip(prompts, placed, strict=True) if tokens.subject_last > 0]
    return [replace(request, prompt=prompt, wordings=()) for prompt in told[:count]]


def group_requests(
    loaded: LoadedModel, requests: Sequence[EditRequest], wordings: int = 0, endings: bool = False
) -> list[RequestGroup]:
    """Group requests, each in at most so many further `wordings`, by their tokens up to the last subject token.

    Requests any of whose wordings share a key are one group. With `endings`, each is written at the first word of
    the ending that its subject shares with those of other requests, if any. The result depends on the set alone.
    """
    if endings:
        shared = shared_endings(requests)
        requests = [before_ending(request, shared) for request in requests]
    ordered = sorted(requests, key=lambda request: request.id)
    worded = [(request, *edited_wordings(loaded, request, wordings)) for request in ordered]
    every = [one.written() for words in worded for one in words]
    keys = iter([tokens.ids[: tokens.subject_last + 1] for tokens in locate(loaded.tokenizer, every)])
    keyed = [[(next(keys), one) for one in words] for words in worded]
    groups, taken = [], Counter[tuple[int, ...]]()
    for places in linked([[key for key, _ in words] for words in keyed]):
        own_keys: dict[tuple[int, ...], EditRequest] = {}
        for key, one in (pair for place in places for pair in keyed[place]):
            own_keys.setdefault(key, one)
        requests = tuple(ordered[place] for place in places)
        further = tuple(one for place in places for one in worded[place][1:])
        groups.append(RequestGroup(requests, further, tuple(own_keys.values())[1:]))
        taken.update(own_keys.keys())
    return with_both_kinds(loaded, groups, taken) if wordings else groups


BEHIND_WORDS = ": {}"


def with_both_kinds(
    loaded: LoadedModel, groups: Sequence[RequestGroup], taken: Counter[tuple[int, ...]]
) -> list[RequestGroup]:
    """Return the groups, each with a key behind some words if its prompts all begin with the subject, or if none does
    with that of the subject alone; `taken` counts the keys that the groups have.

    A delta is heard little at a key of the kind that it was not solved for: of 60 counterfactuals on prompts that begin
    with the subject 43% were preferred on others, 77% with this key, and nothing is searched for it
    (docs/real-models.md). Left out is a key that two groups would have, as it cannot hold two values, and the first
    token alone.
    """
    further = []
    for group in groups:
        kinds = {one.prompt.startswith("{}") for one in (*group.requests, *group.wordings)}
        prompts = [] if len(kinds) == 2 else [BEHIND_WORDS if True in kinds else "{}"]
        further.append([replace(group.requests[0], prompt=prompt, wordings=()) for prompt in prompts])
    placed = locate(loaded.tokenizer, [one.written() for own in further for one in own])
    keys = [tokens.ids[: tokens.subject_last + 1] for tokens in placed]
    taken = taken + Counter(keys)
    alone = iter([len(key) > 1 and taken[key] == 1 for key in keys])
    return [
        replace(group, keys=(*group.keys, *(one for one in own if next(alone))))
        for group, own in zip(groups, further, strict=True)
    ]


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
