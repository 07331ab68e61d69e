"""Sizes against the model's own parts, and what a config alone tells of them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import DynamicCache

from kbsync.models import LoadedModel, checkpoint_bytes, choose_device, list_devices, sizes_of
from kbsync.models.devices import processor
from kbsync.models.forward import kept_in


def test_sizes_are_the_models_own(tiny: LoadedModel) -> None:
    sizes = sizes_of(tiny)
    assert (sizes.d, sizes.m) == tuple(tiny.family.weight(tiny.model, 0).shape)
    assert (sizes.blocks, sizes.item_bytes) == (4, 4)
    assert sizes.vocabulary == tiny.model.get_output_embeddings().weight.shape[0]
    assert sizes.weights_bytes == tiny.model.num_parameters() * 4
    assert sizes.tied_head == bool(tiny.model.config.tie_word_embeddings)


def test_the_cache_of_more_tokens_is_as_many_times_as_large(tiny: LoadedModel) -> None:
    cache: Any = DynamicCache(config=tiny.model.config)
    with torch.no_grad():
        tiny.model.base_model(
            input_ids=torch.zeros(3, 7, dtype=torch.long), use_cache=True, **kept_in(tiny.model.base_model, cache)
        )
    held = sum(part.numel() * 4 for layer in cache.layers for part in (layer.keys, layer.values) if part is not None)
    most = 21 * sizes_of(tiny).cache_bytes
    windows = getattr(tiny.model.config, "sliding_window", None) is not None
    assert held <= most if windows else held == most


def test_a_config_alone_tells_the_bytes(tiny: LoadedModel) -> None:
    cpu = choose_device("cpu")
    assert checkpoint_bytes(tiny.source, cpu, None) == sizes_of(tiny).weights_bytes
    assert checkpoint_bytes(tiny.source, cpu, "bfloat16") == sizes_of(tiny).weights_bytes // 2


def test_no_config_tells_nothing(tmp_path: Path) -> None:
    assert checkpoint_bytes(str(tmp_path), choose_device("cpu"), None) is None


def test_the_processor_is_always_a_device() -> None:
    found = list_devices()
    assert found[-1].name == "cpu"
    assert all(0 <= one.free <= one.total for one in found)


def test_a_containers_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kbsync.models.devices.CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    unlimited = processor()
    assert unlimited.total > 2**28
    (tmp_path / "memory.max").write_text("5000\n")
    assert (processor().total, processor().free) == (5000, 4000)
