"""What a model is, as hashes: all of it, the weights up to a layer (which its keys depend on), and the tokenizer."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from accelerate.utils import align_module_device

from kbsync.models.loaded import LoadedModel

MOST_THREADS = 8
"""that hash at once, a module each: SHA-256 reads 1 to 2 GB a second on one core"""


def model_hash(loaded: LoadedModel) -> str:
    """Return the SHA-256 of all weights by name, in the dtype that they are loaded in, and of the tokenizer.

    It says whose targets, contexts, answers and figures are on record. Offloaded weights are fetched for it.
    """
    named = list(loaded.model.named_modules())
    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as threads:
        digests = threads.map(lambda one: module_digest(*one), named)
        digest = hashlib.sha256(b"".join(digests))
    digest.update(tokenizer_hash(loaded).encode())
    return digest.hexdigest()


def module_digest(path: str, module: torch.nn.Module) -> bytes:
    """Return the SHA-256 of the module's own parameters: their names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    with align_module_device(module):
        for name, parameter in module.named_parameters(recurse=False):
            digest.update(f"{path}.{name} {parameter.dtype} {list(parameter.shape)}".encode())
            digest.update(parameter.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.digest()


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
            for part in own_weights(name, module):
                digest.update(part)
    found = {}
    for layer in range(layers[-1] + 1):
        for name, module in blocks[layer].named_modules():
            for part in own_weights(name, module):
                digest.update(part)
        found[layer] = digest.hexdigest()
    return {layer: found[layer] for layer in layers}


def own_weights(path: str, module: torch.nn.Module) -> Iterator[bytes | memoryview]:
    """Yield name and bytes of the module's own parameters; offloaded ones are fetched for it."""
    with align_module_device(module):
        for name, parameter in module.named_parameters(recurse=False):
            yield f"{path}.{name} {list(parameter.shape)}".encode()
            yield parameter.detach().float().cpu().reshape(-1).view(torch.uint8).numpy().data


def tokenizer_hash(loaded: LoadedModel) -> str:
    """Return the SHA-256 of how the tokenizer parts text, and of its end-of-text token."""
    parts = json.loads(loaded.tokenizer.backend_tokenizer.to_str())
    for passing in ("padding", "truncation"):  # set by whoever called it last
        parts.pop(passing, None)
    text = json.dumps([parts, loaded.tokenizer.eos_token_id], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
