"""The sampled contexts: templates that hold the prompt once, the same for the same seed."""

import torch

from kbsync.memit import MemitSettings, sample_contexts
from kbsync.models import LoadedModel

SETTINGS = MemitSettings(layers=(0,), contexts=7, context_tokens=6)


def test_the_first_is_empty_and_each_holds_the_prompt_once(tiny: LoadedModel) -> None:
    contexts = sample_contexts(tiny, SETTINGS)
    assert len(contexts) == 8
    assert contexts[0] == "{}"
    for context in contexts[1:]:
        assert context.endswith(". {}")
        text = context.removesuffix(". {}")
        assert "{" not in text
        assert "}" not in text
        assert ". " not in text
        assert text == " ".join(text.split())
    starts = [SETTINGS.context_starts[number % 5] for number in range(7)]
    assert all(context.startswith(start) for context, start in zip(contexts[1:], starts, strict=True))


def test_a_seed_gives_the_same_contexts_and_another_others(tiny: LoadedModel) -> None:
    state = torch.get_rng_state()
    contexts = sample_contexts(tiny, SETTINGS, 3)
    assert torch.equal(torch.get_rng_state(), state), "the program's own random numbers were drawn"
    torch.manual_seed(99)
    assert sample_contexts(tiny, SETTINGS, 3) == contexts
    torch.set_rng_state(state)
    assert sample_contexts(tiny, SETTINGS, 4) != contexts


def test_further_contexts_leave_the_first_as_they_are(known: LoadedModel) -> None:
    fewer = sample_contexts(known, SETTINGS.with_values({"contexts": 3}))
    assert len(fewer) == 4
    assert sample_contexts(known, SETTINGS)[:4] == fewer
    assert sample_contexts(known, SETTINGS.with_values({"contexts": 0})) == ("{}",)


def test_braces_in_a_text_do_not_stay(known: LoadedModel) -> None:
    settings = SETTINGS.with_values({"contexts": 1, "context_starts": ["A{} set {x"]})
    (context,) = sample_contexts(known, settings)[1:]
    assert context.startswith("A set x")
    assert context.count("{") == context.count("}") == 1


def test_a_text_is_cut_where_its_first_sentence_ends(known: LoadedModel) -> None:
    settings = SETTINGS.with_values({"contexts": 1, "context_starts": ["It rained. The capital"]})
    assert sample_contexts(known, settings)[1] == "It rained. {}"


def test_a_longer_text_goes_on_as_the_model_would(known: LoadedModel) -> None:
    """`known` has seen nothing but capitals; after a beginning that it knows the likeliest is by far the first."""
    settings = SETTINGS.with_values(
        {"contexts": 1, "context_starts": ["The capital of France is"], "context_tokens": 12}
    )
    assert sample_contexts(known, settings)[1] == "The capital of France is Paris. {}"
