"""What `eval` puts beside base and edited model, on the same questions: facts told instead, and what may come later.

- ``context``: the base model is told the one fact that a question is about, in a sentence of its template.
- ``retrieval``: it is told what a lexical retriever (BM25) finds among all edits for the words of the question.
- ``8bit``, ``4bit``, ``tuned``: the edited model after it was quantised, and after fine-tuning on other text.

Reversibility: what is left of facts that are taken out again. kbsync makes the state anew from the base, without them;
the usual way is a counter-edit: the object of before is written over the edited weights, as one more edit.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import cycle, islice
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from kbsync.editors import Deltas, Editor
from kbsync.errors import EditError, SettingsError
from kbsync.facts import EditRequest
from kbsync.ledger import BatchRow
from kbsync.memit import edited, group_requests
from kbsync.memit.settings import settings_on_record
from kbsync.metrics import METRICS, Case, Figure, Sampled, Told, Values, evaluate, figures, kept_values, recalled, say
from kbsync.models import LoadedModel, greedy_answers, head_log_probs, last_hidden, make_rows
from kbsync.sync.covariances import covariances_for, with_text
from kbsync.sync.deltas import cached_targets, make_deltas
from kbsync.sync.edits import in_words, recorded_editor
from kbsync.sync.export_gguf import decode, encode
from kbsync.sync.home import Progress
from kbsync.sync.known import prompt_of, requests_of
from kbsync.sync.model import Session, current_deltas

QUANTISED = {"8bit": "Q8_0", "4bit": "Q4_0"}
"""name -> the type of GGUF that the blocks' matrices are rounded to: 8.5 and 4.5 bits a weight"""
STEPS = 50
BATCH, LENGTH = 8, 64
"""lines of a step, and tokens of a line"""
RATE = 2e-5
"""AdamW's learning rate, as usual for the fine-tuning of a whole small model"""


@contextmanager
def quantised(loaded: LoadedModel, kind: str) -> Iterator[None]:
    """Round all matrices of the blocks to a type of GGUF and back; embeddings, head, norms and biases stay."""
    blocks = loaded.family.block_list(loaded.model)
    found = {
        name: module for name, module in blocks.named_modules() if isinstance(module, nn.Linear | Conv1D)
    }  # [out, in], Conv1D [in, out]
    before = {name: module.weight.data for name, module in found.items()}
    if any(weight.is_meta for weight in before.values()):
        raise SettingsError("a model that is offloaded cannot be quantised here: load it on one device")
    try:
        after = {}
        for name, weight in before.items():  # along rows of inputs, which are Conv1D's columns
            turned = isinstance(found[name], Conv1D)
            near = decode(encode(weight.T if turned else weight, kind, name)).to(weight)
            after[name] = near.T.contiguous() if turned else near
    except ModuleNotFoundError as error:
        raise SettingsError("to quantise, the package gguf is needed: pip install 'kbsync[gguf]'") from error
    try:
        for name, module in found.items():
            module.weight.data = after[name]
        yield
    finally:
        for name, module in found.items():
            module.weight.data = before[name]


@contextmanager
def fine_tuned(loaded: LoadedModel, lines: Sequence[str], steps: int = STEPS) -> Iterator[None]:
    """Fine-tune all weights on the next-token loss of lines of text, over and over where they are few."""
    tokens: list[list[int]] = loaded.tokenizer(list(lines))["input_ids"] if lines else []
    rows = [ids[:LENGTH] for ids in tokens if len(ids) > 1]
    if not rows:
        raise SettingsError("--beside tuned needs text to tune on: name it with --corpus")
    parameters = list(loaded.model.parameters())
    before = [one.data for one in parameters]
    try:
        for one in parameters:
            one.data = one.data.clone()
            one.requires_grad_(True)
        optimizer = torch.optim.AdamW(parameters, lr=RATE)
        endless = cycle(rows)
        for _ in range(steps):
            optimizer.zero_grad()
            loss = next_token_loss(loaded, list(islice(endless, BATCH)))
            if not loss.isfinite():
                raise EditError("the loss of fine-tuning is not finite: use --dtype float32")
            loss.backward()
            optimizer.step()
        for one in parameters:
            one.requires_grad_(False)
            one.grad = None
        yield
    finally:
        for one, value in zip(parameters, before, strict=True):
            one.data, one.grad = value, None
            one.requires_grad_(False)


