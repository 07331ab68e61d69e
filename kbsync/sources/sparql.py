"""Facts from a SPARQL endpoint through SPARQLWrapper.

An answer counts only if it is SPARQL results in JSON, whole. A busy or failing server (429, 5xx) and an answer that
was cut are asked again, with growing pauses; everything else, and the last try, becomes a SourceError that says which
endpoint and relation, what happened and what to do, and carries the query.
"""

import ast
import datetime
import email.utils
import http.client
import re
import socket
import time
import urllib.error
from collections.abc import Callable
from contextlib import closing

from SPARQLWrapper import JSON, POST, SPARQLWrapper
from SPARQLWrapper.SPARQLExceptions import SPARQLWrapperException

from kbsync import __version__
from kbsync.errors import SourceError
from kbsync.sources.base import Ask, Reading, locate
from kbsync.sources.queries import property_id, whole
from kbsync.sources.results import Row, parse_results
from kbsync.sources.statements import read_aliases, read_facts

__all__ = ["SparqlSource"]

AGENT = f"kbsync/{__version__} (keeps language models in step with a knowledge base; Python, SPARQLWrapper)"
TIMEOUT = 75
"""Seconds without a byte; Wikidata itself gives up on a query after 60."""
TRIES = 5
LONGEST_PAUSE = 120.0
"""Seconds; an endpoint that asks for more patience than this ends the pull."""

_LESS = "ask for less: --class, --subjects, --min-sitelinks or --limit"
_RESULT_TYPES = ("application/sparql-results+json", "application/json")


class _RequestError(Exception):
    """A request that failed: what happened and what to do; whether and after how long to try again."""

    def __init__(self, message: str, *, again: bool = False, pause: float | None = None) -> None:
        super().__init__(message)
        self.again = again
        self.pause = pause


class SparqlSource:
    """A SPARQL endpoint with data in Wikidata's shape."""

    def __init__(
        self,
        endpoint: str,
        *,
        name: str | None = None,
        ordered_sample: bool = True,
        timeout: int = TIMEOUT,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`timeout` in seconds without a byte; `sleep` waits between tries; see `read_facts` for samples."""
        self.name = name or endpoint
        self._endpoint = endpoint
        self._ordered_sample = ordered_sample
        self._timeout = timeout
        self._sleep = sleep

    def read(self, ask: Ask) -> Reading:
        """Read the current facts of `ask`'s relation; raises SourceError if any answer fails or is not whole."""
        property_id(ask.relation, f"endpoint {self._endpoint}")
        query = whole(ask).text()
        with locate(f"{self._endpoint}, relation {ask.relation}"):
            facts, skipped = read_facts(self._select, ask, ordered=self._ordered_sample)
            aliases = read_aliases(self._select, facts, ask)
        return Reading(self.name, query, facts, skipped, aliases)

    def _select(self, query: str) -> list[Row]:
        for attempt in range(1, TRIES + 1):
            try:
                return self._ask_once(query)
            except _RequestError as fault:
                if not fault.again or attempt == TRIES:
                    tried = f" (tried {attempt} times)" if attempt > 1 else ""
                    raise SourceError(f"{fault}{tried}", query=query) from fault
                self._sleep(2.0 ** (attempt - 1) if fault.pause is None else fault.pause)
        raise AssertionError("the last try returns or raises")

    def _ask_once(self, query: str) -> list[Row]:
        try:
            return _rows(*self._fetch(query))
        except (urllib.error.HTTPError, SPARQLWrapperException) as error:
            raise _http_fault(error) from error
        except urllib.error.URLError as error:
            reason = error.reason if isinstance(error.reason, Exception) else error
            raise self._connection_fault(reason) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._connection_fault(error) from error

    def _fetch(self, query: str) -> tuple[str, bytes]:
        """Return the answer's content type and body."""
        wrapper = SPARQLWrapper(self._endpoint, returnFormat=JSON, agent=AGENT)
        wrapper.setMethod(POST)
        wrapper.setOnlyConneg(True)
        wrapper.setTimeout(self._timeout)
        wrapper.setQuery(query)
        with closing(wrapper.query().response) as response:
            return response.headers.get("Content-Type", ""), response.read()

    def _connection_fault(self, error: Exception) -> _RequestError:
        if isinstance(error, TimeoutError):
            return _RequestError(f"no answer within {self._timeout} s; {_LESS}, or try again later")
        if isinstance(error, ConnectionRefusedError | socket.gaierror):
            return _RequestError(
                f"cannot be reached ({error}); check the address, your network, and that the server is up"
            )
        if isinstance(error, ConnectionError | http.client.HTTPException):
            return _RequestError(f"broke off its answer ({error}); run the pull again, or {_LESS}", again=True)
        return _RequestError(f"cannot be reached ({error}); check the address and your network")


def _rows(content_type: str, body: bytes) -> list[Row]:
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in _RESULT_TYPES:
        raise _RequestError(
            f"answered {kind or 'without a content type'} in place of SPARQL results "
            f"({_shorten(body)!r}); check that the address is the SPARQL endpoint itself"
        )
    try:
        return parse_results(body)
    except ValueError as error:
        # Wikidata writes its timeout into an answer that it has begun to send.
        if b"TimeoutException" in body:
            raise _RequestError(f"took too long and cut its answer; {_LESS}") from error
        raise _RequestError(
            f"answered results that are cut off or damaged ({len(body):,} bytes, {error}); "
            f"nothing was taken; run the pull again, or {_LESS}",
            again=True,
        ) from error


def _http_fault(error: Exception) -> _RequestError:
    """Turn SPARQLWrapper's error, raised while it handles urllib's, or urllib's own, into a fault."""
    origin = error if isinstance(error, urllib.error.HTTPError) else error.__context__
    if not isinstance(origin, urllib.error.HTTPError):
        return _RequestError(f"failed ({error})")
    with closing(origin):
        body = origin.read() if origin is error else _body_in(error)
    if b"TimeoutException" in body:
        return _RequestError(f"took too long (HTTP {origin.code}); {_LESS}")
    message = f"HTTP {origin.code} {origin.reason}: {_shorten(body)!r}"
    if origin.code != 429 and origin.code < 500:
        return _RequestError(f"refused the query ({message}); check the address and your access")
    pause = _retry_after(origin.headers.get("Retry-After"))
    if pause is not None and pause > LONGEST_PAUSE:
        return _RequestError(f"is busy ({message}) and asks to wait {pause:.0f} s; run the pull again after that")
    return _RequestError(f"is busy or failing ({message}); try again later", again=True, pause=pause)


def _body_in(error: Exception) -> bytes:
    """SPARQLWrapper has read the body and keeps it as bytes' `repr` in its message alone."""
    text = str(error).partition("Response:\n")[2]
    return bytes(ast.literal_eval(text)) if text else b""


def _retry_after(value: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for: a number, or a date."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return max(0.0, (moment - datetime.datetime.now(datetime.UTC)).total_seconds())


def _shorten(body: bytes) -> str:
    """The first 160 characters of a server's message, without tags and runs of white space."""
    text = re.sub(r"<[^>]*>", " ", body[:4000].decode("utf-8", "replace"))
    return " ".join(text.split())[:160]
