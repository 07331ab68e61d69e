"""Configs of tiny models: one of each family, and variants that a family's config can ask for."""

from collections.abc import Callable
from typing import Any

from transformers import (
    BloomConfig,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTJConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    OPTConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
    StableLmConfig,
)

Build = Callable[..., Any]

HEADS: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4}
GROUPED: dict[str, Any] = {**HEADS, "num_key_value_heads": 2, "intermediate_size": 48}
"""keys and values shared by two heads each"""
WINDOW: dict[str, Any] = {"sliding_window": 4}
"""shorter than the rows of the tests"""
GEMMA: dict[str, Any] = {**GROUPED, **WINDOW, "head_dim": 8, "query_pre_attn_scalar": 8}
MIXED = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]

# The inner layer of GPT-2 is as wide as the hidden state, so that no shape tells a transposed weight.
CONFIGS: dict[str, Build] = {
    "gptj": lambda **given: GPTJConfig(n_embd=32, n_layer=4, n_head=4, n_inner=64, rotary_dim=4, **given),
    "gpt2": lambda **given: GPT2Config(n_embd=32, n_layer=4, n_head=4, n_inner=32, **given),
    "gpt_neox": lambda **given: GPTNeoXConfig(**HEADS, intermediate_size=56, **given),
    "llama": lambda **given: LlamaConfig(**GROUPED, **given),
    "mistral": lambda **given: MistralConfig(**GROUPED, **WINDOW, **given),
    "qwen2": lambda **given: Qwen2Config(**GROUPED, **WINDOW, use_sliding_window=True, max_window_layers=2, **given),
    "qwen3": lambda **given: Qwen3Config(**GROUPED, head_dim=12, tie_word_embeddings=True, **given),
    "gemma2": lambda **given: Gemma2Config(**GEMMA, final_logit_softcapping=30.0, **given),
    "gemma3_text": lambda **given: Gemma3TextConfig(**GEMMA, layer_types=MIXED, **given),
    "phi3": lambda **given: Phi3Config(**GROUPED, **WINDOW, pad_token_id=0, **given),
    "olmo2": lambda **given: Olmo2Config(**GROUPED, **given),
    "stablelm": lambda **given: StableLmConfig(**GROUPED, use_qkv_bias=True, **given),
    "falcon": lambda **given: FalconConfig(**HEADS, ffn_hidden_size=48, **given),
    "bloom": lambda **given: BloomConfig(hidden_size=32, n_layer=4, n_head=4, **given),
    "opt": lambda **given: OPTConfig(**HEADS, ffn_dim=48, dropout=0.0, max_position_embeddings=128, **given),
}
"""model type -> config of a tiny model"""

VARIANTS: dict[str, Build] = {
    "gpt_neox-serial": lambda **given: GPTNeoXConfig(
        **HEADS, intermediate_size=56, use_parallel_residual=False, attention_bias=False, **given
    ),
    "llama-biased": lambda **given: LlamaConfig(
        **GROUPED, attention_bias=True, mlp_bias=True, tie_word_embeddings=True, **given
    ),
    "stablelm-parallel": lambda **given: StableLmConfig(
        **GROUPED, use_parallel_residual=True, qk_layernorm=True, **given
    ),
    "falcon-alibi": lambda **given: FalconConfig(
        **HEADS, ffn_hidden_size=48, alibi=True, parallel_attn=False, multi_query=False, bias=True, **given
    ),
    "falcon-grouped": lambda **given: FalconConfig(
        **HEADS, ffn_hidden_size=48, new_decoder_architecture=True, num_kv_heads=2, **given
    ),
}
"""what else checkpoints of these families hold: serial and parallel blocks, biases, ALiBi, norms of queries and keys"""

BEGIN_WITH_BOS = {"llama", "llama-biased", "mistral", "gemma2", "gemma3_text", "opt"}
"""those whose tokenizers put a token before each text"""
