"""What the fuzz tests share: how many examples each tries (KBSYNC_FUZZ; `make fuzz` tries many), changes, memory."""

import os
import resource
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("KBSYNC_FUZZ", "40"))
MOST_MB = 1024
"""that an example may take above what the process held before"""


def each(share: float = 1.0) -> settings:
    """The settings of a test whose examples take longer than others, and are fewer."""
    return settings(
        max_examples=max(10, round(share * EXAMPLES)),
        deadline=None,
        database=None,
        phases=[Phase.generate],  # the example says enough as it is, and making it smaller takes minutes
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


EACH = each()


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


_BEFORE: dict[str, float] = {}


def within_memory() -> None:
    """Fail where this process has held much more memory than after the first example of the same test."""
    test = os.environ["PYTEST_CURRENT_TEST"]  # other files' tests, in the same process, may take more
    assert peak_mb() < _BEFORE.setdefault(test, peak_mb()) + MOST_MB


CHANGES: list[Callable[[bytes, int, bytes], bytes]] = [
    lambda text, place, new: text[:place] + new + text[place:],
    lambda text, place, new: text[:place] + new + text[place + len(new) :],
    lambda text, place, new: text[:place] + text[place + 1 + len(new) * 7 :],
    lambda text, place, new: text[:place] + new * 50 + text[place:],
    lambda text, place, new: text[:place],
    lambda text, place, new: text[:place] + text[max(0, place - 40) :],
]
PIECES = st.binary(max_size=6) | st.sampled_from(
    [*b'\n "<>{}[]@;\r\x00\xff'.split(), b"&a", b"*a", b"\\ud842", b"^^", b"<!--", b"{}", b"\n", b"\r"]
)


def damaged(data: st.DataObject, content: bytes, most: int = 3) -> bytes:
    """`content` with some changes."""
    for _ in range(data.draw(st.integers(1, most), label="changes")):
        place = data.draw(st.integers(0, len(content)), label="place")
        change = data.draw(st.sampled_from(CHANGES), label="change")
        content = change(content, place, data.draw(PIECES, label="piece"))
    return content
