"""Where a model's files lie: a directory, a repository of the hub, or one GGUF file of either.

A model is data, however it came here: none of its code is run, nothing outside its folder is read, and what its config
asks for is held against what its files have before any memory is taken for it. Whether the hub answers is found out
once and quickly, so that nobody waits for the retries of its library.

What a model is, as hashes: all of it, the weights up to a layer (which its keys depend on), and the tokenizer.
"""

import hashlib
import json
import math
import os
import re
import struct
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import align_module_device
from huggingface_hub import constants, get_session, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCausalLM
from transformers.utils.import_utils import is_gguf_available

from kbsync.errors import ModelError, foreign
from kbsync.models.loaded import LoadedModel

GGUF = ".gguf"
LEAST_POSITIONS = 16
"""fewer leave no room for a prompt and its answer"""
MOST_BLOCKS = 10_000
"""where a file does not say how many tensors it holds"""
SLACK = 2
"""times the numbers in its files that a model may have: weights that are missing there are told by name later"""
PART_OF_SEVERAL = re.compile(r"-\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What `load_model` opens."""

    source: str
    """directory, hub id or GGUF file, as messages name it"""
    place: str
    """directory or hub id"""
    gguf: str | None = None
    """name of the GGUF file in `place`; None for a checkpoint of transformers"""

    def arguments(self, revision: str | None = None) -> dict[str, Any]:
        """Return what each ``from_pretrained`` is given beside `place`; no code of a model's is ever run.

        Where the hub does not answer, it is to keep to the files on this machine. Raises ModelError, in one line, where
        there are none: `place` is no directory, and no earlier download.
        """
        given = {"trust_remote_code": False, "revision": revision} | ({"gguf_file": self.gguf} if self.gguf else {})
        if Path(self.place).is_dir() or (not constants.HF_HUB_OFFLINE and _answers(constants.ENDPOINT)):
            return given
        with suppress(HFValidationError):  # such a name is no hub id, which transformers tells at once
            if not isinstance(try_to_load_from_cache(self.place, self.gguf or "config.json", revision=revision), str):
                why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"{constants.ENDPOINT} does not answer"
                raise ModelError(
                    f"model {self.place} is not on this machine and {why}: check the network, or name a model's"
                    " directory"
                )
        return given | {"local_files_only": True}


def find_checkpoint(source: str) -> Checkpoint:
    """Return where the files of `source` lie: a directory, ``FILE.gguf``, a hub id or ``owner/repo:FILE.gguf``.

    Raises ModelError where there is no such directory or file, or it is of another form.
    """
    path = Path(source).expanduser()
    if source.lower().endswith(GGUF) and not path.is_dir():
        return find_gguf(source, path)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"model directory {path} has no config.json: point --model at a transformers checkpoint")
        check_folder(path)
        return Checkpoint(str(path), str(path))
    if source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise ModelError(f"model directory {source} does not exist")
    return Checkpoint(source, source)


def find_gguf(source: str, path: Path) -> Checkpoint:
    """Return where a GGUF file lies, on this machine or on the hub; raises as `find_checkpoint` does."""
    if not is_gguf_available():
        raise ModelError(f"model {source}: GGUF files need the package gguf: pip install 'kbsync[gguf]'")
    if PART_OF_SEVERAL.search(source):
        raise ModelError(f"model {source} is one part of several: join them first (llama-gguf-split --merge)")
    repository, colon, name = source.partition(":")
    if not path.is_file() and colon and re.fullmatch(r"[\w.-]+/[\w.-]+", repository) and ".." not in name.split("/"):
        return Checkpoint(source, repository, name.lstrip("/"))
    if path.exists() and not path.is_file():
        raise ModelError(f"model file {source} is not a file")
    try:
        with path.open("rb") as opened:
            magic = opened.read(4)
    except OSError as error:
        raise ModelError(f"model file {source} cannot be read: {error.strerror or error}") from error
    if magic != b"GGUF":
        raise ModelError(f"model file {source} is not a GGUF file: it does not begin with the letters GGUF")
    return Checkpoint(str(path), str(path.parent), path.name)


