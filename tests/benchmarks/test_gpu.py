"""`bench gpu` at its tiny size, on the CPU."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from kbsync.benchmarks import gpu
from kbsync.benchmarks.gpu import CONFIGS, Run, bench_gpu, covariance_flops, peak_flops, random_model, targets_flops
from kbsync.cli.main import main
from kbsync.errors import ModelError, SettingsError
from kbsync.memit import Target, optimise_targets
from kbsync.memit.fast.packed_rows import group_rows

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "choose_device", lambda name: torch.device("cpu"))


def test_every_phase_is_measured() -> None:
    bench = bench_gpu("tiny", 6, steps=3, tokens=700)
    assert (bench["edits"], bench["steps"], bench["covariance_tokens"]) == (6, 3, 700)
    assert (bench["device"], bench["dtype"], bench["peak_stated"]) == ("cpu", "float32", False)
    assert bench["seconds"].keys() == bench["peak_memory_mb"].keys() == {"targets", "covariance", "insertion"}
    assert bench["share"].keys() == {"targets", "covariance"}
    assert all(share > 0 for share in bench["share"].values())
    assert bench["projected_seconds"] is not None
    assert bench["projected_seconds"] > bench["seconds"]["targets"] + bench["seconds"]["insertion"]


def run(edits: int) -> Run:
    loaded = random_model(CONFIGS["tiny"], torch.device("cpu"), torch.float32)
    return Run("tiny", loaded, gpu.TINY.with_values({"steps": 3, "covariance_tokens": 700}), edits)


def test_requests_have_counterfacts_lengths() -> None:
    made = run(6)
    assert len(made.groups) == 6
    for group in made.groups:
        rows = group_rows(made.loaded, group, made.contexts)
        assert [len(prefix) for prefix in rows.prefixes] == [3, *[14] * 5, 3]
        objects = len(rows.reads[0])
        assert objects in (1, 2, 3)
        assert [len(suffix) for suffix in rows.suffixes] == [*[1 + 6 + objects - 1] * 6, 1]
    assert sum(len(made.loaded.tokenizer(line)["input_ids"]) for line in made.lines) == 700


def test_no_request_stops_early(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    def counting(*given: Any, **named: Any) -> list[Target]:
        found = optimise_targets(*given, **named)
        taken.extend(len(target.losses) for target in found)
        return found

    monkeypatch.setattr(gpu, "optimise_targets", counting)
    bench_gpu("tiny", 3, steps=4, tokens=700)
    assert taken == [2, 2, 4, 4, 4]  # two to warm up


def test_needed_arithmetic() -> None:
    """Counted by hand for one request with an object of one token."""
    made = run(1)
    N = 4 * 64 * 64 + 2 * 64 * 256
    before, after, read = 3 + 5 * 14 + 3, 6 * 7 + 1, 7
    once = 2 * N * (4 * before + 2 * after)
    step = 2 * (N * 2 * after + 512 * 64 * read)
    assert targets_flops(made) == once + 2 * step + 2 * step + step  # the third step has no gradient
    assert covariance_flops(made, 700) == 700 * 2 * (2 * N + 2 * 256 * 256)


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA H200", 989),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA L4", 121),
        ("NVIDIA GeForce RTX 4090", 165),
    ],
)
def test_the_makers_peak_is_taken_where_it_is_known(name: str, tflops: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert peak_flops(torch.device("cuda"), torch.bfloat16) == (tflops * 1e12, True)


def test_it_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["bench", "gpu", "--config", "tiny", "--edits", "3", "--steps", "2", "--tokens", "700"]
    assert main(options) == 0
    shown = capsys.readouterr().out
    assert "3 edits, tiny" in shown
    assert "projected for 10,000 edits" in shown
    assert main([*options, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["config"] == "tiny"


def test_what_cannot_be_run_is_told() -> None:
    with pytest.raises(SettingsError, match="--config huge is not one of gpt-j, llama-3-8b, tiny"):
        bench_gpu("huge", 2)
    with pytest.raises(SettingsError, match="--memory-cap needs a CUDA device, and this is cpu"):
        bench_gpu("tiny", 2, memory_cap=24)
    with pytest.raises(ModelError, match="dtype 'int8' is not one of"):
        bench_gpu("tiny", 2, dtype="int8")


def test_real_sizes_are_the_models() -> None:
    with torch.device("meta"):
        counts = {
            name: sum(parameter.numel() for parameter in AutoModelForCausalLM.from_config(config).parameters())
            for name, config in CONFIGS.items()
        }
    assert counts["gpt-j"] == 6_050_882_784
    assert counts["llama-3-8b"] == 8_030_261_248


def test_it_needs_no_ledger_and_no_sources() -> None:
    """A GPU machine may lack what pulls facts and keeps the ledger."""
    code = (
        "import sys\n"
        "for name in ('SPARQLWrapper', 'sqlite_utils', 'pyoxigraph'): sys.modules[name] = None\n"
        "from kbsync.cli.main import main\n"
        "sys.exit(main('bench gpu --config tiny --edits 2 --steps 2 --tokens 700'.split()))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "2 edits, tiny" in ran.stdout
