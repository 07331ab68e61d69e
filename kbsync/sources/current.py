"""Which statements are current.

A statement is current on a day if it has begun by that day (P580), has not ended by it (P582), and no other such
statement of its subject has a better rank; deprecated ones never are. Ended ones go first, so that a former object
that somebody left on preferred rank does not hide the present one.
"""

import datetime
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kbsync.sources.results import Row, Term

__all__ = ["Statement", "current"]

_RANKS = {
    "http://wikiba.se/ontology#PreferredRank": "preferred",
    "http://wikiba.se/ontology#NormalRank": "normal",
    "http://wikiba.se/ontology#DeprecatedRank": "deprecated",
}
_DATE = re.compile(r"([+-]?)(\d{4,})(?:-(\d\d)(?:-(\d\d))?)?")


@dataclass(frozen=True, slots=True)
class Statement:
    """A subject's object (None: "no value") with rank; dates are ISO text, `ended` may be known without a date."""

    subject: str
    object: Term | None
    rank: str
    since: str | None
    begun: bool
    ended: bool


def current(rows: Iterable[Row], day: datetime.date) -> list[Statement]:
    """Return the statements in `rows` that are current on `day`, by subject."""
    groups: dict[tuple[Term, Term | None], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["subject"], row.get("statement") or row.get("object")].append(row)
    by_subject: dict[str, list[Statement]] = defaultdict(list)
    for group in groups.values():
        statement = _merge(group, day)
        if statement.begun and not statement.ended and statement.rank != "deprecated":
            by_subject[statement.subject].append(statement)
    return [statement for subject in sorted(by_subject) for statement in _best_rank(by_subject[subject])]


def _best_rank(statements: list[Statement]) -> list[Statement]:
    preferred = [statement for statement in statements if statement.rank == "preferred"]
    return preferred or statements


def _merge(rows: Sequence[Row], day: datetime.date) -> Statement:
    """Make one statement of its rows: several where a qualifier has several values."""
    today = (day.year, day.month, day.day)
    starts = [_date(row["start"]) for row in rows if "start" in row]
    ends = [_date(row["end"]) for row in rows if "end" in row]
    begun = [start for start in starts if start is None or start <= today]
    known = [start for start in begun if start is not None]
    rank = rows[0].get("rank")
    return Statement(
        subject=rows[0]["subject"].value,
        object=rows[0].get("object"),
        rank=_RANKS.get(rank.value, "normal") if rank else "normal",
        since=_iso(max(known)) if known else None,
        begun=bool(begun) or not starts,
        # An end at an unknown time is an end all the same.
        ended=bool(ends) and not any(end is not None and end > today for end in ends),
    )


def _date(term: Term) -> tuple[int, int, int] | None:
    """Return year, month and day; a missing month or day counts as the first. None for an unknown time."""
    match = _DATE.match(term.value) if term.kind == "literal" else None
    if not match:
        return None
    sign, year, month, day = match.groups()
    return (-int(year) if sign == "-" else int(year), int(month or 1) or 1, int(day or 1) or 1)


def _iso(date: tuple[int, int, int]) -> str:
    year, month, day = date
    return f"{'-' if year < 0 else ''}{abs(year):04}-{month:02}-{day:02}"
