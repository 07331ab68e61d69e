"""A dump of a million statements passes through in little memory."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kbsync.benchmarks.measured import EVERY, LINES, dump_lines

ITEMS = 40_000
MOST_MEMORY = 150 * 2**20
"""bytes; the dump has over 100 MB in plain text, and a store of it in memory takes 200 MB beside the program's 100"""

PULL = """
import json, re, sys
from pathlib import Path
from kbsync.sources import Ask, open_source
asks = [Ask("P36"), Ask("P30")]
source = open_source(sys.argv[1], asks=asks)
facts = [fact for ask in asks for fact in source.read(ask).facts]
status = Path("/proc/self/status").read_text()  # getrusage counts what the parent had before the program began
peak = 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", status)[1])
print(json.dumps({"facts": len(facts), "last": facts[-1].subject.label, "peak": peak}))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_a_million_statements_pass_through_in_bounded_memory(tmp_path: Path) -> None:
    dump = tmp_path / "dump.nt.gz"
    with gzip.open(dump, "wt", compresslevel=1, encoding="ascii") as file:
        file.writelines(dump_lines(ITEMS * LINES))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-c", PULL, str(dump)]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)
    assert told["facts"] == 2 * ITEMS // EVERY
    assert told["last"].startswith("Item ")
    assert told["peak"] < MOST_MEMORY
