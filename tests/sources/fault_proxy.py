"""An HTTP proxy on loopback that hands each request on to the endpoint behind it, and plays faults.

A fault takes the endpoint's true answer and returns what is sent in its place. `between(endpoint, *faults)` plays one
of them a request, then tells the truth.
"""

import contextlib
import gzip
import json
import socket
import struct
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

__all__ = ["Answer", "Between", "Fault", "between", "change_rows", "compressed", "reset", "stall", "status", "true"]


@dataclass
class Answer:
    """What an HTTP server says; `declared` is a Content-Length other than the body's."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/sparql-results+json"})
    declared: int | None = None
    trickling: bool = False
    """a byte at a time, with a pause after each"""
    stalled: bool = False
    """say nothing until the client gives up"""
    torn: bool = False
    """reset the connection in the middle of the body"""


Fault = Callable[[Answer], Answer]


@dataclass
class Between:
    """The server's address, the faults still to come, and what it was sent."""

    url: str
    faults: list[Fault]
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    ended: Event = field(default_factory=Event)


def true(answer: Answer) -> Answer:
    """No fault."""
    return answer


def status(code: int, body: bytes = b"slow down", **headers: str) -> Fault:
    """An answer of this status; ``Retry_After`` stands for that header."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda answer: Answer(body, code, {"Content-Type": "text/plain", **named})


def stall(answer: Answer) -> Answer:
    """No answer at all."""
    return replace(answer, stalled=True)


def reset(answer: Answer) -> Answer:
    """Half an answer, then a reset."""
    return replace(answer, torn=True)


def compressed(answer: Answer) -> Answer:
    """The true answer, in gzip."""
    return replace(answer, body=gzip.compress(answer.body), headers={**answer.headers, "Content-Encoding": "gzip"})


def change_rows(change: Callable[[list[Any]], list[Any]]) -> Fault:
    """Whole JSON with other rows."""

    def fault(answer: Answer) -> Answer:
        document = json.loads(answer.body)
        document["results"]["bindings"] = change(document["results"]["bindings"])
        return replace(answer, body=json.dumps(document).encode())

    return fault


@contextlib.contextmanager
def between(endpoint: str, *faults: Fault) -> Iterator[Between]:
    """Run a server in front of `endpoint` that answers with one of `faults` a request, then with the truth."""
    state = Between("", list(faults))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(self.path.partition("?")[2].encode(), None)

        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(sent, sent)

        def _answer(self, sent: bytes, data: bytes | None) -> None:
            state.requests.append((self.command, dict(self.headers), sent))
            passed_on = {name: value for name, value in self.headers.items() if name not in ("Accept-Encoding", "Host")}
            query = "" if data is not None else f"?{sent.decode()}"
            request = urllib.request.Request(endpoint + query, data=data, headers=passed_on)
            with urllib.request.urlopen(request) as response:
                answer = Answer(response.read(), headers={"Content-Type": response.headers["Content-Type"]})
            if state.faults:
                answer = state.faults.pop(0)(answer)
            if answer.stalled:
                self.connection.recv(1)  # returns when the client has gone
            else:
                self._send(answer)

        def _send(self, answer: Answer) -> None:
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            declared = len(answer.body) if answer.torn else answer.declared
            if declared is not None:
                self.send_header("Content-Length", str(declared))
            self.end_headers()
            # Without a Content-Length, the end of the connection is the end of the body (HTTP/1.0).
            for place in range(len(answer.body) if answer.trickling else 0):
                if state.ended.wait(0.05):
                    return
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(answer.body[place : place + 1])
            with contextlib.suppress(ConnectionError):
                self.wfile.write(answer.body[: len(answer.body) // 2] if answer.torn else answer.body)
            if answer.torn:
                self.wfile.flush()
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()  # with no time to linger: a reset

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_address[1]}/query"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield state
        finally:
            state.ended.set()
            server.shutdown()
            thread.join()
