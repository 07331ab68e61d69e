"""The peak of the process's resident memory."""

import pytest
import torch

from kbsync.benchmarks import memory
from kbsync.benchmarks.memory import STATM, PeakMemory

CPU = torch.device("cpu")


@pytest.mark.skipif(not STATM.exists(), reason="this system does not tell the resident memory")
def test_what_was_in_use_inside_is_seen() -> None:
    peak = PeakMemory(CPU)
    assert peak.mb is None
    with peak.watching():
        pass
    before = peak.mb
    with peak.watching():
        held = torch.ones(50, 2**20)
    assert before is not None
    assert peak.mb is not None
    assert peak.mb > before + 150
    assert held.sum() > 0
    largest = peak.mb
    del held
    with peak.watching():
        pass
    assert peak.mb == pytest.approx(largest, abs=5)  # the most of all times


def test_a_system_that_does_not_tell_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "STATM", STATM.with_name("nothing-here"))
    peak = PeakMemory(CPU)
    with peak.watching():
        pass
    assert peak.mb is None
