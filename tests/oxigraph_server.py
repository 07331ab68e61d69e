"""A real SPARQL server for tests (`serve`, from the package), small worlds to load into it, and faults in between.

`world(path, triples)` writes a Turtle file with Wikidata's prefixes. `Between` is an HTTP server on loopback that
hands each request on to the endpoint behind it, or answers with the next of its scripted faults.
"""

import contextlib
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from kbsync.sources.loopback import serve

__all__ = ["Answer", "Between", "between", "serve", "world"]

PREFIXES = """\
@prefix wd: <http://www.wikidata.org/entity/> .
@prefix wdt: <http://www.wikidata.org/prop/direct/> .
@prefix p: <http://www.wikidata.org/prop/> .
@prefix ps: <http://www.wikidata.org/prop/statement/> .
@prefix pq: <http://www.wikidata.org/prop/qualifier/> .
@prefix wikibase: <http://wikiba.se/ontology#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
@prefix skos: <http://www.w3.org/2004/02/skos/core#> .
@prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
@prefix kb: <http://kbsync.example/entity/> .
"""


def world(path: Path, triples: str) -> Path:
    """Write `triples` (Turtle, Wikidata's prefixes and ``kb:`` known) to `path`, and return it."""
    path.write_text(PREFIXES + triples, encoding="utf-8")
    return path


@dataclass
class Answer:
    """What an HTTP server says; `declared` is a Content-Length other than the body's."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/sparql-results+json"})
    declared: int | None = None


@dataclass
class Between:
    """The server's address, the faults still to come (each gets the endpoint's true answer), and what it was sent."""

    url: str
    faults: list[Callable[[Answer], Answer]]
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@contextlib.contextmanager
def between(endpoint: str, *faults: Callable[[Answer], Answer]) -> Iterator[Between]:
    """Run a server in front of `endpoint` that answers with one of `faults` a request, then with the truth."""
    state = Between("", list(faults))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["Content-Length"]))
            state.requests.append((self.command, dict(self.headers), sent))
            request = urllib.request.Request(endpoint, data=sent, headers=dict(self.headers))
            with urllib.request.urlopen(request) as response:
                answer = Answer(response.read(), headers={"Content-Type": response.headers["Content-Type"]})
            if state.faults:
                answer = state.faults.pop(0)(answer)
            self._send(answer)

        def _send(self, answer: Answer) -> None:
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.declared is not None:
                self.send_header("Content-Length", str(answer.declared))
            self.end_headers()
            # Without a Content-Length, the end of the connection is the end of the body (HTTP/1.0).
            with contextlib.suppress(ConnectionError):
                self.wfile.write(answer.body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_address[1]}/query"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
