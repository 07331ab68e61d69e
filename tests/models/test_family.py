"""The table of families: where the down projection is, and how its weight lies."""

import pytest
import torch
from transformers import BertConfig, Gemma3Config, MixtralConfig, PreTrainedConfig, Qwen2MoeConfig, T5Config

from kbsync.errors import ModelError
from kbsync.models import FAMILIES, Family, LoadedModel, capture, family_of, replace
from tests.tiny_configs import CONFIGS
from tests.tiny_models import set_to


def test_each_family_has_a_tiny_model() -> None:
    assert CONFIGS.keys() == FAMILIES.keys()


def test_the_family_is_that_of_the_config(tiny: LoadedModel) -> None:
    assert family_of(tiny.model.config) is tiny.family is FAMILIES[tiny.model.config.model_type]
    assert len(tiny.family.block_list(tiny.model)) == 4


@pytest.mark.parametrize("layer", [0, 3])
def test_the_weight_takes_keys_to_the_output(tiny: LoadedModel, layer: int) -> None:
    """The down projection's input @ W_out^T + bias is its output, in a forward pass of the whole model."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    module = tiny.family.down_projection(tiny.model, layer)
    handle = module.register_forward_hook(lambda _, args, output: seen.append((args[0], output.clone())))
    tiny.model(torch.tensor([[5, 9, 60, 61, 7]]))
    handle.remove()
    ((key, output),) = seen
    weight = tiny.family.weight(tiny.model, layer)
    bias = getattr(module, "bias", None)
    assert weight.shape == (output.shape[-1], key.shape[-1])
    torch.testing.assert_close(key @ weight.T + (0 if bias is None else bias), output, rtol=1e-5, atol=1e-5)


def test_what_the_down_projection_gives_is_added_to_the_hidden_state(tiny: LoadedModel) -> None:
    """As it is, or through the norm behind it."""
    ids = torch.tensor([[5, 9, 60]])
    for layer, block in enumerate(tiny.family.block_list(tiny.model)):
        down, norm = tiny.family.down_projection(tiny.model, layer), tiny.family.norm_behind(tiny.model, layer)
        assert tiny.family.weight(tiny.model, layer).shape[0] == tiny.model.config.hidden_size
        with capture(block) as before, replace(down, torch.clone), capture(down) as given:
            tiny.model(ids)
        v = given.by_row(ids)
        shift = torch.randn(v.shape, generator=torch.Generator().manual_seed(layer))

        def shifted(output: torch.Tensor, shift: torch.Tensor = shift) -> torch.Tensor:
            return output + shift.view_as(output)

        with capture(block) as after, replace(down, shifted):
            tiny.model(ids)
        expected = shift if norm is None else norm(v + shift) - norm(v)
        torch.testing.assert_close(after.value - before.value, expected, rtol=1e-4, atol=1e-4)


def test_what_the_attention_projection_gives_is_added_too(tiny: LoadedModel) -> None:
    """As it is, or through the norm behind it; the MLP, which may see it, is held still."""
    ids = torch.tensor([[5, 9, 60]])
    at_attention = tiny.at_attention().family
    for layer, block in enumerate(tiny.family.block_list(tiny.model)):
        down, out = tiny.family.down_projection(tiny.model, layer), at_attention.down_projection(tiny.model, layer)
        norm = at_attention.norm_behind(tiny.model, layer)
        with replace(down, torch.zeros_like), capture(block) as before, capture(out) as given:
            tiny.model(ids)
        shift = torch.randn(given.value.shape, generator=torch.Generator().manual_seed(layer))

        def shifted(output: torch.Tensor, shift: torch.Tensor = shift) -> torch.Tensor:
            return output + shift

        with (
            replace(down, torch.zeros_like),
            replace(out, shifted),
            capture(block) as after,
            capture(out, inputs=True) as key,
        ):
            tiny.model(ids)
        v = given.value
        expected = shift if norm is None else norm(v + shift) - norm(v)
        torch.testing.assert_close(after.value - before.value, expected, rtol=1e-4, atol=1e-4)
        weight = at_attention.weight(tiny.model, layer)
        bias = getattr(out, "bias", None)
        torch.testing.assert_close(key.value @ weight.T + (0 if bias is None else bias), v, rtol=1e-5, atol=1e-5)


def test_the_attention_of_a_family_read_by_its_structure_is_not_known(tiny: LoadedModel) -> None:
    with pytest.raises(ModelError, match="the attention's output projection of Odd is, kbsync does not know"):
        Family("Odd", tiny.family.blocks, tiny.family.down, tiny.family.orientation).at_attention()


def test_writing_to_the_weight_edits_the_model(tiny: LoadedModel) -> None:
    module = tiny.family.down_projection(tiny.model, 2)
    stored: torch.Tensor = module.weight  # type: ignore[assignment]
    weight = tiny.family.weight(tiny.model, 2)
    key = torch.zeros(1, weight.shape[1])
    key[0, 7] = 1.0  # so that the output is column 7, and the bias
    before = module(key)
    with set_to(stored, stored.data.clone()):
        weight[3, 7] += 2.0
        moved = module(key) - before
    expected = torch.zeros_like(moved)
    expected[0, 3] = 2.0
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-5)


def test_conv1d_is_seen_transposed_and_linear_as_it_is(tiny: LoadedModel) -> None:
    stored: torch.Tensor = tiny.family.down_projection(tiny.model, 1).weight  # type: ignore[assignment]
    weight = tiny.family.weight(tiny.model, 1)
    assert weight.data_ptr() == stored.data_ptr()
    assert torch.equal(weight, stored.T if tiny.model.config.model_type == "gpt2" else stored)
    assert not torch.equal(weight, stored if tiny.model.config.model_type == "gpt2" else stored.T)


def test_an_unknown_model_type_lists_the_known_ones() -> None:
    with pytest.raises(ModelError) as raised:
        family_of(BertConfig())
    message = str(raised.value)
    assert "'bert'" in message
    for model_type, family in FAMILIES.items():
        assert f"{family.name} ({model_type})" in message
    assert "--experimental" in message


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (T5Config(), "'t5' has an encoder and a decoder; kbsync edits decoder-only models"),
        (Gemma3Config(), r"'gemma3' holds its language model inside a larger one \(text_config\)"),
        (MixtralConfig(), r"'mixtral' is a mixture of experts \(num_experts = 8\)"),
        (Qwen2MoeConfig(), r"'qwen2_moe' is a mixture of experts \(num_experts = 60\)"),
    ],
    ids=lambda given: getattr(given, "model_type", ""),
)
def test_a_kind_that_cannot_be_edited_is_refused_with_the_reason(config: PreTrainedConfig, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        family_of(config)
