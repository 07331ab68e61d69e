"""The hub: whether it answers, found out once and quickly, so that nobody waits for the retries of its library."""

import threading
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from huggingface_hub import constants, get_session, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from kbsync.errors import ModelError

__all__ = ["from_hub", "in_hub_cache"]

PATIENCE = 3.0
"""seconds in which the hub must give some answer"""


WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def from_hub(source: str, name: str = "config.json", revision: str | None = None) -> dict[str, Any]:
    """Return what transformers needs beside `source` to load it: nothing, or to keep to the files on this machine.

    An earlier download is known by the file `name`.

    Raises ModelError, in one line, where `source` is no directory, no earlier download, and the hub does not answer.
    """
    if Path(source).is_dir() or (not constants.HF_HUB_OFFLINE and _answers(constants.ENDPOINT)):
        return {}
    with suppress(HFValidationError):  # such a name is no hub id, which transformers tells at once
        if not isinstance(try_to_load_from_cache(source, name, revision=revision), str):
            why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"{constants.ENDPOINT} does not answer"
            raise ModelError(
                f"model {source} is not on this machine and {why}: check the network, or name a model's directory"
            )
    return {"local_files_only": True}


@cache
def _answers(endpoint: str) -> bool:
    """Whether anything answers there within `PATIENCE`, through whatever proxies are set."""
    answered = threading.Event()

    def ask() -> None:
        with suppress(Exception):  # refused, no such name, a broken proxy: all of it is no answer
            get_session().head(endpoint, timeout=PATIENCE)
            answered.set()

    # In a thread, as a name with several addresses is tried address by address, each for the whole time.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    return answered.is_set()


def in_hub_cache(repository: str) -> bool:
    """Tell whether the hub's cache on this machine holds a repository's config and weights."""

    def held(name: str) -> bool:
        return isinstance(try_to_load_from_cache(repository, name), str)

    return held("config.json") and any(held(name) or held(f"{name}.index.json") for name in WEIGHTS)
