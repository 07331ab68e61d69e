"""A model of the hub where the hub cannot be reached: one line at once, or the copy that is on this machine."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_models import random_folder

CODE = "import sys; from kbsync.cli.main import main; sys.exit(main(sys.argv[1:]))"
NO_PROXY = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "")


def doctor(folder: Path, env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run `kbsync doctor` for a hub model in a process of its own, as the hub's library reads its address once."""
    cache = {"HF_HOME": str(folder / "hf")}
    command = [sys.executable, "-c", CODE, "doctor", "--model", "example/tiny", "--home", str(folder), "--json"]
    return subprocess.run(
        command, env=os.environ | NO_PROXY | cache | env, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_hub_that_cannot_be_reached_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and never answers
        port = silent.getsockname()[1]
        ran = doctor(tmp_path, {"HF_ENDPOINT": f"http://127.0.0.1:{port}"})
    assert (ran.returncode, ran.stderr) == (1, "")
    assert json.loads(ran.stdout)["problems"] == [
        f"model example/tiny is not on this machine and http://127.0.0.1:{port} does not answer: "
        "check the network, or name a model's directory"
    ]


def test_a_model_that_was_downloaded_before_needs_no_hub(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    copy = tmp_path / "hf" / "hub" / "models--example--tiny"
    shutil.copytree(random_folder(tmp_path_factory.getbasetemp(), "gptj"), copy / "snapshots" / ("0" * 40))
    (copy / "refs").mkdir()
    (copy / "refs" / "main").write_text("0" * 40)
    ran = doctor(tmp_path, {"HF_ENDPOINT": "http://127.0.0.1:9"})
    assert (ran.returncode, ran.stderr) == (0, "")
    assert json.loads(ran.stdout)["loads"]["architecture"] == "GPTJForCausalLM"