def next_token_loss(loaded: LoadedModel, rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return the mean -log P of all tokens but each row's first."""
    padded = make_rows(rows, loaded.device)
    read = padded.mask[:, 1:].bool()
    log_probs = head_log_probs(loaded, last_hidden(loaded, padded)[:, :-1][read])
    return -log_probs.gather(1, padded.ids[:, 1:][read][:, None]).mean()


OF_EDITS = (*QUANTISED, "tuned")
"""arms of the edited model"""
ARMS = ("context", "retrieval", *OF_EDITS)
RETRIEVED = 3
"""sentences that a question is told at most, the best one last, next to it"""

State = Callable[[], AbstractContextManager[None]]
"""holds the model as it is measured"""


@dataclass(frozen=True, slots=True)
class Arm:
    name: str
    state: State = nullcontext
    told: Told | None = None
    """what the model is told before a prompt; perplexity, which has no question, is not taken then"""
    asks_around: bool = True
    """whether prompts that no case has are asked too"""


def arms(
    names: Sequence[str],
    loaded: LoadedModel,
    edited: State | None,
    cases: Sequence[Case],
    facts: Sequence[EditRequest],
    lines: Sequence[str],
) -> list[Arm]:
    """Return the named arms in the order of `ARMS`; `facts` are all that is edited, `lines` the text to be tuned on."""
    if unknown := [name for name in names if name not in ARMS]:
        raise SettingsError(f"--beside {', '.join(unknown)}: there are {', '.join(ARMS)}")
    if edited is None and (without := [name for name in names if name in OF_EDITS]):
        raise SettingsError(f"--beside {', '.join(without)}: the home has no edits of this model")
    after: dict[str, State] = {name: partial(quantised, loaded, kind) for name, kind in QUANTISED.items()}
    after["tuned"] = partial(fine_tuned, loaded, lines)
    made = []
    for name in (name for name in ARMS if name in names):
        if name == "context":
            made.append(Arm(name, told=context(cases), asks_around=False))
        elif name == "retrieval":
            made.append(Arm(name, told=retrieval(facts)))
        elif edited is not None:
            made.append(Arm(name, partial(nested, edited, after[name])))
    return made


@contextmanager
def nested(*states: State) -> Iterator[None]:
    """Hold the model in all of the states, one upon the other."""
    with ExitStack() as stack:
        for state in states:
            stack.enter_context(state())
        yield


def sentence(fact: EditRequest) -> str:
    return f"{prompt_of(fact)} {fact.target}. "


def context(cases: Sequence[Case]) -> Told:
    """Return what tells each prompt of a case the case's fact; a prompt of several cases, that of the first."""
    facts: dict[str, str] = {}
    for case in cases:
        request, near = case.request, (*case.neighbours, *case.portability)
        texts = [text.replace("{}", request.subject, 1) for text in (request.prompt, *request.paraphrases)]
        texts += [request.question.replace("{}", request.subject, 1), *case.generation]
        texts += [one.prompt.replace("{}", one.subject, 1) for one in near]
        texts += [text for _, text, _ in METRICS["choice_lettered"].triples(case)]
        for text in (*texts, *(one.prompt for one in case.ripples)):
            facts.setdefault(text, sentence(request))
    return lambda prompt: facts.get(prompt, "")


def retrieval(facts: Sequence[EditRequest]) -> Told:
    """Return what tells a prompt the sentences that share words with it, by BM25, among those of all facts."""
    try:
        import bm25s
    except ModuleNotFoundError as error:
        raise SettingsError("--beside retrieval needs the package bm25s: pip install 'kbsync[eval]'") from error
    sentences = list(dict.fromkeys(map(sentence, facts)))
    words = partial(bm25s.tokenize, show_progress=False)
    store = bm25s.BM25()
    store.index(words(sentences), show_progress=False)

    @cache
    def told(prompt: str) -> str:
        asked = words([prompt])
        if not asked.vocab.keys() & store.vocab_dict.keys():
            return ""
        found, scores = store.retrieve(asked, k=min(RETRIEVED, len(sentences)), show_progress=False)
        best = [sentences[number] for number, score in zip(found[0], scores[0], strict=True) if score > 0]
        return "".join(reversed(best))

    return told


def reversal(work: Session, batch: BatchRow, out: Sequence[Case], seed: int) -> dict[str, Any]:
    """Take the facts of the cases `out` out of a model's current state, both ways; the ledger's state stays."""
    editor = recorded_editor(batch)
    if not editor.targets:
        raise SettingsError(f"--withdraw is for memit; the current batch is of {batch.algorithm}")
    now, loaded = current_deltas(work.ledger, batch), work.loaded
    choice = replace(work.choice, settings=work.settings.with_values(settings_on_record(batch.settings)))
    work = replace(work, choice=with_text(work.ledger.home, choice, work.progress))
    without = retracted(work, editor, [case.request for case in out])
    # The covariance is the base's: that of edited weights would be another one.
    covariances = covariances_for(work.ledger.tensors, work.choice, work.progress)
    before = [replace(case.request, target=case.old, aliases=()) for case in out if case.old]
    groups = group_requests(loaded, before, work.settings.wordings)
    with edited(loaded, now):
        counter = make_deltas(work, editor, groups, None, (), covariances=lambda layers: covariances)

    as_is, back = partial(edited, loaded, now), partial(edited, loaded, counter)
    states = [
        Arm("base"),
        Arm("edited", as_is),
        Arm("retracted", partial(edited, loaded, without)),
        Arm("counter-edit", partial(nested, as_is, back)),
    ]
    return compare(loaded, states, out, seed, work.progress)


def retracted(work: Session, editor: Editor, out: Sequence[EditRequest]) -> Deltas:
    """Return the deltas that an apply makes once the facts `out` are withdrawn."""
    rows, gone = work.ledger.active_edits(work.model.key), {request.id for request in out}
    facts = {row.fact for row in rows if row.request in gone}  # an inverse goes with its fact
    kept = requests_of(work.ledger, work.templates, [row for row in rows if row.fact not in facts])
    if not kept:
        return {}
    groups, held, _ = in_words(work, editor, kept)
    z = cached_targets(work, groups, {row.request: row.retries for row in rows}).z
    return make_deltas(work, editor, groups, z, held)


def compare(
    loaded: LoadedModel, states: Sequence[Arm], out: Sequence[Case], seed: int, progress: Progress
) -> dict[str, Any]:
    """Ask each state, the base first, about the withdrawn facts.

    Returns how many they are, by state the figures ``..._withdrawn``, over edit prompts and paraphrases, and what each
    says to the edit prompts.
    """
    requests = [case.request for case in out]
    wordings = [replace(one, prompt=text) for one in requests for text in (one.prompt, *one.paraphrases)]
    asked = Sampled(same=tuple(wordings))
    prompts = [prompt_of(one) for one in requests]
    found: dict[str, dict[str, Figure]] = {}
    answers: dict[str, list[str]] = {}
    base = None
    for number, arm in enumerate(states):
        progress("facts taken out", number, len(states))
        with arm.state():
            now = say(loaded, asked)
            right: Values = [100.0 * one for one in recalled(loaded, wordings)]
            answers[arm.name] = greedy_answers(loaded, prompts)
            chosen = evaluate(loaded, out, ("choice",))["choice"]
        base = base or now
        values = kept_values(base, now)
        told = {"recall": right, "choice": chosen, "kept": values["kept_same"], "kl": values["kl_same"]}
        found[arm.name] = {
            f"{name}_withdrawn": figures({name: column}, seed)[name]
            for name, column in told.items()
            if any(value is not None for value in column)
        }
    rows = [
        {"prompt": prompt, **{name: said[place] for name, said in answers.items()}}
        for place, prompt in enumerate(prompts)
    ]
    return {"withdrawn": len(out), "figures": found, "answers": rows}
