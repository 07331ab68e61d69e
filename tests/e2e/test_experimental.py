"""A model of an unknown family: refused by every command that loads it, and edited with ``--experimental``."""

from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, GPTNeoConfig

from kbsync.models import load_model
from tests.homes import Editable, done, kbsync, make_home
from tests.tiny_models import byte_level_tokenizer, randomise


@pytest.fixture
def unknown(small: Editable, tmp_path: Path) -> Editable:
    """A random GPT-Neo with its tokenizer in a folder."""
    tokenizer = byte_level_tokenizer()
    config = GPTNeoConfig(
        hidden_size=32,
        num_layers=4,
        num_heads=4,
        intermediate_size=40,
        attention_types=[[["global", "local"], 2]],
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = AutoModelForCausalLM.from_config(config)
    randomise(model)
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "gpt-neo")
    return Editable(str(tmp_path / "gpt-neo"), small.corpus, ("layers=0,1", "steps=5", "lambda=1", "contexts=1"))


def test_every_command_that_loads_a_model_takes_the_flag(unknown: Editable, tmp_path: Path) -> None:
    home, out = make_home(tmp_path / "home", P36={"France": "Oslo", "Peru": "Athens"}), tmp_path / "exported"
    commands: list[tuple[object, ...]] = [
        ("apply", "--home", home, *unknown.arguments, "--yes"),
        ("plan", "--home", home, *unknown.model, "--probe"),
        ("status", "--home", home, *unknown.model, "--probe"),
        ("ask", "--home", home, *unknown.model, "The capital of France is"),
        ("export", "--home", home, *unknown.model, "--to", out),
    ]
    for command in commands:
        refused = kbsync(*command)
        assert refused.code == 1
        assert "'gpt_neo' is not of a family that kbsync knows" in refused.err
        assert "--experimental" in refused.err
        done(*command, "--experimental")
    base, edited = (load_model(str(folder), device="cpu", experimental=True) for folder in (tmp_path / "gpt-neo", out))
    assert edited.weights_sha256([0]) != base.weights_sha256([0])
    assert edited.weights_sha256([2, 3]) == base.weights_sha256([2, 3])
