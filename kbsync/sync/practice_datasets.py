"""Write the practice data sets: what the fixtures' earlier edition makes in the forms of CounterFact and zsRE."""

from pathlib import Path

from kbsync.practice.datasets import counterfact_records, json_text, zsre_records
from kbsync.sync.practice import practice_requests

__all__ = ["COUNTERFACT", "RECORDS", "ZSRE", "write_datasets"]

COUNTERFACT, ZSRE = "counterfact-practice.json", "zsre-practice.json"
RECORDS = {COUNTERFACT: 750, ZSRE: 1500}
"""how many each has; CounterFact's are fewer, as a record needs a fact of the same object that no record edits"""


def write_datasets(folder: Path) -> dict[str, int]:
    """Write both data sets into `folder`; return how many records each file has. The same bytes each time."""
    known = practice_requests("earlier")
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for name, make in ((COUNTERFACT, counterfact_records), (ZSRE, zsre_records)):
        records = make(known, RECORDS[name])
        (folder / name).write_text(json_text(records), encoding="utf-8", newline="\n")
        written[name] = len(records)
    return written
