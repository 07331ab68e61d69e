"""docs/architecture.md names files that are there, and all rooms of sync."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_every_file_that_the_page_names_is_there() -> None:
    named = re.findall(r"`(kbsync/[\w/.]+)`", PAGE)
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_room_of_sync_is_on_the_page() -> None:
    rooms = {path.stem for path in (ROOT / "kbsync" / "sync").glob("*.py")} - {"__init__"}
    assert {room for room in rooms if not re.search(rf"`(kbsync/sync/)?{room}(\.py)?`", PAGE)} == set()
