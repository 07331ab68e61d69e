"""A batch of a causal trace: its facts as tokens, its clean and corrupted runs, and runs with some outputs put back.

A run with something put back at block l differs from the corrupted run in no block below l, so it begins there.
"""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass

import torch
from torch import nn

from kbsync.facts import EditRequest
from kbsync.models import LoadedModel, Rows, capture, head_log_probs, last_hidden, locate, make_rows, replace, resume

STATE, MLP, ATTENTION = "state", "mlp", "attention"
"""what can be put back: the hidden state h^l, or what block l's MLP or attention adds to it"""
LAST_SUBJECT = "last subject token"
GROUPS = (
    "first subject token",
    "middle subject tokens",
    LAST_SUBJECT,
    "first token after",
    "middle tokens",
    "last token",
)
"""rows of the paper's heat maps; a token is in one of them: a subject's only token is its last, and where the prompt
ends with the subject or one token behind it, that is the last subject token, or the last token"""


@dataclass(frozen=True, slots=True)
class TracedFact:
    """A fact that the model knows; positions count from 0."""

    fact: EditRequest
    ids: tuple[int, ...]
    """tokens of prompt and object, without the object's last one, which nothing is read behind"""
    begin: int
    """position of the subject's first token"""
    last: int
    """position of the subject's last token, S"""
    end: int
    """position of the prompt's last token, where the object's first is read"""
    target: tuple[int, ...]
    """the object's tokens"""

    def places(self) -> list[tuple[int, str]]:
        """Return the positions from the subject's first token to the prompt's last, with the group of each."""
        return [(position, self.group(position)) for position in range(self.begin, self.end + 1)]

    def group(self, position: int) -> str:
        """Return which of `GROUPS` a position is in."""
        if position == self.last:
            return LAST_SUBJECT
        if position < self.last:
            return GROUPS[0] if position == self.begin else GROUPS[1]
        if position == self.end:
            return GROUPS[5]
        return GROUPS[3] if position == self.last + 1 else GROUPS[4]


def place_facts(loaded: LoadedModel, facts: Sequence[EditRequest]) -> list[TracedFact]:
    """Return facts with their tokens; raise EditError where the tokenizer leaves a subject or object without one."""
    placed = locate(loaded.tokenizer, [(fact.prompt, fact.subject, fact.target) for fact in facts])
    # The same text, with the subject's first letter in the subject's place.
    begun = [(f"{{}}{fact.subject[1:]}".join(fact.prompt.split("{}", 1)), fact.subject[0]) for fact in facts]
    first = locate(loaded.tokenizer, [(*text, fact.target) for text, fact in zip(begun, facts, strict=True)])
    return [
        TracedFact(fact, one.ids[:-1], start.subject_last, one.subject_last, one.target_start - 1, one.target)
        for fact, one, start in zip(facts, placed, first, strict=True)
    ]


@torch.no_grad()
def subject_sigma(loaded: LoadedModel, facts: Sequence[TracedFact]) -> float:
    """Return the standard deviation of the embeddings of all subjects' tokens, all dimensions together."""
    tokens = [token for fact in facts for token in fact.ids[fact.begin : fact.last + 1]]
    embedded: torch.Tensor = loaded.model.get_input_embeddings()(torch.tensor([tokens], device=loaded.device))
    return float(embedded.float().std())


