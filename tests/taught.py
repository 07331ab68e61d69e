"""A small model of each family that is taught a few capitals, so that an edit of it means something.

A tiny model reads the subject in its first block, straight from the embedding; large ones read it late, at the
subject's last token, which is where MEMIT writes. So hidden states there are exchanged between subjects while the
model is taught, and the object that it is to say goes with them (interchange training, Geiger et al. 2022,
arXiv 2112.00826).
"""

from functools import cache

import torch

from kbsync.models import LoadedModel, family_of, head_log_probs, last_hidden, locate, make_rows, replace
from tests.tiny_models import FACTS, SEED, new_model, one_thread

TAUGHT = FACTS[:8]
READ_AFTER = 1
"""block behind which the model learns to read the subject: the L of its edits"""
CYCLE, CYCLES = 100, 5
"""steps of a cycle of the learning rate, and how many there are at most: one is mostly enough"""
LEARNED = 0.03
"""loss with which the facts are known"""
VOCABULARY = 600
"""so large that every subject and object is one token"""


def first_weights(model: torch.nn.Module) -> None:
    """Draw matrices so large that a hundred steps are enough."""
    generator = torch.Generator().manual_seed(SEED)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data = 0.15 * torch.randn(parameter.shape, generator=generator)


@cache
def taught_model(name: str) -> LoadedModel:
    """Return a model of a family that knows `TAUGHT`."""
    model, tokenizer = new_model(name, VOCABULARY)
    first_weights(model)
    loaded = LoadedModel(f"taught {name}", model.eval(), tokenizer, family_of(model.config))  # without dropout
    with one_thread():
        teach(loaded)
    model.requires_grad_(False)
    return loaded


def teach(loaded: LoadedModel) -> None:
    """Train until the loss is below `LEARNED`, whatever steps it takes."""
    wordings = (TAUGHT[0].prompt, *TAUGHT[0].paraphrases)
    placed = locate(loaded.tokenizer, [(wording, f.subject, f.target) for wording in wordings for f in TAUGHT])
    rows = make_rows([tokens.ids for tokens in placed], loaded.device)
    every = torch.arange(len(placed))
    subject = torch.tensor([tokens.subject_last for tokens in placed])
    object_ = torch.tensor([tokens.target_start for tokens in placed])
    generator = torch.Generator().manual_seed(SEED)
    for step in range(CYCLE * CYCLES):
        if step % CYCLE == 0:
            optimizer = torch.optim.AdamW(loaded.model.parameters(), weight_decay=0.1)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=CYCLE)
        order = torch.cat([torch.randperm(len(TAUGHT), generator=generator) + k for k in every[:: len(TAUGHT)]])

        def exchanged(hidden: torch.Tensor, order: torch.Tensor = order) -> torch.Tensor:
            return hidden.index_put((every, subject), hidden[order, subject[order]])

        with replace(loaded.family.block_list(loaded.model)[READ_AFTER], exchanged):
            hidden = last_hidden(loaded, rows)
        said = head_log_probs(loaded, hidden[every, object_ - 1])
        loss = -said[every, rows.ids[order, object_[order]]].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if loss.item() < LEARNED:
            return
    raise AssertionError(f"{loaded.source} has not learned its facts: loss {loss.item():.3f}")
