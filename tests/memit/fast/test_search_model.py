"""GELU in one kernel is GELU in seven."""

import pytest
import torch

from kbsync.memit.fast.packed_rows import WRITTEN_OUT, fused_activations
from kbsync.models import LoadedModel


def written_out(loaded: LoadedModel) -> int:
    return sum(isinstance(module, WRITTEN_OUT) for module in loaded.model.modules())


def test_the_model_says_the_same(tiny: LoadedModel) -> None:
    ids = torch.tensor([[5, 9, 60, 7]])
    plain, before = tiny.model(ids).logits, written_out(tiny)
    with fused_activations(tiny.model):
        assert written_out(tiny) == 0
        torch.testing.assert_close(tiny.model(ids).logits, plain, rtol=1e-5, atol=1e-5)
    assert written_out(tiny) == before
    assert before == (4 if tiny.family.name in ("GPT-J", "GPT-2") else 0)


def test_it_is_put_back_after_an_error(tiny: LoadedModel) -> None:
    before = list(map(id, tiny.model.modules()))
    with pytest.raises(KeyboardInterrupt), fused_activations(tiny.model):
        raise KeyboardInterrupt
    assert list(map(id, tiny.model.modules())) == before
