"""A stream of server-sent events on loopback: it keeps what was sent, and goes on after a client's Last-Event-ID.

Its faults are seeded: events come twice, or the connection is cut in the middle of one. What is lost is what a test
does not send.
"""

import json
import random
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Events:
    """What a server has to send, and what it was asked."""

    faults: random.Random | None = None
    """None: it sends each event once, and whole"""
    status: int = 200
    kind: str = "text/event-stream; charset=utf-8"
    texts: list[bytes] = field(default_factory=list)
    asked: list[str | None] = field(default_factory=list)
    """Last-Event-ID of each connection"""
    done: bool = False
    more: threading.Condition = field(default_factory=threading.Condition)
    url: str = ""

    def send(self, *events: Mapping[str, Any]) -> None:
        """Add events to the stream."""
        with self.more:
            for event in events:
                text = json.dumps(event, ensure_ascii=False)
                self.texts.append(f"event: message\nid: {len(self.texts) + 1}\ndata: {text}\n\n".encode())
            self.more.notify_all()

    def after(self, place: int) -> list[bytes]:
        """Wait for events after so many, half a second at most."""
        with self.more:
            if len(self.texts) <= place and not self.done:
                self.more.wait(0.5)
            return self.texts[place:]

    def write(self, out: Any, text: bytes) -> bool:
        """Send one event, or what a fault makes of it; False where the connection is cut."""
        fault = self.faults.random() if self.faults else 1.0
        if fault < 0.15:
            out.write(text[: len(text) // 2])
            return False
        out.write(text * (2 if fault < 0.4 else 1))
        out.flush()
        return True


@contextmanager
def event_server(events: Events) -> Iterator[Events]:
    """Serve `events` on a free port; its address is `events.url`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            last = self.headers.get("Last-Event-ID")
            events.asked.append(last)
            self.send_response(events.status)
            self.send_header("Content-Type", events.kind)
            self.end_headers()
            self.wfile.write(b": hello\nretry: 20\n\n")
            self.wfile.flush()
            place = int(last) if last else len(events.texts)
            while not events.done:
                found = events.after(place)
                for text in found:
                    place += 1
                    if not events.write(self.wfile, text):
                        return
                if not found:
                    self.wfile.write(b": still here\n\n")
                    self.wfile.flush()

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            with suppress(OSError):  # the client has gone
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    events.url = f"http://127.0.0.1:{server.server_address[1]}/stream"
    try:
        yield events
    finally:
        events.done = True
        server.shutdown()
        server.server_close()
