"""The hashes that say whose covariances they are."""

from pathlib import Path

import pytest
import torch
from accelerate import cpu_offload

from kbsync.models import LoadedModel, load_model
from kbsync.models.checkpoint import model_hash, tokenizer_hash, weights_hashes
from tests.tiny_models import random_folder, set_to


def test_a_hash_covers_the_weights_up_to_its_layer(tiny: LoadedModel) -> None:
    hashes = weights_hashes(tiny, (0, 1, 2))
    assert len({*hashes.values()}) == 3
    assert weights_hashes(tiny, (1,)) == {1: hashes[1]}
    block = next(iter(tiny.family.block_list(tiny.model)[1].parameters()))
    with set_to(block, block + 1):
        changed = weights_hashes(tiny, (0, 1, 2))
    assert [changed[layer] == hashes[layer] for layer in (0, 1, 2)] == [True, False, False]
    embedding = next(tiny.model.get_input_embeddings().parameters())
    with set_to(embedding, embedding + 1):
        changed = weights_hashes(tiny, (0, 1, 2))
    assert not set(changed.values()) & set(hashes.values())


def test_a_models_hash_covers_every_weight_the_dtype_and_the_tokenizer(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = str(random_folder(tmp_path_factory.getbasetemp(), "gptj"))
    loaded = load_model(folder, device="cpu")
    before = model_hash(loaded)
    seen = {before}
    for parameter in loaded.model.parameters():
        changed = parameter.clone()
        changed.reshape(-1)[0] += 1
        with set_to(parameter, changed):
            seen.add(model_hash(loaded))
    assert len(seen) == 1 + len(list(loaded.model.parameters()))
    assert model_hash(load_model(folder, device="cpu")) == before
    seen.add(model_hash(load_model(folder, device="cpu", dtype="bfloat16")))
    loaded.tokenizer.add_tokens(["<new>"])
    seen.add(model_hash(loaded))
    assert len(seen) == 3 + len(list(loaded.model.parameters()))


def test_the_attention_has_hashes_of_its_own(tiny: LoadedModel) -> None:
    """Else the covariance of one would be taken for the other's."""
    assert not {*weights_hashes(tiny, (0, 1)).values()} & {*weights_hashes(tiny.at_attention(), (0, 1)).values()}


def test_the_same_weights_under_another_name_have_the_same_hashes(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = random_folder(tmp_path_factory.getbasetemp(), "llama")
    one, half = load_model(str(folder), device="cpu"), load_model(str(folder), device="cpu", dtype="bfloat16")
    assert tokenizer_hash(one) == tokenizer_hash(half)
    assert weights_hashes(one, (1,)) != weights_hashes(half, (1,))
    again = tmp_path_factory.mktemp("again")
    half.model.save_pretrained(again)
    half.tokenizer.save_pretrained(again)
    wide = load_model(str(again), device="cpu", dtype="float32")  # holds what the bfloat16 one does
    assert weights_hashes(wide, (1,)) == weights_hashes(half, (1,))
    assert tokenizer_hash(wide) == tokenizer_hash(half)


def test_offloaded_weights_are_read(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = random_folder(tmp_path_factory.getbasetemp(), "gptj")
    loaded = load_model(str(folder), device="cpu")
    expected, whole = weights_hashes(loaded, (0, 2)), model_hash(loaded)
    cpu_offload(loaded.model, torch.device("cpu"))
    assert all(parameter.is_meta for parameter in loaded.family.block_list(loaded.model)[0].parameters())
    assert weights_hashes(loaded, (0, 2)) == expected
    assert model_hash(loaded) == whole


def test_padding_that_a_caller_asked_for_is_no_part_of_the_tokenizer(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    loaded = load_model(str(random_folder(tmp_path_factory.getbasetemp(), "gptj")), device="cpu")
    before = tokenizer_hash(loaded)
    loaded.tokenizer.backend_tokenizer.enable_padding()
    loaded.tokenizer.backend_tokenizer.enable_truncation(4)
    assert tokenizer_hash(loaded) == before
    loaded.tokenizer.add_tokens(["<new>"])
    assert tokenizer_hash(loaded) != before