def check_folder(folder: Path) -> None:
    """Raise ModelError where a directory's files would be read from elsewhere, or name an adapter's base model."""
    if (folder / "adapter_config.json").exists():
        raise ModelError(f"model directory {folder} holds an adapter: merge it into its model and name that")
    # A snapshot in the hub's cache links to the blobs beside it.
    within = os.path.realpath(folder.parent.parent if folder.parent.name == "snapshots" else folder)
    named = {folder / name for index in folder.glob("*.index.json") if index.is_file() for name in shard_names(index)}
    for file in sorted({*folder.iterdir(), *named}):
        if not Path(os.path.realpath(file)).is_relative_to(within):
            raise ModelError(f"model directory {folder}: {file.name} lies outside the folder: kbsync does not read it")


def shard_names(index: Path) -> set[str]:
    """Return the files that an index of weights names; none where it is no index."""
    try:
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return set()  # told where it is opened
    return {name for name in names if isinstance(name, str) and "\0" not in name}


def check_config(checkpoint: Checkpoint, config: Any) -> int:
    """Return how many weights a config asks for; ModelError where it cannot be, or its files hold fewer."""
    told = f"the config of {checkpoint.source}"
    attention = getattr(config, "_attn_implementation", None)
    if isinstance(attention, str) and "/" in attention:
        raise ModelError(f"{told} asks for code of the hub ({attention}), which kbsync never runs")
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and not (isinstance(positions, int) and positions >= LEAST_POSITIONS):
        raise ModelError(f"{told} has {positions} positions: {LEAST_POSITIONS} are needed for a prompt and its answer")
    blocks = getattr(config, "num_hidden_layers", None)
    if not isinstance(blocks, int) or blocks < 1:
        raise ModelError(f"{told} has an impossible number of blocks: {blocks!r}")
    tensors, numbers = held(checkpoint)
    if tensors and blocks > tensors:
        raise ModelError(f"{told} asks for {blocks:,} blocks, and its files hold {tensors:,} tensors")
    wanted = count_numbers(config)
    if tensors and wanted > SLACK * numbers:
        raise ModelError(f"{told} asks for {wanted:,} weights, and its files hold {numbers:,}")
    return wanted


_counted: dict[tuple[type, str], int] = {}
"""by kind and content of a config: before a model is loaded and when it is, the same is asked"""


def count_numbers(config: Any) -> int:
    """Return how many weights a model of this config has; no memory is taken for them."""
    asked = type(config), config.to_json_string(use_diff=False)
    if asked not in _counted:
        with torch.device("meta"):
            model: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        _counted[asked] = sum(weight.numel() for weight in model.parameters())
    return _counted[asked]


def held(checkpoint: Checkpoint) -> tuple[int, int]:
    """Return the tensors and numbers in the files of a checkpoint on this machine; at most, where a form says neither.

    Both are 0 where there is no file here, or none that could be read, which is told when it is opened.
    """
    folder = Path(checkpoint.place)
    if checkpoint.gguf is not None and folder.is_dir():
        file = folder / checkpoint.gguf
        with file.open("rb") as opened:
            head = opened.read(16)
        return (struct.unpack("<Q", head[8:16])[0], 8 * file.stat().st_size) if len(head) == 16 else (0, 0)
    found = list(shapes(folder))
    if found:
        return len(found), sum(map(math.prod, found))
    size = sum(file.stat().st_size for file in folder.glob("*.bin"))
    return (MOST_BLOCKS, size) if size else (0, 0)


def shapes(folder: Path) -> Iterator[list[int]]:
    """Yield the shape of each tensor in the safetensors files of a folder, from their headers."""
    for file in filter(Path.is_file, folder.glob("*.safetensors")):
        try:
            with safe_open(file, "pt") as opened:
                for name in opened.keys():  # noqa: SIM118 - no mapping
                    yield opened.get_slice(name).get_shape()
        except (OSError, SafetensorError):
            continue


