"""Where the solve is done, by what was measured."""

import importlib

import pytest
import torch

from kbsync.memit.fast.solve_device import cholesky_seconds, solve_device

CPU, FIRST, SECOND, MPS = (torch.device(name) for name in ("cpu", "cuda:0", "cuda:1", "mps"))


def test_a_model_on_the_cpu_is_solved_there_without_a_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("kbsync.memit.fast.solve_device")
    monkeypatch.setattr(module, "cholesky_seconds", lambda device: pytest.fail("measured"))
    assert solve_device([CPU, CPU]) == (CPU, "solve on cpu: the model uses no other device")


def test_the_measurement_is_taken_once() -> None:
    assert 0 < cholesky_seconds(CPU) == cholesky_seconds(CPU) < float("inf")
    assert cholesky_seconds(MPS) == float("inf")


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({CPU: 0.05, FIRST: 0.01, SECOND: 0.01}, SECOND),
        ({CPU: 0.05, FIRST: 0.01, SECOND: 0.09}, FIRST),
        ({CPU: 0.05, FIRST: 0.06, SECOND: 0.09}, CPU),
    ],
)
def test_of_the_fast_devices_the_one_with_room(
    seconds: dict[torch.device, float], chosen: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("kbsync.memit.fast.solve_device")
    monkeypatch.setattr(module, "cholesky_seconds", seconds.__getitem__)
    monkeypatch.setattr(module, "free_memory", {FIRST: 10, SECOND: 20}.__getitem__)
    found, remark = solve_device([FIRST, SECOND, FIRST])
    assert found == chosen
    assert remark.startswith(f"solve on {chosen}: ")
    assert "cpu 50.0 ms" in remark


def test_a_device_without_float64_is_never_chosen() -> None:
    found, remark = solve_device([MPS])
    assert found == CPU
    assert "mps has no float64" in remark
