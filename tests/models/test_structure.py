"""Families read by structure: those of the table come out as the table has them; what does not fit is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    CohereConfig,
    GPTNeoConfig,
    GraniteConfig,
    MambaConfig,
    MixtralConfig,
    Olmo3Config,
    PreTrainedConfig,
)

from kbsync.errors import ModelError
from kbsync.models import Family, LoadedModel, load_model
from kbsync.models.structure import family_by_structure, settle
from tests.tiny_configs import GROUPED, HEADS
from tests.tiny_models import byte_level_tokenizer, randomise

Save = Callable[[PreTrainedConfig], str]
SIZES: dict[str, Any] = {"vocab_size": 340, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
GPT_NEO = GPTNeoConfig(
    hidden_size=32, num_layers=4, num_heads=4, intermediate_size=40, attention_types=[[["global", "local"], 2]], **SIZES
)
OLMO_3 = Olmo3Config(**GROUPED, **SIZES)


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Save a random model of a config with a tokenizer."""

    def save(config: PreTrainedConfig) -> str:
        model = AutoModelForCausalLM.from_config(config)
        randomise(model)
        model.save_pretrained(tmp_path)
        byte_level_tokenizer().save_pretrained(tmp_path)
        return str(tmp_path)

    return save


def test_a_known_family_is_read_as_the_table_has_it(tiny: LoadedModel) -> None:
    read = settle(replace(tiny, family=family_by_structure(tiny.model, tiny.model.config)))
    table = replace(tiny.family, attention=None, attention_norm=None)  # not read, since nothing would try it
    assert replace(read.family, name=table.name) == table


@pytest.mark.parametrize(
    ("config", "family"),
    [
        (GPT_NEO, ("transformer.h", "mlp.c_proj", "linear", None)),
        (OLMO_3, ("model.layers", "mlp.down_proj", "linear", "post_feedforward_layernorm")),
    ],
    ids=["gpt_neo", "olmo3"],
)
def test_an_unknown_family_is_read_where_it_is_asked_for(
    save: Save, config: PreTrainedConfig, family: tuple[str, str, str, str | None]
) -> None:
    folder = save(config)
    with pytest.raises(ModelError, match=f"'{config.model_type}' is not of a family .* --experimental reads another"):
        load_model(folder, device="cpu")
    found = load_model(folder, device="cpu", experimental=True).family
    assert found == Family(found.name, *family)  # type: ignore[arg-type]
    assert "read by its structure" in found.name


def test_half_precision_is_read_too(save: Save) -> None:
    loaded = load_model(save(GPT_NEO), device="cpu", dtype="bfloat16", experimental=True)
    assert loaded.family.down == "mlp.c_proj"
    assert loaded.model.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (CohereConfig(**{**GROUPED, **SIZES}), "the log-probability of its head is off by"),
        (
            GraniteConfig(**{**GROUPED, **SIZES}, residual_multiplier=0.5),
            "what a block adds when mlp.down_proj gives more",
        ),
        (MambaConfig(hidden_size=32, num_hidden_layers=4, **SIZES), "0 lists of 4 blocks with an MLP were found"),
        (BertConfig(**HEADS, intermediate_size=40, is_decoder=False, **SIZES), "is off by"),
        (MixtralConfig(**{**GROUPED, **SIZES}), "is a mixture of experts"),
        (MixtralConfig(**{**GROUPED, **SIZES}, num_local_experts=1), "blocks hold experts"),
    ],
    ids=["scaled head", "scaled residual", "no MLP", "sees what comes after", "experts", "one expert"],
)
def test_what_does_not_fit_is_refused_with_the_reason(save: Save, config: PreTrainedConfig, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        load_model(save(config), device="cpu", experimental=True)


def test_a_pass_that_fails_is_told(tiny: LoadedModel) -> None:
    family = replace(tiny.family, down=f"{tiny.family.down}.nothing")
    with pytest.raises(ModelError, match=r"cannot be read by its structure: a short row fails: .*nothing"):
        settle(replace(tiny, family=family))
