"""GGUF files: a base model's file with some tensors replaced and all else as it is, and one made of a checkpoint.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch

from kbsync.errors import KbsyncError, ModelError, SettingsError
from kbsync.models import LoadedModel

if TYPE_CHECKING:
    from gguf import GGUFReader, GGUFWriter


QUANTS = ("F16", "Q8_0")
OURS = "kbsync."
"""what the keys of kbsync's own metadata begin with"""
STRING = 8
"""the type of a text in the metadata"""
Encoded = tuple[int, np.ndarray[Any, Any]]
"""the number of a tensor's type, and its values in that type"""

# How llama.cpp names what parts a text into words, by the tokenizer's own description of it.
DIGITS = {"type": "Digits", "individual_digits": True}
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PARTINGS: dict[str, list[dict[str, Any]]] = {
    "gpt-2": [],
    "smollm": [DIGITS],
    "llama-bpe": [{"type": "Split", "pattern": {"Regex": WORDS % "{1,3}"}}],
    "qwen2": [{"type": "Split", "pattern": {"Regex": WORDS % ""}}],
}
ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2"}
"""transformers' ``model_type`` -> the architecture in whose form it is written"""


def name_of(layer: int) -> str:
    """Return what every architecture of GGUF calls the down projection of block `layer`."""
    return f"blk.{layer}.ffn_down.weight"


def encode(weight: torch.Tensor, quant: str, what: str) -> Encoded:
    """Return a weight [d, m] as the tensor type that `quant` names; raise SettingsError where it does not fit."""
    from gguf import GGMLQuantizationType, quants

    values = weight.detach().float().cpu().contiguous().numpy()
    if quant != "F16" and values.shape[1] % 32:
        raise SettingsError(
            f"{what} has rows of {values.shape[1]}, and {quant} needs a multiple of 32: use --quant F16"
        )
    kind = GGMLQuantizationType[quant]
    encoded = quants.quantize(values, kind)
    if quant == "F16" and not np.isfinite(encoded).all():
        raise SettingsError(f"{what} has values beyond F16's range: use --quant Q8_0")
    return int(kind), encoded


def decode(encoded: Encoded) -> torch.Tensor:
    """Return what a reader makes of an encoded tensor, in float32."""
    from gguf import GGMLQuantizationType, quants

    return torch.from_numpy(quants.dequantize(encoded[1], GGMLQuantizationType(encoded[0])))


def read_tensor(file: Path, name: str) -> torch.Tensor:
    """Return one tensor of a file as float32; raise ModelError where it is not there."""
    found = next((one for one in opened(file).tensors if one.name == name), None)
    if found is None:
        raise ModelError(f"{file} has no tensor {name}")
    return decode((int(found.tensor_type), np.array(found.data)))


