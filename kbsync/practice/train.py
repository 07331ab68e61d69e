"""Train the practice model: tokenizer, batches, the loop, and the card that says what came out.

GPT-J's architecture at a small size, so that it is edited by the very code that edits GPT-J.
"""

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from transformers import GPTJConfig, GPTJForCausalLM, PreTrainedTokenizerFast

from kbsync.practice.corpus import Sentence

__all__ = ["TrainSettings", "train", "train_tokenizer"]

END = "<|endoftext|>"
IGNORED = -100


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Size and schedule of the practice model."""

    layers: int = 8
    """blocks"""
    width: int = 256
    """hidden size d; the MLP's inner layer is four times as wide"""
    heads: int = 8
    vocabulary: int = 6000
    """byte-level BPE tokens, the end token included"""
    length: int = 96
    """tokens to a sequence, several sentences packed into it"""
    batch: int = 16
    """sequences to a step"""
    epochs: int = 22
    """times that every sentence is seen"""
    lr: float = 1.5e-3
    """peak learning rate of AdamW; warmed up, then a cosine down to a twentieth"""
    weight_decay: float = 0.02
    other_tokens: float = 0.25
    """weight in the loss of tokens that are not an object's (objects: 1)"""
    seed: int = 0


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer, built as GPT-2's and GPT-J's are."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, bos_token=END)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A sentence's tokens, a leading blank included; `object_start` is where the object's tokens begin."""

    ids: list[int]
    object_start: int


def encode(tokenizer: PreTrainedTokenizerFast, made: Sequence[Sentence], blank: str) -> list[Encoded]:
    """Tokenize sentences, each after `blank` (the space that parts it from the one before, or nothing)."""
    heads = tokenizer([blank + sentence.text for sentence in made])["input_ids"]
    tails = tokenizer([f" {sentence.object}." for sentence in made])["input_ids"]
    return [Encoded(head + tail, len(head)) for head, tail in zip(heads, tails, strict=True)]


def pack(first: Sequence[Encoded], inner: Sequence[Encoded], order: Sequence[int], length: int) -> torch.Tensor:
    """Pack sentences into rows [n, 2, length]: token ids, and 1 (object), 0 (other) or -1 (padding)."""
    rows: list[tuple[list[int], list[int]]] = []
    ids: list[int] = []
    kinds: list[int] = []
    for index in order:
        sentence = inner[index] if ids else first[index]
        if len(ids) + len(sentence.ids) > length:
            rows.append((ids, kinds))
            ids, kinds, sentence = [], [], first[index]
        ids = ids + sentence.ids
        kinds = kinds + [int(place >= sentence.object_start) for place in range(len(sentence.ids))]
    rows.append((ids, kinds))
    packed = torch.zeros(len(rows), 2, length, dtype=torch.long)
    packed[:, 1] = -1
    for row, (row_ids, row_kinds) in enumerate(rows):
        packed[row, 0, : len(row_ids)] = torch.tensor(row_ids)
        packed[row, 1, : len(row_kinds)] = torch.tensor(row_kinds)
    return packed


def step_loss(model: GPTJForCausalLM, batch: torch.Tensor, other_tokens: float) -> torch.Tensor:
    """Return the mean cross-entropy of a batch [b, 2, length], objects weighing 1 and other tokens less."""
    ids, kinds = batch[:, 0], batch[:, 1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(input_ids=ids, attention_mask=(kinds >= 0).long(), use_cache=False).logits[:, :-1]
    wanted, kind = ids[:, 1:].reshape(-1), kinds[:, 1:].reshape(-1)
    losses = cross_entropy(logits.reshape(len(wanted), -1).float(), wanted, reduction="none")
    weights = torch.where(kind == 1, 1.0, other_tokens) * (kind >= 0)
    return (losses * weights).sum() / weights.sum()


def build_model(settings: TrainSettings, tokenizer: PreTrainedTokenizerFast) -> GPTJForCausalLM:
    """Return an untrained model of the settings' size."""
    torch.manual_seed(settings.seed)
    end: int = tokenizer.vocab[END]
    config = GPTJConfig(
        vocab_size=len(tokenizer),
        n_positions=256,
        n_embd=settings.width,
        n_layer=settings.layers,
        n_head=settings.heads,
        rotary_dim=settings.width // settings.heads // 2,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        tie_word_embeddings=False,
        bos_token_id=end,
        eos_token_id=end,
    )
    return GPTJForCausalLM(config)


def train(
    made: Sequence[Sentence],
    settings: TrainSettings,
    progress: Callable[[str, int, int], None] = lambda phase, done, total: None,
) -> tuple[GPTJForCausalLM, PreTrainedTokenizerFast, dict[str, object]]:
    """Train tokenizer and model on sentences; return both (model in float32, eval mode) and the card's figures."""
    tokenizer = train_tokenizer([str(sentence) for sentence in made], settings.vocabulary)
    model = build_model(settings, tokenizer).train()
    first, inner = encode(tokenizer, made, ""), encode(tokenizer, made, " ")
    shuffler = random.Random(settings.seed)
    steps_in_epoch = len(pack(first, inner, range(len(made)), settings.length)) // settings.batch
    total = steps_in_epoch * settings.epochs
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.lr, betas=(0.9, 0.98), weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, total))
    started, step, loss = time.monotonic(), 0, torch.tensor(math.nan)
    while step < total:
        order = list(range(len(made)))
        shuffler.shuffle(order)
        rows = pack(first, inner, order, settings.length)
        for batch in rows.split(settings.batch):
            if step == total or len(batch) < settings.batch:
                break
            loss = step_loss(model, batch, settings.other_tokens)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            step += 1
            progress("training", step, total)
    figures: dict[str, object] = {
        "settings": asdict(settings),
        "sentences": len(made),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "steps": total,
        "minutes": round((time.monotonic() - started) / 60, 1),
        "last_loss": round(loss.item(), 4),
        "torch": torch.__version__,
    }
    return model.eval(), tokenizer, figures


def rate(step: int, total: int) -> float:
    """Return the share of the peak learning rate at a step: 100 steps up, then a cosine down to 0.05."""
    warmup = min(100, total // 4)
    if step < warmup:
        return (step + 1) / warmup
    return 0.05 + 0.475 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
