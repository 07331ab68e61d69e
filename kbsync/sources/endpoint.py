"""One request to a SPARQL endpoint through SPARQLWrapper: its rows, or a `RequestError` that says what went wrong.

An answer counts only if it is SPARQL results in JSON, whole.
"""

import ast
import datetime
import email.message
import email.utils
import gzip
import http.client
import re
import socket
import urllib.error
import zlib
from contextlib import closing, suppress
from typing import Literal

from SPARQLWrapper import JSON, POST, SPARQLWrapper
from SPARQLWrapper import __version__ as wrapper_version
from SPARQLWrapper.SPARQLExceptions import SPARQLWrapperException

from kbsync.sources.access import Access
from kbsync.sources.results import Row, parse_results

__all__ = ["LONGEST_PAUSE", "NO_RETRY_AFTER", "Remedy", "RequestError", "ask_endpoint"]

NO_RETRY_AFTER = 60.0
"""Seconds to wait after a 429 that does not say how long."""
LONGEST_PAUSE = 900.0
"""Seconds; an endpoint that asks for more patience than this ends the pull."""

Remedy = Literal["none", "again", "less"]
"""What may help after a fault: nothing, the same query later, or a smaller one."""

_LESS = "ask for less: --class, --subjects, --min-sitelinks or --limit"
_RESULT_TYPES = ("application/sparql-results+json", "application/json")
_BUSY = (429, 500, 502, 503, 504)
# Blazegraph's and Virtuoso's ways to say that a query took too long; Blazegraph may do so in an answer it has begun.
_TIMED_OUT = (b"TimeoutException", b"QueryTimeout", b"exceeds the limit of")
_SHOWN = 4000


class RequestError(Exception):
    """A request that failed: what happened and what to do, what may help, and after how many seconds (None: any)."""

    def __init__(self, message: str, remedy: Remedy = "none", pause: float | None = None) -> None:
        super().__init__(message)
        self.remedy = remedy
        self.pause = pause


def ask_endpoint(endpoint: str, query: str, access: Access) -> tuple[list[Row], bytes]:
    """Return the rows of `query` and the body that holds them; raises RequestError."""
    try:
        body = _fetch(endpoint, query, access)
    except (urllib.error.HTTPError, SPARQLWrapperException) as error:
        raise _http_fault(error) from error
    except urllib.error.URLError as error:
        raise _connection_fault(error.reason if isinstance(error.reason, Exception) else error, access) from error
    except (OSError, EOFError, zlib.error, http.client.HTTPException) as error:
        raise _connection_fault(error, access) from error
    return _rows(body), body


def _fetch(endpoint: str, query: str, access: Access) -> bytes:
    agent = f"{access.agent} SPARQLWrapper/{wrapper_version}"
    wrapper = SPARQLWrapper(endpoint, returnFormat=JSON, agent=agent)
    wrapper.setMethod(POST)  # a query of 500 subjects is too long for an address
    wrapper.setOnlyConneg(True)
    wrapper.setTimeout(access.timeout)
    wrapper.addCustomHttpHeader("Accept-Encoding", "gzip")
    wrapper.setQuery(query)
    with closing(wrapper.query().response) as response:
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind not in _RESULT_TYPES:
            _refuse_type(kind, _unpack(response.read(), response.headers, whole=False))
        return _unpack(response.read(), response.headers)


def _unpack(body: bytes, headers: "email.message.Message[str, str]", *, whole: bool = True) -> bytes:
    """Undo gzip; a body that need not be `whole` (a message to be shown) is taken as far as it goes."""
    if headers.get("Content-Encoding", "").strip().lower() not in ("gzip", "x-gzip"):
        return body
    if whole:
        return gzip.decompress(body)
    with suppress(zlib.error):
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(body, _SHOWN)
    return body


def _refuse_type(kind: str, body: bytes) -> None:
    if any(sign in body for sign in _TIMED_OUT):
        raise RequestError(f"took too long; {_LESS}", "less")
    raise RequestError(
        f"answered {kind or 'without a content type'} in place of SPARQL results "
        f"({_shorten(body)!r}); check that the address is the SPARQL endpoint itself"
    )


def _rows(body: bytes) -> list[Row]:
    try:
        return parse_results(body)
    except ValueError as error:
        if any(sign in body for sign in _TIMED_OUT):
            raise RequestError(f"took too long and cut its answer; {_LESS}", "less") from error
        if body and body.lstrip()[:1] != b"{":
            raise RequestError(
                f"answered {len(body):,} bytes that are no JSON ({_shorten(body)!r}); nothing was taken; "
                "check that the address is the SPARQL endpoint itself"
            ) from error
        raise RequestError(
            f"answered results that are cut off or damaged ({len(body):,} bytes, {error}); "
            f"nothing was taken; run the pull again, or {_LESS}",
            "less",
        ) from error


def _connection_fault(error: Exception, access: Access) -> RequestError:
    if isinstance(error, TimeoutError):
        return RequestError(f"no answer within {access.timeout:g} s; {_LESS}, or try again later", "less")
    if isinstance(error, ConnectionRefusedError | socket.gaierror):
        return RequestError(f"cannot be reached ({error}); check the address, your network, and that the server is up")
    if isinstance(error, ConnectionError | EOFError | zlib.error | gzip.BadGzipFile | http.client.HTTPException):
        return RequestError(f"broke off its answer ({error}); run the pull again, or {_LESS}", "again")
    return RequestError(f"cannot be reached ({error}); check the address and your network")


def _http_fault(error: Exception) -> RequestError:
    """Turn SPARQLWrapper's error, raised while it handles urllib's, or urllib's own, into a fault."""
    origin = error if isinstance(error, urllib.error.HTTPError) else error.__context__
    if not isinstance(origin, urllib.error.HTTPError):
        return RequestError(f"failed ({error})")
    with closing(origin):
        raw = origin.read() if origin is error else _body_in(error)
        body = _unpack(raw, origin.headers, whole=False)
    if any(sign in body for sign in _TIMED_OUT):
        return RequestError(f"took too long (HTTP {origin.code}); {_LESS}", "less")
    message = f"HTTP {origin.code} {origin.reason}: {_shorten(body)!r}"
    if origin.code == 403:
        return RequestError(f"refused the query ({message}); say who asks with --contact, and check your access")
    if origin.code not in _BUSY:
        return RequestError(f"refused the query ({message}); check the address and your access")
    pause = _retry_after(origin.headers.get("Retry-After"))
    if pause is None and origin.code == 429:
        pause = NO_RETRY_AFTER
    if pause is not None and pause > LONGEST_PAUSE:
        return RequestError(f"is busy ({message}) and asks to wait {pause:.0f} s; run the pull again after that")
    return RequestError(f"is busy or failing ({message}); try again later", "again", pause)


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
    text = re.sub(r"<[^>]*>", " ", body[:_SHOWN].decode("utf-8", "replace"))
    return " ".join(text.split())[:160]
