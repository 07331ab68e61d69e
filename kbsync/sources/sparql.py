"""Facts from a SPARQL endpoint, asked one query at a time and with patience.

A busy or failing server (429, 500, 502, 503, 504) and a cut connection are asked again, five times at most: after the
time that the server wants, else after growing pauses. What took too long is asked for in smaller pages
(`kbsync.sources.paging`). Everything else, and the last try, becomes a SourceError that says which endpoint and
relation, what happened and what to do, and carries the query.
"""

import math
import random
from dataclasses import replace

from kbsync.errors import SourceError
from kbsync.sources.base import ALONE, Access, Ask, Reading, locate, shown
from kbsync.sources.endpoint import RequestError, ask_endpoint
from kbsync.sources.own_query import OwnQuery
from kbsync.sources.paging import TRIES, TooLongError
from kbsync.sources.queries import in_its_form, whole
from kbsync.sources.results import Row, check_rows, parse_results
from kbsync.sources.statements import read_aliases, read_facts


class SparqlSource:
    """A SPARQL endpoint."""

    def __init__(
        self,
        endpoint: str,
        *,
        name: str | None = None,
        ordered_sample: bool = True,
        access: Access = ALONE,
        own: OwnQuery | None = None,
    ) -> None:
        """`name` is the ledger's (else the address); see `read_facts` for samples. `own` is what it is asked."""
        self.name = name or endpoint
        self.endpoint = endpoint
        self.ordered_sample = ordered_sample
        self._access = access
        self._own = own

    def read(self, ask: Ask) -> Reading:
        """Read the current facts of `ask`'s relation; raises SourceError if any answer fails or is not whole."""
        if self._own is not None:
            with locate(f"{self.endpoint}, {self._own.place}"):
                return self._own.read(self.name, self.select, ask)
        ask = replace(ask, shape=ask.found(f"endpoint {self.endpoint}"))
        with locate(f"{self.endpoint}, relation {ask.relation}"):
            return in_its_form(self._read, lambda _: self.select, ask)

    def _read(self, ask: Ask) -> Reading:
        facts, notes = read_facts(self.select, ask, ordered=self.ordered_sample)
        return notes.reading(self.name, whole(ask).text(), facts, read_aliases(self.select, facts, ask))

    def predicates(self) -> None:
        """SPARQL tells them."""

    def select(self, query: str) -> list[Row]:
        """Return the rows of one query, each with the variables that it asks for.

        Raises TooLongError where a smaller query may pass, else SourceError.
        """
        kept = self._kept(query)
        rows = self._ask(query) if kept is None else kept
        try:
            if self._own is None or query.find(self._own.text) < 0:
                check_rows(rows, query)
        except ValueError as error:
            raise SourceError(f"{shown(str(error))}; check the endpoint", query=query) from error
        return rows

    def _kept(self, query: str) -> list[Row] | None:
        """Return the rows of an answer that was kept; None where there is none that is whole."""
        kept = self._access.pages.find(query)
        try:
            return None if kept is None else parse_results(kept)
        except ValueError:
            return None

    def _ask(self, query: str) -> list[Row]:
        for attempt in range(1, TRIES + 1):
            try:
                rows, body = ask_endpoint(self.endpoint, query, self._access)
            except RequestError as fault:
                if fault.remedy == "less":
                    raise TooLongError(str(fault), query=query) from fault
                if fault.remedy == "none" or attempt == TRIES:
                    tried = f" (tried {attempt} times)" if attempt > 1 else ""
                    raise SourceError(f"{fault}{tried}", query=query) from fault
                # Without jitter, all that a failing server has sent away would come back at once.
                self._wait(2.0 ** (attempt - 1) * random.uniform(0.5, 1.5) if fault.pause is None else fault.pause)
            else:
                self._access.pages.keep(query, body)
                return rows
        raise AssertionError("the last try returns or raises")

    def _wait(self, seconds: float) -> None:
        """Wait with a countdown."""
        total = math.ceil(seconds)
        for passed in range(total):
            self._access.progress(f"waiting for {self.name}: {total - passed} s more", passed, total)
            self._access.sleep(min(1.0, seconds - passed))
        self._access.progress(f"waiting for {self.name}: over", total, total)
