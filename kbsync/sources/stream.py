"""A stream of changes, as server-sent events: which entities have changed, and in which relations.

Two forms are read, both of Wikimedia's EventStreams: `recentchange`, a line of a wiki's recent changes, and the RDF
change stream of the query service (`rdf-streaming-updater.mutation`), which QLever follows as well. A stream tells what
to ask for, not what is so: events may come twice or be lost, and the knowledge base itself is read for each.
"""

import json
import queue
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from sseclient import SSEClient

from kbsync.errors import SourceError
from kbsync.files import LINE
from kbsync.sources.base import Access, shown
from kbsync.sources.endpoint import RequestError, plain_opener, retry_after

PAUSES = (1.0, 60.0)  # seconds between two connections, where the server says nothing: at first, and at most
WAITING = 10_000  # events that wait to be taken; beyond these the server has to wait
_RETRY = re.compile(rb"^retry: ?([0-9]{1,9})\r?$", re.MULTILINE)
"""read here, as the client tells of it only beside data"""
_BUSY = (408, 425, 429, 500, 502, 503, 504)
_ENTITY = re.compile(r"(?:Item:|Property:)?([QP][1-9]\d*)")
_PROPERTY = re.compile(r"(?<![A-Za-z0-9])P[1-9]\d*(?![A-Za-z0-9])")
_LABEL = re.compile(r"rdf-schema#label|rdfs:label|skos[:/].{0,20}[lL]abel|schema[:./a-z]*name")
_RDF = ("rdf_added_data", "rdf_deleted_data", "rdf_linked_shared_data", "rdf_unlinked_shared_data")


@dataclass(frozen=True, slots=True)
class Touched:
    """An entity that has changed, and the relations that did; None where it may be any, or its label."""

    entity: str
    relations: frozenset[str] | None


def touched_by(event: Mapping[str, Any], host: str | None = None) -> Touched | None:
    """Return what an event says has changed; None where that is no entity, or nothing that a fact holds.

    `host` is the wiki whose changes count, where a stream has those of many.
    """
    meta = event.get("meta")
    domain = meta.get("domain") if isinstance(meta, dict) else None
    if domain == "canary" or (host and domain and domain != host):
        return None
    if isinstance(entity := event.get("entity_id"), str) and entity:
        return Touched(entity, _in_rdf(event))
    found = _ENTITY.fullmatch(title) if isinstance(title := event.get("title"), str) else None
    if found is None or event.get("type") not in ("edit", "new", "log"):
        return None
    told = comment if isinstance(comment := event.get("comment"), str) else ""
    if told.startswith("/* wbsetdescription"):
        return None
    of_claims = re.match(r"/\* wb\w*(claim|reference|qualifier)", told)
    named = re.findall(r"\[\[Property:(P[1-9]\d*)", told) if of_claims else ()
    return Touched(found[1], frozenset(named) or None)


def _in_rdf(event: Mapping[str, Any]) -> frozenset[str] | None:
    parts = [part.get("data") for name in _RDF if isinstance(part := event.get(name), dict)]
    text = "\n".join(part for part in parts if isinstance(part, str))
    if event.get("operation") != "diff" or not text or _LABEL.search(text):
        return None
    return frozenset(_PROPERTY.findall(text))


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream: its id, to go on from, and what it says, where that is JSON."""

    id: str | None
    data: Mapping[str, Any]


class Follower:
    """Reads a stream in a thread of its own, and goes on from the last event wherever it is cut."""

    def __init__(self, url: str, last: str | None, access: Access) -> None:
        self.url, self.access = url, access
        self._last = last
        self._pause = PAUSES[0]
        self._waiting: queue.Queue[Event | Exception] = queue.Queue(WAITING)
        self._closed = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def next(self, seconds: float) -> Event | None:
        """Return the next event; None where none comes in so many seconds.

        Raises SourceError where the stream cannot be followed, or never could.
        """
        with suppress(queue.Empty):
            found = self._waiting.get(timeout=max(seconds, 0.01))
            if isinstance(found, Exception):
                raise found
            return found
        return None

    def close(self) -> None:
        """Read no more; a connection that waits ends with its server, its silence, or the program."""
        self._closed.set()

    def _run(self) -> None:
        reached, pause = False, self._pause
        while not self._closed.is_set():
            try:
                for event in self._connect():
                    reached, pause = True, self._pause
                    self._put(event)
                reached, pause = True, self._pause
            except SourceError as error:
                self._put(error)
                return
            except RequestError as error:
                pause = error.pause or pause
            except (OSError, HTTPException, ValueError) as error:
                if not reached:
                    self._put(SourceError(f"the stream {self.url} cannot be reached ({shown(str(error))})"))
                    return
            self._closed.wait(pause)
            pause = min(2 * pause, PAUSES[1])

    def _put(self, found: Event | Exception) -> None:
        while not self._closed.is_set():
            with suppress(queue.Full):
                self._waiting.put(found, timeout=0.5)
                return

    def _connect(self) -> Iterator[Event]:
        headers = {"Accept": "text/event-stream", "User-Agent": self.access.agent}
        if self._last is not None:
            headers["Last-Event-ID"] = self._last
        request = urllib.request.Request(self.url, headers=headers)
        try:
            response = plain_opener().open(request, timeout=self.access.timeout)
        except urllib.error.HTTPError as error:
            with closing(error):
                if error.code in _BUSY:
                    raise RequestError("is busy", "again", retry_after(error.headers.get("Retry-After"))) from error
                told = f"HTTP {error.code} {shown(str(error.reason))}"
                raise SourceError(f"the stream {self.url} answers {told}") from error
        with closing(response):
            kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            if response.status != 200 or kind != "text/event-stream":
                told = f"HTTP {response.status}, {shown(kind) or 'no type'}"
                raise SourceError(f"{self.url} is no stream of events: {told}")
            block = b""  # the text of an event; one that is cut off is dropped
            while not self._closed.is_set() and (line := response.readline(LINE.bytes + 1)):
                block += line
                if len(block) > LINE.bytes:
                    raise SourceError(f"the stream {self.url} has too large an event ({LINE.told})")
                if not line.strip(b"\r\n"):
                    yield from self._events(block)
                    block = b""

    def _events(self, block: bytes) -> Iterator[Event]:
        if pause := _RETRY.search(block):
            self._pause = min(int(pause[1]) / 1000, PAUSES[1])
        with suppress(UnicodeDecodeError):
            for event in SSEClient(iter([block])).events():
                self._last = event.id or self._last
                with suppress(ValueError, RecursionError):
                    data = json.loads(event.data)
                    yield Event(self._last, data if isinstance(data, dict) else {})
