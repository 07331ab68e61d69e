"""One request to a SPARQL endpoint through SPARQLWrapper: its rows, or a `RequestError` that says what went wrong.

An answer counts only if it is whole, and SPARQL results in JSON, XML or TSV. It is read in pieces, and every part of
the exchange has a bound (`kbsync.files`): the silence, the whole request, the answer as it is packed and unpacked.
"""

import datetime
import email.message
import email.utils
import http.client
import re
import threading
import time
import urllib.error
import urllib.request
import zlib
from concurrent.futures import Future, wait
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, urljoin, urlsplit

from SPARQLWrapper import GET, JSON, POST, SPARQLWrapper
from SPARQLWrapper import __version__ as wrapper_version

from kbsync.files import ANSWER, DEADLINE, ERROR_BODY, MEGABYTE, RATIO, REDIRECTS, SILENCE
from kbsync.sources.base import Access, shown
from kbsync.sources.results import ACCEPTED, Row, parse_results

NO_RETRY_AFTER = 60.0  # Seconds to wait after a 429 that does not say how long
LONGEST_PAUSE = 900.0  # Seconds; an endpoint that asks for more patience than this ends the pull
LONGEST_ADDRESS = 8_000  # Letters of an address with a query in it, for endpoints that take GET alone

Remedy = Literal["none", "again", "less"]
"""What may help after a fault: nothing, the same query later, or a smaller one."""

_LESS = "ask for less: --class, --subjects, --min-sitelinks or --limit"
_CHECK = "check that the address is that of the SPARQL endpoint"
_MOVED = (301, 302, 303, 307, 308)
_BUSY = (429, 500, 502, 503, 504)
# Blazegraph's and Virtuoso's ways to say that a query took too long; Blazegraph may do so in an answer it has begun.
_TIMED_OUT = (b"TimeoutException", b"QueryTimeout", b"exceeds the limit of")
_PIECE = 65_536
_SMALL = 16 * MEGABYTE  # An answer up to this may grow by any ratio


class RequestError(Exception):
    """A request that failed: what happened and what to do, what may help, and after how many seconds (None: any)."""

    def __init__(self, message: str, remedy: Remedy = "none", pause: float | None = None) -> None:
        super().__init__(message)
        self.remedy = remedy
        self.pause = pause


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer's status, headers and body, unpacked; the body of an error may be cut."""

    code: int
    reason: str
    headers: "email.message.Message[str, str]"
    body: bytes

    @property
    def kind(self) -> str:
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()


class _Wrapper(SPARQLWrapper):
    """Leaves redirects and errors to us: the query is lost in the one, and the other is read without a bound."""

    silence: float
    """seconds without a byte; its own `timeout` takes whole ones alone"""

    def _query(self) -> tuple[http.client.HTTPResponse, str]:
        response: http.client.HTTPResponse = plain_opener().open(self._createRequest(), timeout=self.silence)
        return response, self.returnFormat


def plain_opener() -> urllib.request.OpenerDirector:
    """Return an opener that follows no redirect, and raises HTTPError for all that is no success."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


def ask_endpoint(endpoint: str, query: str, access: Access) -> tuple[list[Row], bytes]:
    """Return the rows of `query` and the body that holds them; raises RequestError."""
    try:
        answer = _ask(endpoint, query, access)
    except urllib.error.URLError as error:
        reason = error.reason if isinstance(error.reason, Exception) else error
        raise _connection_fault(reason, endpoint, access) from error
    except (OSError, EOFError, zlib.error, http.client.HTTPException, UnicodeError) as error:
        raise _connection_fault(error, endpoint, access) from error
    if answer.code >= 300:
        raise _http_fault(answer)
    return _rows(answer), answer.body


def _ask(endpoint: str, query: str, access: Access) -> _Answer:
    """Return the endpoint's answer, where it sends us and in the method that it takes."""
    address, method = endpoint, POST  # a query of 500 subjects is too long for an address
    for _ in range(REDIRECTS.value + 1):
        answer = _in_time(address, query, method, access)
        if answer.code in _MOVED:
            address = _moved(address, answer)
        elif answer.code == 405 and method == POST and "GET" in answer.headers.get("Allow", "").upper():
            method = GET
            if len(address) + len(quote(query)) > LONGEST_ADDRESS:
                raise RequestError(
                    f"takes queries in its address alone (GET), and this one is too long for that; {_LESS}", "less"
                )
        else:
            return answer
    raise RequestError(f"redirects too often ({REDIRECTS.told}); give the last one: {shown(address)}")


