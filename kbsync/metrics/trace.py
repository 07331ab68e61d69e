"""Causal tracing (ROME, Meng et al. 2022, arXiv 2202.05262, section 2.1): which blocks' MLPs carry a fact.

The subject's embeddings are corrupted with noise, so that the model no longer gives the object; then one block's MLP
output at the subject's last token is put back to what it was. How much of the object's probability comes back is that
block's indirect effect.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch

from kbsync.facts import EditRequest
from kbsync.models import LoadedModel, Rows, capture, head_log_probs, last_hidden, locate, make_rows, replace

__all__ = ["MlpEffects", "mlp_effects"]

NOISE = 3.0
"""standard deviations of the subjects' embeddings"""
SAMPLES = 3
"""draws of noise for each fact"""


@dataclass(frozen=True, slots=True)
class MlpEffects:
    """Mean probabilities of the objects, and each block's mean indirect effect on them (0 to 1, negative for harm)."""

    clean: float
    corrupted: float
    by_layer: tuple[float, ...]


class Traced:
    """Token rows of facts with their objects, where the subject lies in them, and where the objects are read."""

    def __init__(self, loaded: LoadedModel, facts: Sequence[EditRequest]) -> None:
        self.loaded = loaded
        placed = locate(loaded.tokenizer, [(fact.prompt, fact.subject, fact.target) for fact in facts])
        # The same text, with the subject's first letter in the subject's place.
        begun = [(f"{{}}{fact.subject[1:]}".join(fact.prompt.split("{}", 1)), fact.subject[0]) for fact in facts]
        first = locate(loaded.tokenizer, [(*text, fact.target) for text, fact in zip(begun, facts, strict=True)])
        self.rows = make_rows([one.ids[:-1] for one in placed], loaded.device)
        self.last = torch.tensor([one.subject_last for one in placed], device=loaded.device)
        starts = torch.tensor([one.subject_last for one in first], device=loaded.device)
        place = torch.arange(self.rows.ids.shape[1], device=loaded.device)
        self.subject = (place >= starts[:, None]) & (place <= self.last[:, None])
        reads = [
            (row, position - 1, one.ids[position])
            for row, one in enumerate(placed)
            for position in range(one.target_start, len(one.ids))
        ]
        self.row, self.position, self.token = (
            torch.tensor(column, device=loaded.device) for column in zip(*reads, strict=True)
        )

    def probabilities(self, samples: int = 1) -> torch.Tensor:
        """Return the objects' probabilities [samples, n] under what is hooked now; the rows stand `samples` times."""
        n, _ = self.rows.ids.shape
        repeated = Rows(self.rows.ids.repeat(samples, 1), self.rows.mask.repeat(samples, 1))
        hidden = last_hidden(self.loaded, repeated)
        found = hidden.new_zeros(samples, n, dtype=torch.float32)
        for sample in range(samples):
            log_probs = head_log_probs(self.loaded, hidden[self.row + sample * n, self.position])
            found[sample].index_add_(0, self.row, log_probs.gather(1, self.token[:, None])[:, 0])
        return found.exp()


@torch.no_grad()
def mlp_effects(loaded: LoadedModel, facts: Sequence[EditRequest], seed: int = 0) -> MlpEffects:
    """Trace facts that the model knows, all together; the noise is drawn on the CPU, so the device does not matter."""
    traced = Traced(loaded, facts)
    embeddings = loaded.model.get_input_embeddings()
    depth = len(loaded.family.block_list(loaded.model))
    downs = [loaded.family.down_projection(loaded.model, layer) for layer in range(depth)]
    every = torch.arange(len(facts), device=loaded.device)
    with ExitStack() as stack:
        outputs = [stack.enter_context(capture(down)) for down in downs]
        embedded = stack.enter_context(capture(embeddings))
        clean = traced.probabilities()
        sigma = float(embedded.value[traced.subject].float().std())
        shape = (SAMPLES * len(facts), *embedded.value.shape[1:])
        # Some families give the MLP all tokens in one dimension.
        given = [output.value.view(len(facts), shape[1], -1) for output in outputs]
        held = [values[every, traced.last].repeat(SAMPLES, 1) for values in given]
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(loaded.device)
    noise = NOISE * sigma * drawn * traced.subject.repeat(SAMPLES, 1)[:, :, None]
    rows, last = torch.arange(len(held[0]), device=loaded.device), traced.last.repeat(SAMPLES)

    def restored(output: torch.Tensor, layer: int) -> torch.Tensor:
        changed = output.clone()
        changed.view(*shape[:2], -1)[rows, last] = held[layer]
        return changed

    with replace(embeddings, lambda output: output + noise.to(output.dtype)):
        corrupted = traced.probabilities(SAMPLES)
        effects = []
        for layer, down in enumerate(downs):
            with replace(down, lambda output, layer=layer: restored(output, layer)):  # type: ignore[misc]
                effects.append(float((traced.probabilities(SAMPLES) - corrupted).mean()))
    return MlpEffects(float(clean.mean()), float(corrupted.mean()), tuple(effects))
