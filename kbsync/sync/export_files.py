"""The files of each export format: written, sealed with the bill of materials, and read back."""

import hashlib
import json
import shutil
import struct
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from kbsync.errors import EditError, KbsyncError, SettingsError
from kbsync.memit import edited
from kbsync.memit.delta import with_delta
from kbsync.models import LoadedModel
from kbsync.sync.export_bill import KEY, Bill
from kbsync.sync.export_gguf import Encoded, contents, decode, encode, name_of, read_tensor, rewrite, write_base
from kbsync.sync.model import delta_matrices

FORMATS = ("checkpoint", "lora", "gguf", "delta")
RANKS = (16, 32, 64, 128, 256, 512)
"""of a LoRA, of which the smallest is taken that keeps `ENERGY`, or else the largest"""
ENERGY = 0.999
"""of each layer's delta, as a share of its squared Frobenius norm"""
Deltas = Mapping[int, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Form:
    format: str = "checkpoint"
    rank: int | None = None
    """of a LoRA; None: by `RANKS` and `ENERGY`"""
    quant: str = "F16"
    """of a GGUF file's edited tensors"""
    onto: Path | None = None
    """a GGUF file of the base model to put the edited tensors into; None: the model's own, or one made of it"""


def write(
    loaded: LoadedModel, tensors: Mapping[str, torch.Tensor], folder: Path, name: str, form: Form, bill: Bill
) -> tuple[list[Path], Bill]:
    """Write a state's files into `folder`, each sealed with the bill; return those with weights, and the bill of all.

    `tensors` are those of the batch's file.
    """
    deltas = delta_matrices(tensors)
    folder.mkdir(parents=True, exist_ok=True)
    if form.format == "gguf":
        write_gguf(loaded, deltas, folder / f"{name}-{form.quant}.gguf", form, bill)
    elif form.format == "checkpoint":
        with edited(loaded, deltas), warnings.catch_warnings():
            # Of an offloaded model one shard at a time is in memory; transformers warns as if it were 50 GB.
            warnings.filterwarnings("ignore", "Attempting to save a model with offloaded modules")
            loaded.model.save_pretrained(folder, max_shard_size="5GB")
        loaded.tokenizer.save_pretrained(folder)
    elif form.format == "lora":
        write_lora(loaded, deltas, folder, form.rank)
    else:
        save_file({key: one.contiguous() for key, one in tensors.items()}, folder / "delta.safetensors")
    files = weights_in(folder)
    if form.format != "gguf":
        seen = deviations(deltas, changes_in(files, loaded, deltas))
        for file in files:
            seal(file, replace(bill, deviation=seen))
    sealed = [bill_in(file) for file in files]
    return files, replace(
        sealed[0][0] or bill, tensors={key: value for _, each in sealed for key, value in each.items()}
    )


def weights_in(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    return sorted(path for path in place.glob("*") if path.suffix in (".safetensors", ".gguf"))


def write_lora(loaded: LoadedModel, deltas: Deltas, folder: Path, rank: int | None) -> None:
    """Write the deltas as a PEFT adapter: B [d, r] A [r, m], whose product is the best of its rank."""
    parts = {layer: factors(delta) for layer, delta in deltas.items()}
    most = min(min(delta.shape) for delta in deltas.values())
    if rank is None:
        squares = [values.square() for _, values, _ in parts.values()]
        wanted = max(int((one.cumsum(0) / one.sum() < ENERGY).sum()) + 1 for one in squares)
        rank = min(most, next((one for one in RANKS if one >= wanted), RANKS[-1]))
    if not 1 <= rank <= most:
        raise SettingsError(f"--rank {rank}: the layers of this model have ranks of 1 to {most}")
    family, tensors = loaded.family, {}
    for layer, (left, values, right) in parts.items():
        root = values[:rank].sqrt()
        name = f"base_model.model.{family.blocks}.{layer}.{family.down}"
        tensors[f"{name}.lora_A.weight"] = (root[:, None] * right[:rank]).float().contiguous()
        tensors[f"{name}.lora_B.weight"] = (left[:, :rank] * root).float().contiguous()
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    last = family.down.rpartition(".")[2]
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": loaded.source,
        "r": rank,
        "lora_alpha": rank,  # so that the product is added as it is
        "lora_dropout": 0.0,
        "bias": "none",
        # Servers know modules by their last name; where the attention has one of that name too, that is not enough.
        "target_modules": [family.down if (family.attention or "").endswith(last) else last],
        "layers_to_transform": sorted(deltas),
        "layers_pattern": family.blocks.rpartition(".")[2],
        "fan_in_fan_out": family.orientation == "conv1d",
        "inference_mode": True,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def factors(delta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return U [d, d], the singular values [d] (largest first) and V^T [d, m] of a delta [d, m], in float64.

    By the eigenvectors of delta delta^T, as d is far below m: values below 1e-8 of the largest are noise, and zero.
    """
    whole = delta.double()
    _, left = torch.linalg.eigh(whole @ whole.T)
    left = left.flip(1)
    right = left.T @ whole
    values = right.norm(dim=1)
    real = values > 1e-8 * values[0]
    return left, values * real, torch.where(real[:, None], right / values[:, None], 0.0)


def write_gguf(loaded: LoadedModel, deltas: Deltas, out: Path, form: Form, bill: Bill) -> None:
    """Write the base model's GGUF file with the edited layers' tensors in place of its own."""
    new: dict[str, Encoded] = {}
    changes = {}
    for layer, delta in deltas.items():
        base = loaded.weight(layer)
        new[name_of(layer)] = encode(with_delta(base, delta), form.quant, f"layer {layer}")
        changes[layer] = decode(new[name_of(layer)]) - base.float().cpu()
    seen = deviations(deltas, changes.items())
    source, made = form.onto, out.with_suffix(".base")
    if source is None and loaded.source.lower().endswith(".gguf"):
        source = Path(loaded.source)
        if not source.is_file():
            from huggingface_hub import hf_hub_download

            repository, _, name = loaded.source.partition(":")
            source = Path(hf_hub_download(repository, name, local_files_only=True))
    if source is None:
        write_base(loaded, made)
    rewrite(source or made, out, new, lambda hashes: {KEY: replace(bill, tensors=hashes, deviation=seen).text()})
    made.unlink(missing_ok=True)


def deviations(deltas: Deltas, changes: Iterable[tuple[int, torch.Tensor]]) -> dict[str, float]:
    """Return |change - delta| / |delta| of each layer; raise EditError where a change is no number."""
    seen = {}
    for layer, change in changes:
        delta = deltas[layer]
        if not torch.isfinite(change).all():
            raise EditError(f"layer {layer} is not finite in the file's precision; use --dtype bfloat16 or float32")
        seen[str(layer)] = round(float((change - delta).norm() / delta.norm()), 6)
    return seen


def changes_in(files: Iterable[Path], loaded: LoadedModel, layers: Iterable[int]) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield the change [d, m] of each layer's base weights that exported files make; `loaded` is the base model."""
    family = loaded.family
    found: dict[str, Path] = {}
    for file in (file for file in files if file.suffix == ".safetensors"):
        with safe_open(file, "pt") as opened:
            found |= dict.fromkeys(opened.keys(), file)
    quantised = next((file for file in files if file.suffix == ".gguf"), None)
    stored = delta_matrices({key: tensor(found, key) for key in found if key.partition(".")[2].isdigit()})
    for layer in layers:
        name = f"{family.blocks}.{layer}.{family.down}"
        if layer in stored:
            yield layer, stored[layer]
        elif (low := f"base_model.model.{name}.lora_B.weight") in found:
            yield layer, tensor(found, low) @ tensor(found, low.replace("lora_B", "lora_A"))
        elif quantised is not None:
            yield layer, read_tensor(quantised, name_of(layer)) - loaded.weight(layer).float().cpu()
        elif f"{name}.weight" in found:
            weight = tensor(found, f"{name}.weight")
            turned = weight if family.orientation == "linear" else weight.T
            yield layer, turned - loaded.weight(layer).float().cpu()
        else:
            raise KbsyncError(f"there is nothing of layer {layer} in the exported files")


def tensor(found: Mapping[str, Path], key: str) -> torch.Tensor:
    with safe_open(found[key], "pt") as opened:
        value: torch.Tensor = opened.get_tensor(key)
        return value.float()


def bill_in(file: Path) -> tuple[Bill | None, dict[str, str]]:
    """Return the bill that a file carries, None where it has none, and the SHA-256 of each of its tensors as it is."""
    if file.suffix == ".gguf":
        ours, hashes = contents(file)
        text = ours.get(KEY)
    else:
        header, hashes = header_of(file)
        text = header.get("__metadata__", {}).get(KEY)
    return (None if text is None else Bill.read(text, file)), hashes


def header_of(file: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the header of a safetensors file, and the SHA-256 of each tensor's bytes."""
    try:
        with file.open("rb") as opened:
            (size,) = struct.unpack("<Q", opened.read(8))
            header: dict[str, Any] = json.loads(opened.read(size))
            hashes = {}
            for name, one in header.items():
                if name == "__metadata__":
                    continue
                start, end = one["data_offsets"]
                opened.seek(8 + size + start)
                digest, left = hashlib.sha256(), end - start
                while left and (block := opened.read(min(left, 2**22))):
                    digest.update(block)
                    left -= len(block)
                hashes[name] = digest.hexdigest()
    except (OSError, ValueError, struct.error, LookupError, TypeError, AttributeError) as error:
        raise KbsyncError(f"{file} cannot be read as a safetensors file: {error}") from error
    return header, hashes


def seal(file: Path, bill: Bill) -> None:
    """Put the bill, with the hashes of the file's tensors, into the header of a safetensors file; values stay."""
    header, hashes = header_of(file)
    before = header.get("__metadata__") or {}
    header["__metadata__"] = {**before, KEY: replace(bill, tensors=hashes).text()}
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    sealed = file.with_suffix(".sealed")
    with file.open("rb") as old, sealed.open("wb") as new:
        (size,) = struct.unpack("<Q", old.read(8))
        old.seek(8 + size)
        new.write(struct.pack("<Q", len(head)) + head)
        shutil.copyfileobj(old, new, 2**22)
    sealed.replace(file)
