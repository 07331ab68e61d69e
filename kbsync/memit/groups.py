"""Groups: requests that share a key share one delta, and a subject's groups are searched together.

Requests whose text is the same up to the last subject token have one key, and one key cannot hold two values. With
other words before the subject they have keys of their own, but much alike: the solve can hold values that differ
little between them. So the search for their targets holds their deltas together (`coupling`).
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kbsync.facts import EditRequest, content_id
from kbsync.models import LoadedModel, locate

__all__ = ["RequestGroup", "group_requests"]


@dataclass(frozen=True, slots=True)
class RequestGroup:
    """Requests whose text is the same up to the last subject token: one key, one delta, one column of the solve."""

    requests: tuple[EditRequest, ...]
    others: tuple[EditRequest, ...] = ()
    """the subject's requests in its other groups, whose texts have other words before the subject"""

    def as_searched(self, coupling: float) -> "RequestGroup":
        """Return the group as the search for its target sees it: uncoupled, the subject's others are none of its."""
        return self if coupling else replace(self, others=())

    @property
    def id(self) -> str:
        """Content id of the members and of the subject's other requests, whatever their order was."""
        own = sorted(request.id for request in self.requests)
        return content_id("group2", [own, self.subject_id]) if self.others else content_id("group1", own)

    @property
    def subject_id(self) -> str:
        """Content id of all requests of the subject: the same for all of its groups."""
        return content_id("subject1", sorted(request.id for request in (*self.requests, *self.others)))


def group_requests(loaded: LoadedModel, requests: Sequence[EditRequest]) -> list[RequestGroup]:
    """Group requests by their tokens up to the last subject token; the result depends on the set alone."""
    ordered = sorted(requests, key=lambda request: request.id)
    placed = locate(loaded.tokenizer, [(request.prompt, request.subject, request.target) for request in ordered])
    groups: dict[tuple[int, ...], list[EditRequest]] = {}
    of_subject: dict[str, list[EditRequest]] = defaultdict(list)
    for request, tokens in zip(ordered, placed, strict=True):
        groups.setdefault(tokens.ids[: tokens.subject_last + 1], []).append(request)
        of_subject[request.subject].append(request)
    return [
        RequestGroup(tuple(members), tuple(one for one in of_subject[members[0].subject] if one not in members))
        for members in groups.values()
    ]