def contents(file: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return kbsync's own metadata in a file, and the SHA-256 of each tensor by name."""
    reader = opened(file)
    ours = {key: str(field.contents()) for key, field in reader.fields.items() if key.startswith(OURS)}
    return ours, {one.name: sha256(one.data) for one in reader.tensors}


def rewrite(
    base: Path, out: Path, replaced: Mapping[str, Encoded], metadata: Callable[[Mapping[str, str]], Mapping[str, str]]
) -> None:
    """Write `base` again as `out` with some tensors replaced and metadata of kbsync's added.

    All other tensors and all other metadata keep their bytes and their order; values are copied from file to file.
    `metadata` is given the SHA-256 of each tensor, and its keys are to begin with `OURS`: what `base` had of those is
    left out.
    """
    reader = opened(base)
    tensors = {one.name: one for one in reader.tensors}
    for name, (_, new) in replaced.items():
        if name not in tensors or tensors[name].n_elements != decode(replaced[name]).numel():
            raise ModelError(f"{base} is of another model: it has no tensor {name} of {new.shape[0]} rows as long")
    values = {name: replaced[name][1] if name in replaced else one.data for name, one in tensors.items()}
    ours = metadata({name: sha256(value) for name, value in values.items()})
    fields = [field for key, field in reader.fields.items() if not key.startswith("GGUF.")]
    ends = [*(field.offset for field in fields[1:]), reader.tensors[0].field.offset]
    kept = [(f.offset, end) for f, end in zip(fields, ends, strict=True) if not f.name.startswith(OURS)]
    version = int(reader.fields["GGUF.version"].contents())
    with out.open("wb") as file:
        file.write(struct.pack("<4sIQQ", b"GGUF", version, len(tensors), len(kept) + len(ours)))
        for start, end in kept:
            reader.data[start:end].tofile(file)
        for key, text in ours.items():
            file.write(packed(key) + struct.pack("<I", STRING) + packed(text))
        in_place = sorted(reader.tensors, key=lambda one: one.data_offset)
        offsets, offset = {}, 0
        for one in in_place:
            offsets[one.name] = offset
            offset += -(-values[one.name].nbytes // reader.alignment) * reader.alignment
        for one in reader.tensors:
            *head, kind, _ = one.field.parts
            file.write(b"".join(part.tobytes() for part in head))
            file.write(
                struct.pack("<IQ", replaced[one.name][0] if one.name in replaced else kind[0], offsets[one.name])
            )
        pad(file, reader.alignment)
        for one in in_place:
            np.ascontiguousarray(values[one.name]).tofile(file)
            pad(file, reader.alignment)


def opened(file: Path) -> "GGUFReader":
    """Return a reader of a file, whose values are mapped into memory, not read."""
    from gguf import GGUFEndian, GGUFReader

    try:
        reader = GGUFReader(file)
    except (ValueError, KeyError, IndexError, OSError) as error:
        raise ModelError(f"{file} cannot be read as a GGUF file: {error}") from error
    if reader.endianess != GGUFEndian.LITTLE:
        raise ModelError(f"{file} is a big-endian GGUF file, which kbsync does not write")
    if not reader.tensors:
        raise ModelError(f"{file} holds no tensors")
    return reader


def sha256(values: np.ndarray[Any, Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data).hexdigest()


def packed(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def pad(file: BinaryIO, alignment: int) -> None:
    file.write(bytes(-file.tell() % alignment))


def write_base(loaded: LoadedModel, out: Path) -> None:
    """Write a loaded model of the Llama family as a GGUF file: matrices in F16, norms and biases in F32."""
    from gguf import MODEL_ARCH_NAMES, GGUFWriter, get_tensor_name_map

    config: Any = loaded.model.config
    architecture = ARCHITECTURES.get(config.model_type)
    rope = getattr(config, "rope_parameters", None) or {}
    if architecture is None:
        raise unknown(loaded, f"model type {config.model_type!r}")
    if rope.get("rope_type", "default") != "default":
        raise unknown(loaded, "its rotary embedding")
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        raise unknown(loaded, "its attention's sliding window")
    writer = GGUFWriter(out, architecture, use_temp_file=True)
    add_sizes(writer, config, float(rope.get("rope_theta", 10000.0)))
    add_words(writer, loaded)
    number = next(key for key, name in MODEL_ARCH_NAMES.items() if name == architecture)
    names = get_tensor_name_map(number, config.num_hidden_layers)
    tied = loaded.model.get_output_embeddings().weight is loaded.model.get_input_embeddings().weight
    for name, weight in loaded.model.state_dict().items():
        if tied and name == "lm_head.weight":
            continue
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise unknown(loaded, f"tensor {name}")
        heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(found.split(".")[-2])
        if heads is not None and architecture == "llama":
            weight = neighbours(weight, heads)
        values = weight.detach().float().cpu().contiguous().numpy()
        writer.add_tensor(found, values.astype(np.float16) if values.ndim > 1 else values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_sizes(writer: "GGUFWriter", config: Any, theta: float) -> None:
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(size)
    writer.add_rope_freq_base(theta)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(1)  # mostly F16


def add_words(writer: "GGUFWriter", loaded: LoadedModel) -> None:
    """Add the tokenizer, which is to be a byte-level BPE whose way to part a text llama.cpp has a name for."""
    tokenizer = loaded.tokenizer
    words = json.loads(tokenizer.backend_tokenizer.to_str())
    parting = words.get("pre_tokenizer") or {}
    parts = parting.get("pretokenizers", [parting])
    shapes = [{key: part[key] for key in ("type", "individual_digits", "pattern") if key in part} for part in parts]
    named = next((name for name, known in PARTINGS.items() if [*known, {"type": "ByteLevel"}] == shapes), None)
    if words["model"].get("type") != "BPE" or named is None:
        raise unknown(loaded, "its tokenizer")
    added = {word["id"]: word for word in words["added_tokens"]}
    by_number = {number: word for word, number in tokenizer.get_vocab().items()}
    size = loaded.model.get_input_embeddings().num_embeddings
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(named)
    writer.add_token_list([by_number.get(number, f"[PAD{number}]") for number in range(size)])  # type: ignore[arg-type]
    kinds = {True: 3, False: 4}  # control, user-defined; else 1, normal, and 5, unused
    writer.add_token_types(
        [
            kinds[added[number]["special"]] if number in added else 1 if number in by_number else 5
            for number in range(size)  # type: ignore[arg-type]
        ]
    )
    merges = words["model"]["merges"]
    writer.add_token_merges([one if isinstance(one, str) else " ".join(one) for one in merges])
    for name in ("bos", "eos", "unk", "pad"):
        if (number := getattr(tokenizer, f"{name}_token_id")) is not None:
            getattr(writer, f"add_{name}_token_id")(number)
    writer.add_add_bos_token(tokenizer("x")["input_ids"][0] == tokenizer.bos_token_id)
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)


def neighbours(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Reorder the rows of each head: llama.cpp rotates neighbours where transformers rotates halves."""
    halves = weight.view(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.transpose(1, 2).reshape(weight.shape)


def unknown(loaded: LoadedModel, what: str) -> KbsyncError:
    return ModelError(
        f"{loaded.source}: {what} is not one that is written as GGUF from a checkpoint; name a GGUF file of the same"
        " model with --onto, and its edited tensors are replaced"
    )
