"""A tiny Llama as a GGUF file, the form in which llama.cpp writes it."""

import json
from pathlib import Path

import torch
from gguf import GGUFWriter
from safetensors.torch import load_file

__all__ = ["write_gguf"]

PARTS = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    **{f"self_attn.{part}_proj": f"attn_{part}" for part in "qkv"},
    "self_attn.o_proj": "attn_output",
    **{f"mlp.{part}_proj": f"ffn_{part}" for part in ("gate", "up", "down")},
}
WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def write_gguf(folder: Path, file: Path, architecture: str = "llama") -> None:
    """Write the checkpoint of a Llama in `folder` as `file`; each weight keeps its value."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    words = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = {**words["model"]["vocab"], **{word["content"]: word["id"] for word in words["added_tokens"]}}
    special = {word["content"] for word in words["added_tokens"]}
    heads, kept = config["num_attention_heads"], config["num_key_value_heads"]
    writer = GGUFWriter(file, architecture)
    writer.add_name("tiny")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_rope_dimension_count(config["hidden_size"] // heads)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kept)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("gpt2")
    in_order = sorted(vocabulary, key=vocabulary.__getitem__)
    writer.add_token_list(in_order)
    writer.add_token_types([3 if word in special else 1 for word in in_order])
    writer.add_token_merges([" ".join(pair) for pair in words["model"]["merges"]])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    if (template := folder / "chat_template.jinja").exists():
        writer.add_chat_template(template.read_text(encoding="utf-8"))
    for name, weight in load_file(folder / "model.safetensors").items():
        path = name.removesuffix(".weight")
        if path not in WHOLE:
            _, _, block, part = path.split(".", 3)
            path = f"blk.{block}.{PARTS[part]}"
        if path.endswith(("attn_q", "attn_k")):
            weight = in_pairs(weight, heads if path.endswith("q") else kept)
        writer.add_tensor(f"{WHOLE.get(path, path)}.weight", weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def in_pairs(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Put the rows of each head in the order of llama.cpp, which turns neighbours where transformers turns halves."""
    halves = weight.view(heads, 2, weight.shape[0] // heads // 2, -1)
    return halves.transpose(1, 2).reshape(weight.shape).contiguous()
