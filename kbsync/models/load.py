"""Load a causal language model with its tokenizer.

GGUF files that were read once, kept as checkpoints of transformers in the user's cache: those load in a second.

A copy lies in a folder named by the SHA-256 of its file and by what read it, and is taken only while the hashes of all
that is in it are those that it was written with. It can be deleted at any time.
"""

import atexit
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, redirect_stderr, suppress
from dataclasses import replace
from functools import cache
from io import StringIO
from logging import CRITICAL
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    __version__,
)
from transformers.utils import logging

from kbsync.errors import ModelError, foreign
from kbsync.models.checkpoint import Checkpoint, check_config, find_checkpoint
from kbsync.models.devices import AUTO, choose_device, choose_dtype
from kbsync.models.family import FAMILIES, check_kind, family_of
from kbsync.models.forward import check_numbers, head_log_probs, last_hidden, make_rows
from kbsync.models.loaded import LoadedModel, Slot
from kbsync.models.structure import family_by_structure, settle

HASHES = "hashes.json"
"""the file of a copy that holds the SHA-256 of each other one"""
MOST_BYTES = 4 * 2**30
"""of a copy: a larger model is read from its file each time"""
ABANDONED = 24 * 3600
"""seconds after which an unfinished copy is nobody's"""


def cache_folder() -> Path:
    """Return the folder of what can be made again: KBSYNC_CACHE, else ``kbsync`` in the user's cache."""
    if own := os.environ.get("KBSYNC_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "kbsync")


def copy_of(file: Path) -> Path:
    """Return the folder for the copy of a GGUF file, whether there is one or not."""
    return cache_folder() / f"gguf-{sha256_of(file)}-{__version__}"


def is_whole(copy: Path) -> bool:
    """Tell whether there is a copy, and all of it is as it was written."""
    try:
        hashes: object = json.loads((copy / HASHES).read_text(encoding="utf-8"))
        return hashes == {file.name: sha256_of(file) for file in copy.iterdir() if file.name != HASHES}
    except (OSError, ValueError, RecursionError):
        return False


def keep(copy: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write the copy of a file that was read; a disk without room, or one that cannot be written, is no error."""
    size = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    if size > MOST_BYTES:
        return
    with suppress(OSError, SafetensorError):
        copy.parent.mkdir(parents=True, exist_ok=True)
        for left in copy.parent.glob("*.partial"):
            if time.time() - left.stat().st_mtime > ABANDONED:
                shutil.rmtree(left, ignore_errors=True)
        if shutil.disk_usage(copy.parent).free < 2 * size:
            return
        with tempfile.TemporaryDirectory(dir=copy.parent, suffix=".partial", ignore_cleanup_errors=True) as made:
            partial = Path(made, "copy")
            model.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
            hashes = {file.name: sha256_of(file) for file in partial.iterdir()}
            (partial / HASHES).write_text(json.dumps(hashes, indent=1), encoding="utf-8")
            shutil.rmtree(copy, ignore_errors=True)
            partial.rename(copy)


def sha256_of(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def layout(max_memory: Mapping[int | str, str] | None) -> dict[str, Any]:
    """Return what transformers needs to lay a model out over the devices; the offload folder is gone at exit."""
    folder = tempfile.mkdtemp(prefix="kbsync-offload-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    bounds = None if max_memory is None else dict(max_memory)
    return {"device_map": AUTO, "max_memory": bounds, "offload_folder": folder}


def load_model(
    source: str,
    *,
    device: str | None = None,
    dtype: str | None = None,
    revision: str | None = None,
    max_memory: Mapping[int | str, str] | None = None,
    experimental: bool = False,
) -> LoadedModel:
    """Load a model from a directory, a GGUF file or the hub (see `find_checkpoint`).

    `experimental` reads an unknown family by its structure.

    With the device ``auto``, accelerate lays the blocks out over the devices, and what has no room there on the CPU
    and then the disk; `max_memory` bounds each (``{0: "20GiB", "cpu": "60GiB"}``), and is refused otherwise.
    Raises ModelError where there is no such model, its family is not known or its structure does not fit, a weight is
    missing, or its tokenizer gives no offsets.
    """
    named = find_checkpoint(source)
    source = named.source
    if max_memory is not None and device != AUTO:
        raise ModelError("--max-memory bounds what each device takes under --device auto: give both")
    where = choose_device(device)
    copy = copy_of(Path(named.place, named.gguf)) if named.gguf and Path(named.place).is_dir() else None
    checkpoint = replace(named, place=str(copy), gguf=None) if copy and is_whole(copy) else named
    arguments = checkpoint.arguments(revision)
    with quiet(checkpoint), told(source):
        config = AutoConfig.from_pretrained(checkpoint.place, **arguments)
        check_kind(config)
        family = None if experimental and config.model_type not in FAMILIES else family_of(config)
        check_config(checkpoint, config)
        chosen = choose_dtype(dtype, where, getattr(config, "dtype", None))
        tokenizer = AutoTokenizer.from_pretrained(checkpoint.place, **arguments)
        tokenizer(["a text"])  # settings that make no sense are told when it is used
        laid_out = layout(max_memory) if device == AUTO else {}
        model = open_weights(checkpoint, config=config, dtype=chosen, **arguments, **laid_out)
    check_tokenizer(source, tokenizer, model.get_input_embeddings().num_embeddings)
    if device != AUTO:
        torch.nn.Module.to(model, where)
    model.eval().requires_grad_(False)
    # A copy was checked before it was written; as float16 it may yet have no room for its largest weights.
    if checkpoint is named or chosen == torch.float16:
        check_finite(source, model)
    if copy and checkpoint is named and chosen == torch.float32 and device != AUTO:
        with quiet(named):
            keep(copy, model, tokenizer)
    loaded = LoadedModel(source, model, tokenizer, family or family_by_structure(model, config))
    with told(source):
        check_answers(loaded)
    return loaded if family else settle(loaded)


def open_weights(checkpoint: Checkpoint, **arguments: Any) -> Any:
    """Return the model of a checkpoint; ModelError where weights are missing, which would be drawn at random.

    Where peft is installed, transformers would ask the hub for an adapter, again and again where that does not answer.
    """
    opened: Any = AutoModelForCausalLM.from_pretrained(
        checkpoint.place, output_loading_info=True, adapter_kwargs={"local_files_only": True}, **arguments
    )
    model, report = opened
    if checkpoint.gguf:  # its weights are plain numbers by now; transformers would not write the model otherwise
        model.hf_quantizer, model._weight_conversions = None, []
        model.config.__dict__.pop("quantization_config", None)
    if missing := sorted(report["missing_keys"]):
        lacks = f"lacks {len(missing)} of the weights, such as {missing[0]}"
        raise ModelError(f"the checkpoint of {checkpoint.source} {lacks}")
    return model


def told(source: str) -> AbstractContextManager[None]:
    """Turn what a damaged checkpoint raises, in whichever of several libraries reads it, into one ModelError."""

    def as_error(reason: str) -> ModelError:
        if "custom code" in reason or "remote code" in reason:
            reason = "it comes with Python code, which kbsync never runs"
        return ModelError(f"model {source} cannot be loaded: {reason}")

    return foreign(as_error)


@contextmanager
def quiet(checkpoint: Checkpoint) -> Iterator[None]:
    """Keep transformers' bars and coloured reports off the terminal while it loads: kbsync says what was wrong."""
    with ExitStack() as stack:
        stack.callback(logging.set_verbosity, logging.get_verbosity())
        logging.disable_progress_bar()
        logging.set_verbosity(CRITICAL)
        if checkpoint.gguf:
            import gguf

            # Its tensors are counted out by a bar of their own, whatever transformers was told about bars. And its
            # fields and the names of tensors are read once: transformers would do so again and again.
            stack.enter_context(redirect_stderr(StringIO()))
            own = {name: getattr(gguf, name) for name in ("GGUFReader", "get_tensor_name_map")}
            stack.callback(vars(gguf).update, own)
            vars(gguf).update({name: cache(function) for name, function in own.items()})
        yield


def check_tokenizer(source: str, tokenizer: PreTrainedTokenizerBase, embeddings: int) -> None:
    """Raise ModelError for a tokenizer that places no subject, or has words that the model does not."""
    special = set(tokenizer.all_special_tokens)
    words = {word: number for word, number in tokenizer.get_vocab().items() if word not in special}
    if not words:
        raise ModelError(f"{source} has no tokenizer: it needs a tokenizer.json beside the weights")
    if not tokenizer.is_fast:
        raise ModelError(
            f"the tokenizer of {source} gives no character offsets: a fast tokenizer (tokenizer.json) is needed"
        )
    if max(words.values()) >= embeddings:
        raise ModelError(f"the tokenizer of {source} has more words than the model, which has {embeddings:,}")


@torch.no_grad()
def check_answers(loaded: LoadedModel) -> None:
    """Raise ModelError where a model gives no numbers, before any work is done with it.

    Hidden states that outgrow their dtype do so on a text's first token, if anywhere.
    """
    ids = loaded.tokenizer("a text")["input_ids"] or [0]
    check_numbers(loaded, head_log_probs(loaded, last_hidden(loaded, make_rows([ids], loaded.device))[:, -1]))


def check_finite(source: str, model: torch.nn.Module) -> None:
    """Raise ModelError where a weight is no number; those that accelerate keeps elsewhere are read there."""
    for name, module in model.named_modules():
        for own, _ in module.named_parameters(recurse=False, remove_duplicate=False):
            value = Slot(module, own).found
            if value.is_floating_point() and value.numel() and not torch.stack(value.aminmax()).isfinite().all():
                weight = f"{name}.{own}".lstrip(".")
                hint = "use --dtype bfloat16 or float32" if value.dtype == torch.float16 else "it is damaged"
                raise ModelError(
                    f"the checkpoint of {source} has weights that are NaN or infinite, such as {weight}"
                    f" in {str(value.dtype).removeprefix('torch.')}: {hint}"
                )