PATIENCE = 3.0
"""seconds in which the hub must give some answer"""


@cache
def _answers(endpoint: str) -> bool:
    """Whether anything answers there within `PATIENCE`, through whatever proxies are set."""
    answered = threading.Event()

    def ask() -> None:
        with suppress(ModelError), foreign(ModelError):  # refused, no such name, a broken proxy: all is no answer
            get_session().head(endpoint, timeout=PATIENCE)
            answered.set()

    # In a thread, as a name with several addresses is tried address by address, each for the whole time.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    return answered.is_set()


def in_hub_cache(repository: str) -> bool:
    """Tell whether the hub's cache on this machine holds a repository's config and weights."""

    weights = ("model.safetensors", "pytorch_model.bin")
    wanted = ("config.json", *weights, *(f"{name}.index.json" for name in weights))
    config, *found = (isinstance(try_to_load_from_cache(repository, name), str) for name in wanted)
    return config and any(found)


MOST_THREADS = 8
"""that hash at once, a module each: SHA-256 reads 1 to 2 GB a second on one core"""


def model_hash(loaded: LoadedModel) -> str:
    """Return the SHA-256 of all weights by name, in the dtype that they are loaded in, and of the tokenizer.

    It says whose targets, contexts, answers and figures are on record. Offloaded weights are fetched for it.
    """
    named = list(loaded.model.named_modules())

    def digest_of(one: tuple[str, torch.nn.Module]) -> bytes:
        digest = hashlib.sha256()
        add_weights(digest, *one, exact=True)
        return digest.digest()

    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as threads:
        digest = hashlib.sha256(b"".join(threads.map(digest_of, named)))
    digest.update(tokenizer_hash(loaded).encode())
    return digest.hexdigest()


def weights_hashes(loaded: LoadedModel, layers: Sequence[int]) -> dict[int, str]:
    """Return, for each of the ascending `layers`, the SHA-256 of all weights in the embeddings and blocks 0 to it.

    Keys of the attention's output projection, where that is edited, have hashes of their own.
    Weights count as float32, so that a dtype that holds them exactly does not matter; nor does the model's name.
    """
    blocks = loaded.family.block_list(loaded.model)
    inside = {id(module) for module in blocks.modules()}
    digest = hashlib.sha256(loaded.model.config.model_type.encode())
    if loaded.family.edits != "mlp":  # what is on record for the MLP keeps its hash
        digest.update(loaded.family.edits.encode())
    for name, module in loaded.model.base_model.named_modules():
        if id(module) not in inside:
            add_weights(digest, name, module)
    found = {}
    for layer in range(layers[-1] + 1):
        for name, module in blocks[layer].named_modules():
            add_weights(digest, name, module)
        found[layer] = digest.hexdigest()
    return {layer: found[layer] for layer in layers}


def add_weights(digest: Any, path: str, module: torch.nn.Module, *, exact: bool = False) -> None:
    """Add names, shapes and bytes of the module's own parameters to a digest: with their dtypes, or as float32."""
    with align_module_device(module):  # fetches offloaded ones
        for name, parameter in module.named_parameters(recurse=False):
            value, dtype = (parameter.detach(), f"{parameter.dtype} ") if exact else (parameter.detach().float(), "")
            digest.update(f"{path}.{name} {dtype}{list(parameter.shape)}".encode())
            digest.update(value.cpu().reshape(-1).view(torch.uint8).numpy().data)


def tokenizer_hash(loaded: LoadedModel) -> str:
    """Return the SHA-256 of how the tokenizer parts text, and of its end-of-text token."""
    parts = json.loads(loaded.tokenizer.backend_tokenizer.to_str())
    for passing in ("padding", "truncation"):  # set by whoever called it last
        parts.pop(passing, None)
    text = json.dumps([parts, loaded.tokenizer.eos_token_id], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
