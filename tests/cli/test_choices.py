"""Options that are parsed further than typer does."""

import pytest

from kbsync.cli.choices import parse_max_memory
from kbsync.errors import SettingsError


def test_bounds_of_memory() -> None:
    assert parse_max_memory(None) is None
    assert parse_max_memory("cpu=2GiB, 0=20.5GiB,1=500MB") == {"cpu": "2GiB", 0: "20.5GiB", 1: "500MB"}


@pytest.mark.parametrize("text", ["", "cpu", "cpu=2", "2GiB", "disk=2GiB", "cpu=2GiB,", "0=-1GiB"])
def test_what_is_no_bound_is_told(text: str) -> None:
    with pytest.raises(SettingsError, match=r"--max-memory .*: write it as a device and a size"):
        parse_max_memory(text)
