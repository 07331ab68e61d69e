"""A model of the hub where the hub cannot be reached: one line at once, or the copy that is on this machine."""

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import close_session, constants

from kbsync.models import checkpoint
from tests.conftest import Ran, Run
from tests.tiny_models import random_folder

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@pytest.fixture(autouse=True)
def another_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The hub's library has its addresses and its cache from the environment, once, when it is imported."""
    for name in PROXIES:
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setattr(checkpoint, "PATIENCE", 1.0)
    close_session()
    yield
    close_session()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_folder(tmp_path_factory.getbasetemp(), "gptj")


def doctor(run: Run, monkeypatch: pytest.MonkeyPatch, endpoint: str) -> Ran:
    """Run `kbsync doctor` for a model of the hub at this address."""
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    return run("doctor", "--model", "example/tiny", "--json")


def test_a_hub_that_cannot_be_reached_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and never answers
        port = silent.getsockname()[1]
        ran = doctor(run, monkeypatch, f"http://127.0.0.1:{port}")
    assert (ran.code, ran.err) == (1, "")
    assert ran.json["problems"] == [
        f"model example/tiny is not on this machine and http://127.0.0.1:{port} does not answer: "
        "check the network, or name a model's directory"
    ]


def test_a_model_that_was_downloaded_before_needs_no_hub(
    tiny: Path, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    copy = tmp_path / "hf" / "hub" / "models--example--tiny"
    shutil.copytree(tiny, copy / "snapshots" / ("0" * 40))
    (copy / "refs").mkdir()
    (copy / "refs" / "main").write_text("0" * 40)
    ran = doctor(run, monkeypatch, "http://127.0.0.1:9")
    assert (ran.code, ran.err) == (0, "")
    assert ran.json["loads"]["architecture"] == "GPTJForCausalLM"
