"""How an endpoint is asked: who asks, how long an answer may take, who is told of a wait, and what was read before."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from kbsync import __version__
from kbsync.errors import SettingsError
from kbsync.limits import DEADLINE, SILENCE

__all__ = ["ALONE", "NO_PAGES", "Access", "PageStore"]


class PageStore(Protocol):
    """Finished answers, so that an interrupted pull goes on where it was."""

    def find(self, query: str) -> bytes | None:
        """Return the answer to this query that was kept; None where there is none."""

    def keep(self, query: str, body: bytes) -> None:
        """Keep a whole answer."""


class _NoPages:
    def find(self, query: str) -> bytes | None:
        return None

    def keep(self, query: str, body: bytes) -> None:
        pass


NO_PAGES = _NoPages()


def _silent(phase: str, done: int, total: int) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Access:
    """How an endpoint is asked. Raises SettingsError for a contact that no header can hold."""

    contact: str | None = None
    """A mail address or URL of the user, for the people who run the endpoint."""
    pages: PageStore = NO_PAGES
    progress: Callable[[str, int, int], None] = _silent
    """``progress(phase, done, total)``; called once a second during a wait"""
    timeout: int = field(default_factory=lambda: SILENCE.value)
    """seconds without a byte"""
    deadline: int = field(default_factory=lambda: DEADLINE.value)
    """seconds for a whole request"""
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        if self.contact is not None and not re.fullmatch(r"[\x21-\x7e]+( [\x21-\x7e]+)*", self.contact):
            raise SettingsError(f"contact {self.contact!r}: write a mail address or a URL, in ASCII letters")

    @property
    def agent(self) -> str:
        """The User-Agent: name, version, what it is for, and whom to ask."""
        purpose = "keeps language models in step with a knowledge base"
        whom = f"; contact: {self.contact}" if self.contact else ""
        return f"kbsync/{__version__} ({purpose}{whom})"


ALONE = Access()
"""nobody told, nothing kept"""