def _moved(address: str, answer: _Answer) -> str:
    """Return the address that a redirect names; raises RequestError where it must not be followed."""
    named = answer.headers.get("Location", "")
    try:
        new = urljoin(address, named)
        old_parts, parts = urlsplit(address), urlsplit(new)
        same_host = bool(named) and parts.hostname == old_parts.hostname and parts.username is None
        plain = not re.search(r"[\x00-\x20<>\"\x7f-\U0010ffff]", new)
        if same_host and plain and (parts.scheme == "https" or parts.scheme == old_parts.scheme == "http"):
            return new
    except ValueError:
        new = named
    raise RequestError(
        f"has moved (HTTP {answer.code}) to {shown(new) if named else 'an address that it does not name'}; if "
        "you trust that address, give it as the source"
    )


def _in_time(address: str, query: str, method: str, access: Access) -> _Answer:
    """Return one answer; raises RequestError where it is not whole by the deadline.

    The exchange runs in a thread of its own, as no time that is set on a connection bounds it: a byte a second is
    never silent. A thread that is given up ends with its connection, or with the program.
    """
    found: Future[_Answer] = Future()

    def exchange() -> None:
        try:
            found.set_result(_exchange(address, query, method, access, end))
        except BaseException as error:  # raised below, where it is waited for
            found.set_exception(error)

    start = time.monotonic()
    end = start + access.deadline
    threading.Thread(target=exchange, daemon=True).start()
    while (now := time.monotonic()) < end:
        wait([found], timeout=min(1.0, end - now))
        if found.done():
            return found.result()
        passed = round(time.monotonic() - start)
        host = urlsplit(address).hostname
        patience = f"gives up after {access.timeout:g} s of silence, {access.deadline:g} s in all"
        access.progress(f"waiting for {host}: {passed} s ({patience})", passed, round(access.deadline))
    told = f"not done within {access.deadline:g} s ({DEADLINE.told})"
    raise RequestError(f"{told}; {_LESS}, or try again later", "less")


def _exchange(address: str, query: str, method: str, access: Access, end: float) -> _Answer:
    wrapper = _Wrapper(address, returnFormat=JSON, agent=f"{access.agent} SPARQLWrapper/{wrapper_version}")
    wrapper.setMethod(method)
    wrapper.setOnlyConneg(True)
    wrapper.silence = access.timeout
    wrapper.addCustomHttpHeader("Accept", ACCEPTED)
    wrapper.addCustomHttpHeader("Accept-Encoding", "gzip")
    wrapper.setQuery(query)
    try:
        with closing(wrapper.query().response) as response:
            return _Answer(response.status, response.reason, response.headers, _read(response, end))
    except urllib.error.HTTPError as error:
        with closing(error):
            return _Answer(error.code, str(error.reason), error.headers, _read_some(error))


def _read(response: http.client.HTTPResponse, end: float) -> bytes:
    """Return the whole body, unpacked; raises TimeoutError, and RequestError for one that goes beyond a bound."""
    unpack = _unpacker(response.headers)
    packed, most, ratio = 0, ANSWER.bytes, RATIO.value
    body = bytearray()
    while piece := response.read1(_PIECE):
        packed += len(piece)
        while piece:
            body += piece if unpack is None else unpack.decompress(piece, MEGABYTE)
            piece = b"" if unpack is None else unpack.unconsumed_tail
            if len(body) > most:
                raise RequestError(f"gave too large an answer ({ANSWER.told}); {_LESS}", "less")
            if len(body) > max(_SMALL, packed * ratio):
                raise RequestError(f"gave an answer that grows too much when unpacked ({RATIO.told})")
        if time.monotonic() > end:
            raise TimeoutError("the thread that waited has gone")
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and packed < int(length[:18]):  # reading in pieces does not tell
        raise http.client.IncompleteRead(b"", int(length[:18]) - packed)
    if unpack is not None and packed and not unpack.eof:
        raise EOFError("compressed data ended before its end mark")
    return bytes(body)


def _unpacker(headers: "email.message.Message[str, str]") -> "zlib._Decompress | None":
    packed = headers.get("Content-Encoding", "").strip().lower() in ("gzip", "x-gzip")
    return zlib.decompressobj(zlib.MAX_WBITS | 16) if packed else None


