"""Relations that Wikidata's public service cannot give whole, and a part of each that it can.

Kept by hand and written from memory: relations that should have a million statements or more in Wikidata; no count was
looked up, so one may be missing or here without need. A query for all subjects of so many statements runs into the
service's limit of 60 seconds.
"""

from kbsync.errors import SettingsError
from kbsync.sources.base import Ask

__all__ = ["HUGE", "check_narrowed"]

_PEOPLE = "--class Q5 --min-sitelinks 80"
_CITIES = "--class Q515 --min-sitelinks 40"
_FILMS = "--class Q11424 --min-sitelinks 40"
_ARTICLES = "--class Q13442814 --limit 1000"
_TAXA = "--class Q16521 --min-sitelinks 40"
_COMPANIES = "--class Q4830453 --min-sitelinks 40"

HUGE: dict[str, str] = {
    **dict.fromkeys(("P19", "P20", "P21", "P27", "P39", "P54", "P69", "P106", "P108", "P166", "P641"), _PEOPLE),
    **dict.fromkeys(("P734", "P735", "P1412"), _PEOPLE),
    **dict.fromkeys(("P17", "P131", "P276", "P421"), _CITIES),
    **dict.fromkeys(("P136", "P161", "P364", "P407", "P495"), _FILMS),
    **dict.fromkeys(("P50", "P921", "P1433", "P1476", "P2860"), _ARTICLES),
    **dict.fromkeys(("P105", "P171", "P225"), _TAXA),
    **dict.fromkeys(("P31", "P279", "P361", "P527", "P910"), _COMPANIES),
}
"""relation -> options that leave a part that can be read"""


def check_narrowed(ask: Ask) -> None:
    """Raise SettingsError, with a proposal, for a relation that is asked for whole and is too large for that."""
    if ask.relation in HUGE and not ask.partial:
        raise SettingsError(
            f"relation {ask.relation}: Wikidata has more statements of it than its service gives at once; narrow it "
            "with --class, --subjects, --min-sitelinks or --limit: "
            f"kbsync pull --relation {ask.relation} {HUGE[ask.relation]}"
        )