def embedding_noise(fact: TracedFact, samples: int, width: int, seed: int) -> torch.Tensor:
    """Return standard normal noise [samples, subject tokens, width] in float32.

    It is drawn on the CPU and depends on the seed and the fact alone: not on the device, nor on which other facts are
    traced with it.
    """
    digest = hashlib.sha256(f"{seed} {fact.fact.id}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))
    return torch.randn(samples, fact.last - fact.begin + 1, width, generator=generator)


def traced_modules(loaded: LoadedModel, kind: str) -> list[nn.Module]:
    """Return, for each block, the module whose output is `kind`'s; raise ModelError where it is not known.

    For MLP and attention it is the projection before the norm that some families have: put back before or behind it
    is the same.
    """
    blocks = loaded.family.block_list(loaded.model)
    if kind == STATE:
        return list(blocks)
    family = loaded.family.at_attention() if kind == ATTENTION else loaded.family
    return [family.down_projection(loaded.model, layer) for layer in range(len(blocks))]


class TracedBatch:
    """n facts with S draws of noise each; row f S + s of a corrupted run is draw s of fact f. Indices are on the CPU.

    Blocks may lie on several devices, so each value stays where its module gave it.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        facts: Sequence[TracedFact],
        kinds: Sequence[str],
        severed: Sequence[str],
        samples: int,
        scale: float,
        seed: int,
    ) -> None:
        """Make the clean and the corrupted run, and keep of them what `kinds` put back and `severed` holds still."""
        self.loaded, self.facts, self.samples = loaded, facts, samples
        self.rows = make_rows([fact.ids for fact in facts], loaded.device)
        self.blocks = loaded.family.block_list(loaded.model)
        self.modules = {kind: traced_modules(loaded, kind) for kind in {STATE, *kinds, *severed}}
        self.run_clean(kinds)
        self.run_corrupted(severed, scale, seed)

    def run_clean(self, kinds: Sequence[str]) -> None:
        """Keep each fact's probability, and the outputs [n, T, d] of each kind in each block."""
        every = list(range(len(self.facts)))
        with ExitStack() as stack:
            seen = {kind: [stack.enter_context(capture(one)) for one in self.modules[kind]] for kind in kinds}
            embedded = stack.enter_context(capture(self.loaded.model.get_input_embeddings()))
            hidden = last_hidden(self.loaded, self.rows)
        self.clean = self.probabilities(hidden, every)
        self.width = embedded.value.shape[-1]
        self.outputs = {kind: [one.by_row(self.rows.ids) for one in captured] for kind, captured in seen.items()}

    def run_corrupted(self, severed: Sequence[str], scale: float, seed: int) -> None:
        """Keep each fact's mean probability, all hidden states, and what `severed` gives at S."""
        n, T = self.rows.ids.shape
        self.noise = torch.zeros(n, self.samples, T, self.width)
        for row, fact in enumerate(self.facts):
            drawn = embedding_noise(fact, self.samples, self.width, seed)
            self.noise[row, :, fact.begin : fact.last + 1] = scale * drawn
        self.noise = self.noise.flatten(0, 1)
        every = [row for row in range(n) for _ in range(self.samples)]
        last = torch.tensor([self.facts[row].last for row in every])
        place = torch.arange(len(every))
        self.frozen: dict[str, list[torch.Tensor]] = {kind: [] for kind in severed}

        def keep(kind: str) -> Callable[[torch.Tensor], torch.Tensor]:
            def see(output: torch.Tensor) -> torch.Tensor:
                self.frozen[kind].append(output.view(n * self.samples, T, -1)[place, last])
                return output

            return see

        with ExitStack() as stack:
            states = [stack.enter_context(capture(block)) for block in self.blocks]
            for kind in severed:
                for module in self.modules[kind]:
                    stack.enter_context(replace(module, keep(kind)))
            stack.enter_context(self.corrupting(list(range(n * self.samples))))
            hidden = last_hidden(self.loaded, self.repeated(every))
        self.states = [one.value for one in states]
        self.as_tuple = states[0].as_tuple
        self.corrupted = self.probabilities(hidden, every).view(n, self.samples).mean(1)

    def put_back(
        self, kind: str, layers: range, places: Sequence[tuple[int, int]], severed: str | None = None
    ) -> torch.Tensor:
        """Return the mean probabilities [len(places)] with `kind` of `layers` as in the clean run at each place.

        A place is a fact's number and a position. `layers` is one block for the hidden state. With `severed`, blocks
        above hold that module's corrupted output at S.
        """
        facts = [fact for fact, _ in places for _ in range(self.samples)]
        drawn = [fact * self.samples + sample for fact, _ in places for sample in range(self.samples)]
        position = torch.tensor([position for _, position in places for _ in range(self.samples)])
        row = torch.arange(len(facts))
        begin = layers[0] + 1 if kind == STATE else layers[0]
        with ExitStack() as stack:
            if begin:
                entering = self.states[begin - 1][drawn]  # a copy
                if kind == STATE:
                    entering[row, position] = self.outputs[STATE][layers[0]][facts, position]
                stack.enter_context(resume(self.blocks, begin - 1, self.as_tuple)).value = entering
            else:
                stack.enter_context(self.corrupting(drawn))
            if kind != STATE:
                for layer in layers:
                    values = self.outputs[kind][layer][facts, position]
                    stack.enter_context(held(self.modules[kind][layer], values, row, position))
            if severed is not None:
                last = torch.tensor([self.facts[fact].last for fact in facts])
                for layer in range(begin, len(self.blocks)):
                    values = self.frozen[severed][layer][drawn]
                    stack.enter_context(held(self.modules[severed][layer], values, row, last))
            hidden = last_hidden(self.loaded, self.repeated(facts))
        return self.probabilities(hidden, facts).view(len(places), self.samples).mean(1)

    def corrupting(self, drawn: Sequence[int]) -> AbstractContextManager[None]:
        """Add the noise of the rows `drawn` to the embeddings."""
        noise = self.noise[list(drawn)]
        embeddings = self.loaded.model.get_input_embeddings()
        return replace(embeddings, lambda output: output + noise.to(output.device, output.dtype))

    def repeated(self, facts: Sequence[int]) -> Rows:
        """Return the token rows of facts, one for each number."""
        return Rows(self.rows.ids[facts], self.rows.mask[facts])

    def probabilities(self, hidden: torch.Tensor, facts: Sequence[int]) -> torch.Tensor:
        """Return the probability of the whole object [B] in float32 on the CPU, from final hidden states [B, T, d]."""
        reads = [
            (row, self.facts[fact].end + ahead, token)
            for row, fact in enumerate(facts)
            for ahead, token in enumerate(self.facts[fact].target)
        ]
        row, position, token = (torch.tensor(column) for column in zip(*reads, strict=True))
        log_probs = head_log_probs(self.loaded, hidden[row, position])
        read = log_probs[torch.arange(len(reads)), token].cpu()
        return torch.zeros(len(facts)).index_add_(0, row, read).exp()


def held(
    module: nn.Module, values: torch.Tensor, row: torch.Tensor, position: torch.Tensor
) -> AbstractContextManager[None]:
    """Let a module give `values` [B, d] at a position [B] of each row [B]; some see all rows' tokens flattened."""

    def put(output: torch.Tensor) -> torch.Tensor:
        changed = output.clone()
        changed.view(len(row), -1, output.shape[-1])[row, position] = values
        return changed

    return replace(module, put)
