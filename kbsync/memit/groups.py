"""Subject groups: requests that share a key share one delta, as one key cannot hold two values."""

from collections.abc import Sequence
from dataclasses import dataclass

from kbsync.facts import EditRequest, content_id
from kbsync.models import LoadedModel, locate

__all__ = ["RequestGroup", "group_requests"]


@dataclass(frozen=True, slots=True)
class RequestGroup:
    """Requests whose text is the same up to the last subject token; most groups have one member."""

    requests: tuple[EditRequest, ...]

    @property
    def id(self) -> str:
        """Content id of the members, whatever their order was."""
        return content_id("group1", sorted(request.id for request in self.requests))


def group_requests(loaded: LoadedModel, requests: Sequence[EditRequest]) -> list[RequestGroup]:
    """Group requests by their tokens up to the last subject token; the result depends on the set alone."""
    ordered = sorted(requests, key=lambda request: request.id)
    placed = locate(loaded.tokenizer, [(request.prompt, request.subject, request.target) for request in ordered])
    groups: dict[tuple[int, ...], list[EditRequest]] = {}
    for request, tokens in zip(ordered, placed, strict=True):
        groups.setdefault(tokens.ids[: tokens.subject_last + 1], []).append(request)
    return [RequestGroup(tuple(members)) for members in groups.values()]
