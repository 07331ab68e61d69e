"""The server on loopback: it comes up with the file's statements, and is gone afterwards."""

import os
import shutil
from pathlib import Path

import pytest

from kbsync.errors import SourceError
from kbsync.sources import Ask, open_source
from kbsync.sources.loopback import serve


def test_the_server_is_gone_after_the_block_even_after_an_error(world_file: Path) -> None:
    def use_and_break_off() -> None:
        with serve(world_file) as url:
            urls.append(url)
            assert open_source(url).read(Ask("P36")).facts
            raise KeyboardInterrupt

    urls: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        use_and_break_off()
    with pytest.raises(SourceError, match="cannot be reached"):
        open_source(urls[0]).read(Ask("P36"))


def test_a_proxy_in_the_environment_is_left_out_of_it(world_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "example.org")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with serve(world_file) as url:
        assert open_source(url).read(Ask("P36")).facts
    assert os.environ["no_proxy"] == "example.org"
    assert "NO_PROXY" not in os.environ


def test_a_file_that_does_not_load_is_told(tmp_path: Path) -> None:
    (tmp_path / "bad.ttl").write_text("<http://a> <http://b> <http")
    with (
        pytest.raises(SourceError, match=r"bad\.ttl: the SPARQL server cannot load it \(.+\)"),
        serve(tmp_path / "bad.ttl"),
    ):
        pass


def test_a_missing_server_is_told_with_the_remedy(world_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)
    with pytest.raises(SourceError, match="pip install oxigraph"), serve(world_file):
        pass
