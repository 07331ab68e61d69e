"""Pages of an interrupted pull are kept for a day."""

import datetime
from pathlib import Path

import pytest

from kbsync.ledger import Ledger, pages
from kbsync.ledger.pages import drop_expired, drop_pages, find_page, keep_page, page_key


def test_a_page_is_found_until_it_is_dropped(home: Path) -> None:
    one, other = page_key("s", "SELECT 1"), page_key("t", "SELECT 1")
    with Ledger.open(home) as ledger:
        assert find_page(ledger, one) is None
        keep_page(ledger, one, b"{}" * 1000)
        keep_page(ledger, other, b"other")
        keep_page(ledger, other, b"newer")
    with Ledger.open(home) as ledger:
        assert find_page(ledger, one) == b"{}" * 1000
        assert find_page(ledger, other) == b"newer"
        drop_pages(ledger, [one, "page1:none"])
        assert find_page(ledger, one) is None
        assert find_page(ledger, other) == b"newer"


def test_a_page_expires(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = page_key("s", "old"), page_key("s", "new")
    with Ledger.open(home) as ledger:
        keep_page(ledger, old, b"old")
        monkeypatch.setattr(pages, "KEPT", datetime.timedelta(0))
        assert find_page(ledger, old) is None
        drop_expired(ledger)
        monkeypatch.undo()
        keep_page(ledger, new, b"new")
        drop_expired(ledger)
        assert find_page(ledger, new) == b"new"
        assert find_page(ledger, old) is None
