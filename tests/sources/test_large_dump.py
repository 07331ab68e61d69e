"""A dump of five million statements passes through in little memory."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ITEMS = 200_000
LINES = 25
"""statements of an item"""
EVERY = 40
"""one item in so many has the relation"""
MOST_MEMORY = 200 * 2**20
"""bytes; the dump has more than 500 MB in plain text, and a store of it in memory takes a few GB"""

_PROP, _ONTOLOGY = "http://www.wikidata.org/prop", "http://wikiba.se/ontology"
_LANGUAGES = ("en", "de", "fr", "es", "it", "nl", "pt", "sv", "pl", "ru", "ja", "zh")

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


def _item(number: int) -> str:
    """Return the statements of an item, a line each."""
    item = f"<http://www.wikidata.org/entity/Q{number + 1}>"
    lines = [f'{item} <http://www.w3.org/2000/01/rdf-schema#label> "Item {number} {tag}"@{tag} .' for tag in _LANGUAGES]
    if number % EVERY == 0:
        node = f"<http://www.wikidata.org/entity/statement/Q{number + 1}-36>"
        other = f"<http://www.wikidata.org/entity/Q{number + 2}>"
        lines += [
            f"{item} <{_PROP}/P36> {node} .",
            f"{node} <{_PROP}/statement/P36> {other} .",
            f"{node} <{_ONTOLOGY}#rank> <{_ONTOLOGY}#NormalRank> .",
            f"{item} <{_PROP}/direct/P36> {other} .",
            f"{item} <{_PROP}/direct/P30> {other} .",
        ]
    lines += [f"{item} <{_PROP}/direct/P{2000 + more}> <http://a/{more}> ." for more in range(LINES - len(lines))]
    return "\n".join(lines) + "\n"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_five_million_statements_pass_through_in_bounded_memory(tmp_path: Path) -> None:
    dump = tmp_path / "dump.nt.gz"
    with gzip.open(dump, "wt", compresslevel=1, encoding="ascii") as file:
        for number in range(ITEMS):
            file.write(_item(number))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-c", PULL, str(dump)]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)
    assert told["facts"] == 2 * ITEMS // EVERY
    assert told["last"].startswith("Item ")
    assert told["peak"] < MOST_MEMORY
