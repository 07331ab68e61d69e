"""What may become of a model after it was edited: quantised as for llama.cpp, or fine-tuned on other text.

Both hold the model changed while inside, and leave it as it was found.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from kbsync.errors import EditError, SettingsError
from kbsync.models import LoadedModel, head_log_probs, last_hidden, make_rows
from kbsync.sync.export_gguf import decode, encode

QUANTISED = {"8bit": "Q8_0", "4bit": "Q4_0"}
"""name -> the type of GGUF that the blocks' matrices are rounded to: 8.5 and 4.5 bits a weight"""
STEPS = 50
BATCH, LENGTH = 8, 64
"""lines of a step, and tokens of a line"""
RATE = 2e-5
"""AdamW's learning rate, as usual for the fine-tuning of a whole small model"""


@contextmanager
def quantised(loaded: LoadedModel, kind: str) -> Iterator[None]:
    """Round all matrices of the blocks to a type of GGUF and back; embeddings, head, norms and biases stay.

    Raises SettingsError where the package gguf is missing, or the rows of a matrix do not fit the type.
    """
    blocks = loaded.family.block_list(loaded.model)
    found = {
        name: module for name, module in blocks.named_modules() if isinstance(module, nn.Linear | Conv1D)
    }  # [out, in], Conv1D [in, out]
    before = {name: module.weight.data for name, module in found.items()}
    if any(weight.is_meta for weight in before.values()):
        raise SettingsError("a model that is offloaded cannot be quantised here: load it on one device")
    try:
        after = {name: rounded(weight, kind, name, found[name]) for name, weight in before.items()}
    except ModuleNotFoundError as error:
        raise SettingsError("to quantise, the package gguf is needed: pip install 'kbsync[gguf]'") from error
    try:
        for name, module in found.items():
            module.weight.data = after[name]
        yield
    finally:
        for name, module in found.items():
            module.weight.data = before[name]


def rounded(weight: torch.Tensor, kind: str, name: str, module: nn.Module) -> torch.Tensor:
    """Return a module's weight rounded to a type of GGUF, along its rows of inputs."""
    if isinstance(module, Conv1D):
        return decode(encode(weight.T, kind, name)).to(weight).T.contiguous()
    return decode(encode(weight, kind, name)).to(weight)


@contextmanager
def fine_tuned(loaded: LoadedModel, lines: Sequence[str], steps: int = STEPS) -> Iterator[None]:
    """Fine-tune all weights on the next-token loss of lines of text, over and over where they are few.

    Raises SettingsError where no line has two tokens, EditError where the loss is not finite.
    """
    tokens: list[list[int]] = loaded.tokenizer(list(lines))["input_ids"] if lines else []
    rows = [ids[:LENGTH] for ids in tokens if len(ids) > 1]
    if not rows:
        raise SettingsError("--beside tuned needs text to tune on: name it with --corpus")
    parameters = list(loaded.model.parameters())
    before = [one.data for one in parameters]
    try:
        for one in parameters:
            one.data = one.data.clone()
            one.requires_grad_(True)
        optimizer = torch.optim.AdamW(parameters, lr=RATE)
        endless = cycle(rows)
        for _ in range(steps):
            optimizer.zero_grad()
            loss = next_token_loss(loaded, list(islice(endless, BATCH)))
            if not loss.isfinite():
                raise EditError("the loss of fine-tuning is not finite: use --dtype float32")
            loss.backward()
            optimizer.step()
        for one in parameters:
            one.requires_grad_(False)
            one.grad = None
        yield
    finally:
        for one, value in zip(parameters, before, strict=True):
            one.data, one.grad = value, None
            one.requires_grad_(False)


def next_token_loss(loaded: LoadedModel, rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return the mean -log P of all tokens but each row's first."""
    padded = make_rows(rows, loaded.device)
    read = padded.mask[:, 1:].bool()
    log_probs = head_log_probs(loaded, last_hidden(loaded, padded)[:, :-1][read])
    return -log_probs.gather(1, padded.ids[:, 1:][read][:, None]).mean()
