"""`bench gpu`: a model of real size with random weights made on the device, edited with requests of real lengths.

What a request costs depends on the model's sizes and the rows' lengths, not on what they say, so neither weights nor
texts are downloaded: a tokenizer knows the words w0, w1, ... as tokens 0, 1, ..., and requests, contexts and corpus
are drawn from them. The parts that are timed are those that `apply` calls. No request stops early.

Needed arithmetic, in floating-point operations (a multiplication and an addition count two), with N the matrix
elements of a block, D blocks, and V x d the head; attention's own products are left out, the rows being short:

    targets     2 N (D tokens before S + (L+1) tokens from S on), once for each row, and for each step
                2 (N (D-L-1) tokens from S on + V d tokens read), twice over with the gradient but in the last step
    covariance  2 (N (L+1) + m^2 |R|) for each token
"""

import math
import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import AutoModelForCausalLM, GPTJConfig, LlamaConfig, PreTrainedConfig, PreTrainedTokenizerFast

from kbsync.benchmarks.measured import Phases, synchronise
from kbsync.errors import SettingsError
from kbsync.facts import EditRequest
from kbsync.memit import (
    MemitSettings,
    collect_covariances,
    group_requests,
    load_preset,
    optimise_targets,
    spread,
)
from kbsync.memit.fast.packed_rows import group_rows
from kbsync.models import LoadedModel, choose_device, family_of
from kbsync.models.devices import choose_dtype
from kbsync.report.console import Parts, table
from kbsync.sync.home import Progress, silent

CONFIGS: dict[str, PreTrainedConfig] = {
    "gpt-j": GPTJConfig(),
    "llama-3-8b": LlamaConfig(
        vocab_size=128256,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
    ),
    "tiny": GPTJConfig(
        vocab_size=512, n_embd=64, n_layer=4, n_head=4, rotary_dim=8, bos_token_id=None, eos_token_id=None
    ),
}
"""what `--config` names; the settings are those of the preset of this name, where there is one"""
TINY = MemitSettings(layers=(0, 1), lambda_=100.0, sequence_length=64)

SUBJECT, PROMPT_END, OBJECT, CONTEXT = 4, 6, (1, 2, 3), 11
"""tokens, as in CounterFact: of a subject, of the prompt after it, of objects in turn, of a context"""
CONTEXTS = 5  # contexts beside the empty one
PROJECTED = 10_000

PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L4": 121e12, "4090": 165e12}
"""makers' peak FLOP/s of dense 16-bit matrix products with 32-bit sums, by a word of the device's name"""


def bench_gpu(
    config: str,
    edits: int,
    *,
    steps: int = 25,
    tokens: int = 2_000_000,
    dtype: str | None = None,
    memory_cap: float | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Time targets, covariance and insertion on the best device there is; `memory_cap` in GB of 10^9 bytes."""
    if config not in CONFIGS:
        raise SettingsError(f"--config {config} is not one of {', '.join(CONFIGS)}")
    device = choose_device(None)
    with capped(device, memory_cap):
        progress("making the model", 0, 1)
        loaded = random_model(CONFIGS[config], device, choose_dtype(dtype, device, torch.bfloat16))
        progress("making the model", 1, 1)
        preset = load_preset(config)
        settings = replace(preset.settings if preset else TINY, steps=steps, covariance_tokens=tokens)
        return Run(config, loaded, settings, edits).measured(memory_cap, progress)


@contextmanager
def capped(device: torch.device, memory_cap: float | None) -> Iterator[None]:
    """Hold this process's memory on a CUDA device under a cap in GB; nothing where it is None."""
    if memory_cap is None:
        yield
        return
    if device.type != "cuda":
        raise SettingsError(f"--memory-cap needs a CUDA device, and this is {device.type}: leave it out")
    number = torch.cuda.current_device() if device.index is None else device.index  # a bare "cuda" is refused below
    total = torch.cuda.get_device_properties(number).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, memory_cap * 1e9 / total), number)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, number)


def random_model(config: PreTrainedConfig, device: torch.device, dtype: torch.dtype) -> LoadedModel:
    """Make a model with random weights right on the device, and a tokenizer whose words are its tokens."""
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.eval().requires_grad_(False)
    words = Tokenizer(WordLevel({f"w{number}": number for number in range(config.vocab_size)}, unk_token="w0"))
    words.pre_tokenizer = WhitespaceSplit()
    return LoadedModel("random weights", model, PreTrainedTokenizerFast(tokenizer_object=words), family_of(config))


