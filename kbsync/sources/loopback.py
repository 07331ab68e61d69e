"""A real SPARQL endpoint on this machine: Oxigraph's server over an RDF file. The demo and the tests pull from it."""

import contextlib
import os
import shutil
import socket
import subprocess
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from kbsync.errors import SourceError

PATIENCE = 30.0  # Seconds for the server to come up


@contextlib.contextmanager
def serve(rdf_file: Path) -> Iterator[str]:
    """Serve `rdf_file` read-only on a free port of 127.0.0.1; yields the endpoint's URL, and ends the server after.

    Raises SourceError if the oxigraph package is not installed, the file does not load or the server does not start.
    """
    program = _find_server()
    with tempfile.TemporaryDirectory(prefix="kbsync-oxigraph-") as folder:
        _load(program, rdf_file, folder)
        port = _free_port()
        command = [program, "serve-read-only", "--location", folder, "--bind", f"127.0.0.1:{port}"]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            with _no_proxy("127.0.0.1"):
                _wait(server, f"http://127.0.0.1:{port}/")
                yield f"http://127.0.0.1:{port}/query"
        finally:
            server.kill()
            server.wait()


def _find_server() -> str:
    program = shutil.which("oxigraph", path=sysconfig.get_path("scripts")) or shutil.which("oxigraph")
    if program is None:
        raise SourceError("no SPARQL server on this machine: install it with `pip install oxigraph`")
    return program


def _load(program: str, rdf_file: Path, folder: str) -> None:
    command = [program, "load", "--location", folder, "--file", str(rdf_file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise SourceError(f"{rdf_file}: the SPARQL server cannot load it ({reason}); check the file")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(server: "subprocess.Popen[bytes]", url: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise SourceError(f"the SPARQL server did not start on {url}; run the command again")


@contextlib.contextmanager
def _no_proxy(host: str) -> Iterator[None]:
    """Keep `host` out of the proxy that the environment may name: it could not reach this machine's loopback."""
    before = {name: os.environ.get(name) for name in ("no_proxy", "NO_PROXY")}
    os.environ.update({name: f"{value},{host}" if value else host for name, value in before.items()})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
