"""Seconds and memory of phases, and of processes."""

import time

import pytest
import torch

from kbsync.benchmarks.measured import Phases, run_process
from kbsync.errors import KbsyncError


def test_a_phase_has_its_seconds_and_the_memory_that_was_in_use_inside() -> None:
    clock = Phases("cpu")
    with clock.phase("nothing"):
        pass
    with clock.phase("much"):
        held = torch.ones(50, 2**20)
        time.sleep(0.05)
    assert held.sum() > 0
    assert clock.peak_mb["much"] > clock.peak_mb["nothing"] + 150
    assert clock.seconds["much"] >= 0.05 > 0 <= clock.seconds["nothing"]


def test_a_process_is_taken_by_itself() -> None:
    took, out = run_process(["-c", "print(len(bytes(10**8)))"])
    assert out == "100000000\n"
    assert took["cpu_seconds"] > 0
    assert took["peak_mb"] > 90
    with pytest.raises(KbsyncError, match="ValueError: no"):
        run_process(["-c", "raise ValueError('no')"])
    with pytest.raises(KbsyncError, match="exit code 3"):
        run_process(["-c", "raise SystemExit(3)"])
