"""The bounds on what is read from outside. Each has a name, a default, and an environment variable that changes it.

A message that tells of a bound ends with `Limit.told`, so that the reader knows which variable to set. Standard
library only.
"""

import os
from dataclasses import dataclass

from kbsync.errors import SettingsError

MEGABYTE = 2**20


@dataclass(frozen=True, slots=True)
class Limit:
    """A bound: the environment variable that changes it, its default, and the unit of both."""

    variable: str
    default: int
    unit: str

    @property
    def value(self) -> int:
        """The bound in its unit; raises SettingsError where the variable holds no whole number above 0."""
        text = os.environ.get(self.variable)
        if text is None:
            return self.default
        if not (text.isascii() and text.isdecimal() and len(text) < 16 and int(text) > 0):
            raise SettingsError(f"{self.variable}={text[:40]!r}: write a whole number of {self.unit} above 0")
        return int(text)

    @property
    def bytes(self) -> int:
        """The bound in bytes, where its unit is MB."""
        return self.value * MEGABYTE

    @property
    def told(self) -> str:
        """The bound and how to change it, for the end of a message."""
        return f"at most {self.value:,} {self.unit}; {self.variable} sets another bound"


ANSWER = Limit("KBSYNC_MOST_ANSWER", 512, "MB")
"""of one answer of an endpoint, unpacked"""
RATIO = Limit("KBSYNC_MOST_RATIO", 200, "times its packed size")
"""that an answer may grow to when it is unpacked"""
ERROR_BODY = Limit("KBSYNC_MOST_ERROR_BODY", 65_536, "bytes")
"""of an endpoint's message of an error"""
SILENCE = Limit("KBSYNC_SILENCE", 75, "seconds")
"""without a byte from an endpoint; Wikidata itself gives up on a query after 60"""
DEADLINE = Limit("KBSYNC_DEADLINE", 300, "seconds")
"""for one request to an endpoint, from the connection to the last byte"""
REDIRECTS = Limit("KBSYNC_MOST_REDIRECTS", 5, "redirects")
"""of one request"""
SUBJECTS = Limit("KBSYNC_MOST_SUBJECTS", 100_000_000, "subjects")
"""of one relation at an endpoint"""
SKIPPED = Limit("KBSYNC_MOST_SKIPPED", 100_000, "statements")
"""of one relation that a pull leaves out and that the ledger keeps, with the reason"""
LINE = Limit("KBSYNC_MOST_LINE", 64, "MB")
"""of one line or value in a file, unpacked"""
ROW = Limit("KBSYNC_MOST_ROW", 1, "MB")
"""of one line of a table, unpacked"""
DOCUMENT = Limit("KBSYNC_MOST_DOCUMENT", 64, "MB")
"""of a file that has no lines to be read one by one: YAML, RDF/XML, JSON-LD, a list of subjects"""
DEPTH = Limit("KBSYNC_MOST_DEPTH", 100, "levels")
"""of lists and mappings in one another, in YAML, JSON and XML"""
