"""The four ways of an explanation, against a direct computation of each, one prompt at a time."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import pytest
import torch

from kbsync.benchmarks.plain import read_at_subject
from kbsync.facts import EditRequest
from kbsync.memit import edited
from kbsync.memit.extensions.explain import at_subject, delivered, read_ways
from kbsync.models import LoadedModel, locate

ASKED = [
    EditRequest("P36", "France", "The capital of {} is", "Rome"),
    EditRequest("P36", "Saint Lucia", "{} is governed from its capital", "Lima"),
    EditRequest("P36", "Norway", "In 1987. The government of {} sits in", "Buenos Aires"),
]
LAYERS = (0, 1)


@pytest.fixture
def deltas(tiny: LoadedModel) -> dict[int, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {layer: 0.3 * torch.randn(tiny.weight(layer).shape, generator=generator) for layer in LAYERS}


@pytest.fixture
def shift(tiny: LoadedModel) -> torch.Tensor:
    return 2 * torch.randn(tiny.weight(0).shape[0], generator=torch.Generator().manual_seed(4))


@contextmanager
def at(module: torch.nn.Module, place: int, change: Callable[[Any, torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Change what a module gives at one place of the only row."""

    def hook(_: torch.nn.Module, given: Any, output: Any) -> Any:
        tensor = output[0] if isinstance(output, tuple) else output
        flat = tensor.reshape(-1, tensor.shape[-1]).clone()
        flat[place] = change(given[0].reshape(-1, given[0].shape[-1])[place], flat[place])
        made = flat.view(tensor.shape)
        return (made, *output[1:]) if isinstance(output, tuple) else made

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def test_each_way_is_what_a_direct_computation_gives(
    tiny: LoadedModel, deltas: dict[int, torch.Tensor], shift: torch.Tensor
) -> None:
    block = tiny.family.block_list(tiny.model)[LAYERS[-1]]
    found = read_ways(tiny, ASKED, shift, deltas, LAYERS[-1])
    rows = locate(tiny.tokenizer, [(one.prompt, one.subject, one.target) for one in ASKED])
    for row, readings in zip(rows, found, strict=True):
        subject = ExitStack()
        for layer, delta in deltas.items():
            down = tiny.family.down_projection(tiny.model, layer)
            subject.enter_context(
                at(down, row.subject_last, lambda key, out, delta=delta: out + delta @ key)  # type: ignore[misc]
            )
        with subject:
            said = {"subject": direct(tiny, row.ids)}
        with at(block, row.subject_last, lambda _, out: out + shift):
            said["target"] = direct(tiny, row.ids)
        for way, state in (("base", nullcontext()), ("model", edited(tiny, deltas))):
            with state:
                said[way] = direct(tiny, row.ids)
        assert said.keys() == readings.keys()
        for way, log_probs in said.items():
            wanted = torch.tensor(row.target)
            of_target = log_probs[row.target_start - 1 : -1]
            likeliest = of_target.argmax(1)
            assert readings[way].log_prob == pytest.approx(float(of_target.gather(1, wanted[:, None]).mean()), abs=2e-3)
            assert readings[way].recall == bool((likeliest == wanted).all())
            assert (readings[way].turns_at is None) == readings[way].recall
        differing = {round(one.log_prob, 4) for one in readings.values()}
        assert len(differing) == 4, "each way does something else"


def direct(loaded: LoadedModel, ids: tuple[int, ...]) -> torch.Tensor:
    """Log-probabilities [T, V] of one row."""
    with torch.no_grad():
        logits: torch.Tensor = loaded.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
        return logits.float().log_softmax(-1)


def test_shares_add_up_to_what_arrives(tiny: LoadedModel, deltas: dict[int, torch.Tensor], shift: torch.Tensor) -> None:
    def states() -> torch.Tensor:
        return torch.stack([read_at_subject(tiny, "{}", one, LAYERS[-1])[1] for one in ASKED])

    before = states()
    torch.testing.assert_close(at_subject(tiny, ASKED, LAYERS[-1])[1].float(), before.float(), atol=1e-3, rtol=1e-3)
    with edited(tiny, deltas):
        moved = (states() - before) @ shift.to(before) / shift.dot(shift)
    with edited(tiny, {0: deltas[0]}):
        first = (states() - before) @ shift.to(before) / shift.dot(shift)
    for of_row, whole, part in zip(delivered(tiny, ASKED, shift, deltas, LAYERS[-1]), moved, first, strict=True):
        assert sum(of_row.values()) == pytest.approx(float(whole), abs=1e-3)
        assert of_row[0] == pytest.approx(float(part), abs=1e-3)