def _read_some(response: urllib.error.HTTPError) -> bytes:
    """Return the beginning of an error's body, as far as it can be read."""
    most, body = ERROR_BODY.value, b""
    with suppress(OSError, http.client.HTTPException, zlib.error):
        body = response.read(most)
        unpack = _unpacker(response.headers)
        return body if unpack is None else unpack.decompress(body, most)
    return body


def _rows(answer: _Answer) -> list[Row]:
    kind, body = answer.kind, answer.body
    slow = any(sign in body for sign in _TIMED_OUT)
    try:
        rows = parse_results(body, kind)
    except ValueError as error:
        if slow:
            raise RequestError(f"took too long and cut its answer; {_LESS}", "less") from error
        if not body.lstrip()[:1] or body.lstrip()[:1] in b"{<?":
            raise RequestError(
                f"answered results that are cut off or damaged ({len(body):,} bytes, {shown(str(error))}); "
                f"nothing was taken; run the pull again, or {_LESS}",
                "less",
            ) from error
        what = "no JSON" if "json" in kind or kind.startswith("text/") else f"no {kind.rpartition('+')[2]}"
        raise RequestError(
            f"answered {len(body):,} bytes that are {what} ({_text(body)!r}); nothing was taken; {_CHECK}"
        ) from error
    if rows is None and slow:
        raise RequestError(f"took too long; {_LESS}", "less")
    if rows is None:
        raise RequestError(
            f"answered {shown(kind, 80) or 'without a content type'} instead of SPARQL results in JSON, XML or TSV "
            f"({_text(body)!r}); {_CHECK}"
        )
    return rows


def _connection_fault(error: Exception, address: str, access: Access) -> RequestError:
    told, proxy = shown(str(error)), _proxy(address)
    if isinstance(error, TimeoutError):
        through = f" through the proxy {proxy}" if proxy else ""
        silence = f"no answer within {access.timeout:g} s{through}"
        return RequestError(f"{silence}; {_LESS}, or try again later ({SILENCE.variable} sets the time)", "less")
    broken = isinstance(error, ConnectionError | EOFError | zlib.error | http.client.HTTPException)
    if broken and not isinstance(error, ConnectionRefusedError):
        return RequestError(f"broke off its answer ({told}); run the pull again, or {_LESS}", "again")
    if proxy is not None:
        return RequestError(
            f"cannot be reached: the proxy {proxy} does not answer or refuses ({told}); check that setting of your "
            "environment, or name the host in no_proxy"
        )
    return RequestError(f"cannot be reached ({told}); check the address, your network, and that the server is up")


def _proxy(address: str) -> str | None:
    """Return the proxy that the environment names for an address, with its variable; None where there is none."""
    parts = urlsplit(address)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy is None or urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    host = urlsplit(proxy if "://" in proxy else f"//{proxy}").netloc.rpartition("@")[2]
    return f"{shown(host)} ({parts.scheme}_proxy)"


def _http_fault(answer: _Answer) -> RequestError:
    if any(sign in answer.body for sign in _TIMED_OUT):
        return RequestError(f"took too long (HTTP {answer.code}); {_LESS}", "less")
    message = f"HTTP {answer.code} {shown(answer.reason, 80)}: {_text(answer.body)!r}"
    if answer.code == 403:
        return RequestError(f"refused the query ({message}); identify yourself with --contact, and check your access")
    if answer.code == 407:
        return RequestError(f"is behind a proxy that refuses the request ({message}); check http_proxy and https_proxy")
    if answer.code not in _BUSY:
        return RequestError(f"refused the query ({message}); check the address and your access")
    pause = retry_after(answer.headers.get("Retry-After"))
    if pause is None and answer.code == 429:
        pause = NO_RETRY_AFTER
    if pause is not None and pause > LONGEST_PAUSE:
        return RequestError(f"is busy ({message}) and asks to wait {pause:.0f} s; run the pull again after that")
    return RequestError(f"is busy or failing ({message}); try again later", "again", pause)


def retry_after(value: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for: a number, or a date."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return max(0.0, (moment - datetime.datetime.now(datetime.UTC)).total_seconds())


def _text(body: bytes) -> str:
    """A server's message, without tags, fit to be shown."""
    return shown(re.sub(r"<[^>]*>", " ", body[:4000].decode("utf-8", "replace")), 160)
