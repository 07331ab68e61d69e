"""A blank ledger in a temporary home."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kbsync.ledger import Ledger


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def ledger(home: Path) -> Iterator[Ledger]:
    with Ledger.open(home) as opened:
        yield opened
