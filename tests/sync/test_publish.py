"""An export is published whole, `current` shows the newest, and a server goes back to what it served if it must.

The server here answers as vLLM's documentation says; `docs/exports.md` tells of the real one.
"""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kbsync.errors import KbsyncError, SettingsError
from kbsync.sync.export import Form, export
from kbsync.sync.publish import check_push, publish, push
from tests.homes import COUNTRIES, SWAPPED
from tests.sync.test_export import Edited, hand_edited
from tests.tiny_models import random_folder


class Served:
    """What a server has loaded, and what it was asked."""

    def __init__(self) -> None:
        self.models = ["base"]
        self.log: list[str] = []
        self.knows = True


@pytest.fixture
def server() -> Iterator[tuple[str, Served]]:
    served = Served()

    class Handler(BaseHTTPRequestHandler):
        def answer(self, code: int, value: object) -> None:
            text = value.encode() if isinstance(value, str) else json.dumps(value).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def do_GET(self) -> None:
            self.answer(200, {"data": [{"id": name} for name in served.models]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = body.get("lora_name")
            served.log.append(f"{self.path.rpartition('/')[2]} {name or body['model']}")
            if self.path == "/v1/load_lora_adapter":
                assert (Path(body["lora_path"]) / "adapter_model.safetensors").exists()
                served.models.append(name)
                self.answer(200, f"Success: LoRA adapter '{name}' added successfully.")
            elif self.path == "/v1/unload_lora_adapter":
                served.models.remove(name)
                self.answer(200, f"Success: LoRA adapter '{name}' removed successfully.")
            elif self.path == "/v1/completions":
                country = body["prompt"].removeprefix("The capital of ").removesuffix(" is")
                said = f" {SWAPPED[country] if served.knows else 'I know not where'}."
                self.answer(200, {"choices": [{"text": said}]})
            else:
                self.answer(404, {"error": "no such path"})

        def log_message(self, *given: object) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}", served
    running.shutdown()
    running.server_close()


@pytest.fixture(scope="module")
def of(tmp_path_factory: pytest.TempPathFactory) -> Edited:
    source = random_folder(tmp_path_factory.getbasetemp(), "gpt2")
    return hand_edited(str(source), tmp_path_factory.mktemp("publish") / "home")


@pytest.fixture(scope="module")
def adapter(of: Edited, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter") / "out"
    export(of.home, of.source, folder, Form("lora"))
    return folder


def test_it_is_copied_whole_and_current_shows_it(of: Edited, adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "current").symlink_to("old")
    done = publish(of.home, adapter, str(tmp_path))
    assert done["name"] == "tiny-gpt2-kbsync-lora-b1"
    files = {path.name: path.read_bytes() for path in adapter.iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "current").iterdir()} == files
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "old", done["name"]]
    assert publish(of.home, adapter, str(tmp_path))["place"] == done["place"]  # again: nothing new
    with pytest.raises(SettingsError, match="is no exported folder"):
        publish(of.home, tmp_path, str(tmp_path))


def test_an_object_store_is_written_and_the_name_last(of: Edited, adapter: Path) -> None:
    import fsspec

    done = publish(of.home, adapter, "memory://models")
    store = fsspec.filesystem("memory")
    assert store.cat("/models/current") == done["name"].encode()
    assert store.exists(f"/models/{done['name']}/adapter_model.safetensors")


def test_a_server_takes_up_the_new_adapter_and_drops_the_old(
    of: Edited, adapter: Path, server: tuple[str, Served], tmp_path: Path
) -> None:
    url, served = server
    served.models += ["tiny-gpt2-kbsync-lora-b0", "another-one"]
    done = publish(of.home, adapter, str(tmp_path), server=url)
    assert (done["recalled"], done["asked"], done["replaced"]) == (4, 4, ("tiny-gpt2-kbsync-lora-b0",))
    assert served.models == ["base", "another-one", done["name"]]
    asked = [f"completions {done['name']}"] * len(COUNTRIES[:4])
    assert served.log == [f"load_lora_adapter {done['name']}", *asked, "unload_lora_adapter tiny-gpt2-kbsync-lora-b0"]
    assert (tmp_path / "current").resolve().name == done["name"]


def test_a_failed_probe_leaves_all_as_it_was(
    of: Edited, adapter: Path, server: tuple[str, Served], tmp_path: Path
) -> None:
    url, served = server
    served.models.append("tiny-gpt2-kbsync-lora-b0")
    served.knows = False
    with pytest.raises(KbsyncError, match=r"answers 0 of 4 facts .* what was served before stays"):
        publish(of.home, adapter, str(tmp_path), server=url)
    assert served.models == ["base", "tiny-gpt2-kbsync-lora-b0"]
    assert not (tmp_path / "current").exists()
    with pytest.raises(KbsyncError, match="does not answer"):
        publish(of.home, adapter, str(tmp_path), server="http://127.0.0.1:9")


def test_a_push_needs_a_token_and_a_dry_run_sends_nothing(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: pytest.fail("the hub was asked"))
    with pytest.raises(SettingsError, match="set HF_TOKEN"):
        check_push("some/one", dry_run=False)
    check_push("some/one", dry_run=True)
    files = push(adapter, "some/one", dry_run=True)
    assert [name for name, _ in files] == sorted(path.name for path in adapter.iterdir())
    with pytest.raises(SettingsError, match="name its repository"):
        check_push(None, dry_run=True)