class Run:
    def __init__(self, config: str, loaded: LoadedModel, settings: MemitSettings, edits: int) -> None:
        self.config, self.loaded, self.settings, self.edits = config, loaded, settings, edits
        self.draw = random.Random(0)
        self.contexts = ["{}", *(f"{self.words(CONTEXT)} {{}}" for _ in range(CONTEXTS))]
        self.groups = group_requests(loaded, [self.request(number) for number in range(edits)])
        tokens, length = settings.covariance_tokens or 0, settings.sequence_length
        self.lines = [self.words(min(length, tokens - start)) for start in range(0, tokens, length)]
        self.clock = Phases(str(loaded.device))

    def words(self, count: int) -> str:
        every = range(self.loaded.model.config.vocab_size)
        return " ".join(f"w{number}" for number in self.draw.choices(every, k=count))

    def request(self, number: int) -> EditRequest:
        target = self.words(OBJECT[number % len(OBJECT)])
        return EditRequest("P1", self.words(SUBJECT), f"{{}} {self.words(PROMPT_END)}", target)

    def measured(self, memory_cap: float | None, progress: Progress) -> dict[str, Any]:
        loaded, groups, settings = self.loaded, self.groups, self.settings
        optimise_targets(loaded, groups[:2], self.contexts, replace(settings, steps=2))  # what is made at first use
        with self.clock.phase("targets"):
            found = optimise_targets(loaded, groups, self.contexts, settings, progress=progress, stop_loss=-math.inf)
            z = torch.stack([target.z for target in found])
        with self.clock.phase("covariance"):
            covariances, tokens = collect_covariances(loaded, self.lines, settings, progress)
            covariances = {layer: value.float().cpu() for layer, value in covariances.items()}  # as apply keeps them
        with self.clock.phase("insertion"):
            spread(loaded, groups, self.contexts, z, covariances, settings, progress)
        peak, stated = peak_flops(loaded.device, loaded.model.dtype)
        needed = {"targets": targets_flops(self), "covariance": covariance_flops(self, tokens)}
        editing = self.clock.seconds["targets"] + self.clock.seconds["insertion"]
        return {
            "config": self.config,
            "device": torch.cuda.get_device_name(loaded.device) if loaded.device.type == "cuda" else loaded.device.type,
            "dtype": str(loaded.model.dtype).removeprefix("torch."),
            "parameters": sum(parameter.numel() for parameter in loaded.model.parameters()),
            "edits": self.edits,
            "steps": settings.steps,
            "covariance_tokens": tokens,
            "seconds": self.clock.seconds,
            "requests_per_second": round(self.edits / editing, 3),  # a covariance is taken once for a model
            "tokens_per_second": round(tokens / self.clock.seconds["covariance"], 1),
            "peak_tflops": round(peak / 1e12, 3),
            "peak_stated": stated,
            # percent of the peak
            "share": {phase: round(100 * needed[phase] / self.clock.seconds[phase] / peak, 2) for phase in needed},
            "peak_memory_mb": self.clock.peak_mb,  # the model included
            "memory_cap_gb": memory_cap,
            # of 10,000 edits, targets and insertion taken as growing with their number
            "projected_seconds": round(editing * PROJECTED / self.edits, 1) if self.edits < PROJECTED else None,
        }


def block_elements(loaded: LoadedModel) -> int:
    """Return N: elements of all matrices of one block."""
    block = loaded.family.block_list(loaded.model)[0]
    return sum(parameter.numel() for parameter in block.parameters() if parameter.dim() == 2)


def targets_flops(run: Run) -> float:
    """Return the needed arithmetic of the target search (formula at the top of this file)."""
    loaded, steps = run.loaded, run.settings.steps
    rows = [group_rows(loaded, group, run.contexts) for group in run.groups]
    before = sum(len(prefix) for group in rows for prefix in group.prefixes)
    after = sum(len(suffix) for group in rows for suffix in group.suffixes)
    read = sum(max(1, len(reads)) for group in rows for reads in group.reads)  # one for the KL term
    depth, upto = len(loaded.family.block_list(loaded.model)), run.settings.layers[-1] + 1
    elements = block_elements(loaded)
    once = 2.0 * elements * (depth * before + upto * after)
    head: int = loaded.model.get_output_embeddings().weight.numel()
    step = 2.0 * (elements * (depth - upto) * after + head * read)
    return once + (2 * steps - 1) * step


def covariance_flops(run: Run, tokens: int) -> float:
    """Return the needed arithmetic of the covariance (formula at the top of this file)."""
    layers = run.settings.layers
    m = run.loaded.family.weight(run.loaded.model, layers[-1]).shape[1]
    return 2.0 * tokens * (block_elements(run.loaded) * (layers[-1] + 1) + m * m * len(layers))


def peak_flops(device: torch.device, dtype: torch.dtype) -> tuple[float, bool]:
    """Return the device's peak FLOP/s for matrix products, and whether it is its maker's figure or was measured."""
    if device.type == "cuda" and dtype in (torch.bfloat16, torch.float16):
        name = torch.cuda.get_device_name(device)
        for word in re.split(r"[\s-]", name):
            if word in PEAKS and "PCIe" not in name:  # a card in a slot is slower than the table's
                return PEAKS[word], True
    size = 4096 if device.type == "cuda" else 1024
    matrix = torch.randn(size, size, device=device).to(dtype)
    seconds = math.inf
    for _ in range(5):
        synchronise(device)
        began = time.perf_counter()
        matrix @ matrix
        synchronise(device)
        seconds = min(seconds, time.perf_counter() - began)
    return 2 * size**3 / seconds, False


def gpu_view(bench: dict[str, Any]) -> Parts:
    """Yield seconds, memory and share of the peak by phase, the rates, and the projection."""
    rows = [
        (phase, seconds, bench["peak_memory_mb"][phase], bench["share"].get(phase))
        for phase, seconds in bench["seconds"].items()
    ]
    title = "{edits} edits, {config} ({parameters:.3g} random parameters)".format(**bench)
    yield table(("phase", "seconds", "peak memory, MB", "% of peak"), rows, title=title)
    yield "{requests_per_second:g} requests a second with {steps} steps each".format(**bench)
    yield "covariance: {covariance_tokens} tokens, {tokens_per_second:g} a second".format(**bench)
    stated = "as stated" if bench["peak_stated"] else "measured"
    yield "{device}, {dtype}, peak {peak_tflops:g} TFLOP/s, ".format(**bench) + stated
    if bench["memory_cap_gb"] is not None:
        yield f"memory capped at {bench['memory_cap_gb']:g} GB"
    if bench["projected_seconds"] is not None:
        yield f"projected for 10,000 edits: {bench['projected_seconds'] / 60:.1f} minutes"
