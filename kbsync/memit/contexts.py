"""The contexts x_j of Eqn. 16: the empty one, and prefixes that the model itself writes."""

import torch

from kbsync.memit.settings import MemitSettings
from kbsync.models import LoadedModel, check_numbers

TOP_K = 5


def sample_contexts(loaded: LoadedModel, settings: MemitSettings, seed: int = 0) -> tuple[str, ...]:
    """Return contexts as templates (``{}`` stands for the prompt), the empty one first.

    Each further one is sampled from the base model, token by token from the `TOP_K` likeliest, with a generator
    on the CPU so that the device does not matter; a text that ends its first sentence is cut there.
    """
    generator = torch.Generator().manual_seed(seed)
    contexts = ["{}"]
    for number in range(settings.contexts):
        start = settings.context_starts[number % len(settings.context_starts)]
        text = " ".join(continued(loaded, start, settings.context_tokens, generator).split())
        sentence, stop, _ = text.partition(". ")
        contexts.append(f"{(sentence if stop else text).rstrip('.').replace('{', '').replace('}', '')}. {{}}")
    return tuple(contexts)


@torch.no_grad()
def continued(loaded: LoadedModel, start: str, tokens: int, generator: torch.Generator) -> str:
    """Return `start` and `tokens` further tokens, sampled."""
    ids = loaded.tokenizer(start, return_tensors="pt")["input_ids"].to(loaded.device)
    for _ in range(tokens):
        logits = loaded.model(input_ids=ids, use_cache=False).logits[0, -1].float().cpu()
        top = logits.topk(TOP_K)
        shares = top.values.softmax(-1)
        check_numbers(loaded, shares)
        drawn = torch.multinomial(shares, 1, generator=generator)
        ids = torch.cat([ids, top.indices[drawn].to(ids.device)[None]], dim=1)
    return str(loaded.tokenizer.decode(ids[0], skip_special_tokens=True))
