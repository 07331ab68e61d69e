"""Whether prompts fit a model's positions, before any of them is run."""

from collections.abc import Iterable, Iterator

from kbsync.errors import EditError
from kbsync.facts import EditRequest
from kbsync.models import LoadedModel

__all__ = ["check_lengths"]

ROOM = 32
"""positions kept free for an answer of the model's own"""
SHOWN = 3


def check_lengths(loaded: LoadedModel, requests: Iterable[EditRequest], contexts: Iterable[str]) -> None:
    """Raise EditError, with the first few and what to do, where a request is too long for the model.

    What is counted is the longest of `contexts` with the longest of a request's texts and its object. A model whose
    positions have no end takes anything.
    """
    if loaded.positions is None:
        return
    room = loaded.positions - ROOM - max((_tokens(loaded, text) for text in contexts), default=0)
    long = [(request, count) for request in requests if (count := _longest(loaded, request, room)) > room]
    if long:
        told = ", ".join(f"{one.relation} of {_short(one.subject)!r} ({count} tokens)" for one, count in long[:SHOWN])
        more = f" and {len(long) - SHOWN} more" if len(long) > SHOWN else ""
        raise EditError(
            f"too long for {loaded.source}, which has room for {room} tokens: {told}{more}; "
            "shorten the labels in the source, or leave the facts out with `kbsync retract`"
        )


def _longest(loaded: LoadedModel, request: EditRequest, room: int) -> int:
    """Return the tokens of a request's longest text; 0 where no text can be over `room`."""
    # A token has a byte at least, so most texts need not be cut into tokens.
    return max((_tokens(loaded, text) for text in _texts(request) if len(text.encode()) > room), default=0)


def _texts(request: EditRequest) -> Iterator[str]:
    for text in (request.prompt, *request.paraphrases):
        yield f"{text.format(request.subject)} {request.target}"


def _tokens(loaded: LoadedModel, text: str) -> int:
    return len(loaded.tokenizer(text, verbose=False)["input_ids"])


def _short(label: str) -> str:
    return label if len(label) <= 40 else f"{label[:40]}..."
