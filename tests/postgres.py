"""A real PostgreSQL server on loopback (Debian's package ``postgresql``), for the tests that need one."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kbsync.sources.loopback import _free_port

__all__ = ["postgres"]


@contextmanager
def postgres() -> Iterator[str]:
    """Yield the address of a new server's database; the test is skipped where there is no server to start."""
    pytest.importorskip("psycopg", reason="needs psycopg: pip install 'kbsync[postgres]'")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    programs = found[-1].parent if found else Path(shutil.which("pg_ctl") or "").parent
    if not (programs / "initdb").exists():
        pytest.skip("needs a PostgreSQL server: apt-get install postgresql")
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []  # it does not run as root
    with tempfile.TemporaryDirectory(prefix="kbsync-postgres-") as folder:
        if as_user:
            shutil.chown(folder, "postgres")
        port, data = _free_port(), f"{folder}/data"

        def run(program: str, *arguments: str) -> None:
            command = [*as_user, str(programs / program), *arguments]
            subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        run("initdb", "-D", data, "-A", "trust", "-U", "kb", "--no-sync", "-E", "UTF8", "--locale=C")
        options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder} -c fsync=off"
        run("pg_ctl", "-D", data, "-w", "-o", options, "-l", f"{folder}/log", "start")
        try:
            yield f"postgresql://kb@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "stop")
