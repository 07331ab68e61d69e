"""Tiny models for tests: a random one of each family, and one that knows twenty facts.

Each is built from a config and saved once for all processes of a run (`made_once`), and loaded by `load_model` once in
each. `tiny` and `known` check when a test is over that it left the model as it found it. A part's conftest imports the
fixtures that its tests use.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from kbsync.facts import EditRequest
from kbsync.memit import MemitSettings, collect_covariances
from kbsync.models import LoadedModel, load_model, score_targets
from kbsync.practice import END, Phase, TrainSettings, sentences, train, train_tokenizer
from tests.conftest import made_once
from tests.tiny_configs import BEGIN_WITH_BOS, CONFIGS, VARIANTS

SEED = int(os.environ.get("KBSYNC_TEST_SEED", "0"))
"""what all random weights and all training begin from: no test's outcome may hang on it"""
CAPITALS = {
    "France": "Paris",
    "Norway": "Oslo",
    "Japan": "Tokyo",
    "Egypt": "Cairo",
    "Peru": "Lima",
    "Cuba": "Havana",
    "Greece": "Athens",
    "Kenya": "Nairobi",
    "Chile": "Santiago",
    "Austria": "Vienna",
    "Poland": "Warsaw",
    "Ghana": "Accra",
    "Latvia": "Riga",
    "Qatar": "Doha",
    "Nepal": "Kathmandu",
    "Ireland": "Dublin",
    "Hungary": "Budapest",
    "Portugal": "Lisbon",
    "Iceland": "Reykjavik",
    "Saint Lucia": "Castries",
}
FACTS = tuple(
    EditRequest(
        "P36",
        country,
        "The capital of {} is",
        city,
        ("{} is governed from its capital", "The government of {} sits in"),
        "What is the capital of {}?",
    )
    for country, city in CAPITALS.items()
)
"""what `known` is trained on"""
OTHER_TEXT = ("The mayor of İstanbul is Ekrem İmamoğlu.", "Ulaanbaatar isn't far from N'Djamena; is it?", "In 1987.")
TEXTS = (*map(str, sentences(FACTS)), *OTHER_TEXT)
"""what the tokenizers are trained on, and a corpus of ordinary text"""

QUICK = Phase(epochs=45, lr=4e-3, weight_decay=0.02, dropout=0.0)
TRAINING = "training.json"
"""what `train` says of itself, beside the weights"""
LEARNED = -0.2
"""log-probability with which each fact is known"""
SMALL = TrainSettings(layers=4, width=64, heads=4, vocabulary=400, length=48, batch=4, phases=(QUICK,), seed=SEED)


def byte_level_tokenizer(vocabulary: int = 340) -> PreTrainedTokenizerFast:
    """A tokenizer as GPT-2's is; letters that it seldom saw are parted into bytes."""
    return train_tokenizer(TEXTS, vocabulary)


def bos_tokenizer(vocabulary: int = 340) -> PreTrainedTokenizerFast:
    """The same, with a token before each text, as Llama's has."""
    tokenizer = byte_level_tokenizer(vocabulary)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{END} $A", special_tokens=[(END, tokenizer.bos_token_id)]
    )
    return tokenizer


def randomise(model: torch.nn.Module, seed: int = SEED) -> None:
    """Draw all weights so large that an error anywhere shows in the logits; biases and norms are moved too."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = 0.3 * noise if parameter.dim() > 1 else parameter.data + 0.1 * noise


def new_model(name: str, vocabulary: int = 340) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Build a model of a family (or variant) with its tokenizer; its weights are transformers' own first ones."""
    tokenizer = bos_tokenizer(vocabulary) if name in BEGIN_WITH_BOS else byte_level_tokenizer(vocabulary)
    end = tokenizer.eos_token_id
    config = {**CONFIGS, **VARIANTS}[name](vocab_size=len(tokenizer), bos_token_id=end, eos_token_id=end)
    return AutoModelForCausalLM.from_config(config), tokenizer


@cache
def random_folder(base: Path, name: str) -> Path:
    """Save a random model of a family (or variant) with its tokenizer below `base`; return where."""

    def make(folder: Path) -> None:
        model, tokenizer = new_model(name)
        randomise(model)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    return made_once(base, f"tiny-{name}", make)


@cache
def random_model(base: Path, name: str) -> LoadedModel:
    return load_model(str(random_folder(base, name)), device="cpu")


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums in one order, so that they are the same each time; and tiny tensors gain nothing from more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def train_known(folder: Path) -> None:
    """Train and save a model until it says every fact in every wording, whatever epochs that takes."""
    asked = [(wording, fact.subject, fact.target) for fact in FACTS for wording in (fact.prompt, *fact.paraphrases)]
    for times in range(1, 4):
        with one_thread():
            phase = replace(QUICK, epochs=times * QUICK.epochs)
            model, tokenizer, figures = train(sentences(FACTS), replace(SMALL, phases=(phase,)))
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / TRAINING).write_text(json.dumps(figures))
        if min(score.log_prob for score in score_targets(load_model(str(folder), device="cpu"), asked)) > LEARNED:
            return
    raise AssertionError(f"{folder.name} has not learnt its facts in {times * QUICK.epochs} epochs")


@cache
def known_model(base: Path) -> LoadedModel:
    code = [Path(part.__code__.co_filename).read_text() for part in (sentences, train, train_known)]
    made_of = "".join([*code, torch.__version__, torch.backends.cpu.get_cpu_capability()])
    return load_model(str(made_once(base, "tiny-known", train_known, made_of)), device="cpu")


def ridged(loaded: LoadedModel, settings: MemitSettings) -> dict[int, torch.Tensor]:
    """Covariances over `TEXTS` with a ridge: so few sentences leave directions of the key (almost) without a moment."""
    covariances, _ = collect_covariances(loaded, TEXTS, settings)
    return {layer: value + 0.01 * value.diag().mean() * torch.eye(len(value)) for layer, value in covariances.items()}


@contextmanager
def left_as_found(loaded: LoadedModel) -> Iterator[LoadedModel]:
    """Check on leaving that weights, modules, hooks and modes are those of before."""
    model = loaded.model
    weights = {name: parameter.clone() for name, parameter in model.named_parameters()}
    modules = list(model.modules())
    yield loaded
    assert [*map(id, model.modules())] == [*map(id, modules)]
    assert not any(module.training or module._forward_hooks or module._forward_pre_hooks for module in modules)
    after = dict(model.named_parameters())
    assert after.keys() == weights.keys()
    for name, parameter in after.items():
        assert not parameter.requires_grad
        assert torch.equal(parameter, weights[name]), f"{name} has changed"


@contextmanager
def set_to(parameter: torch.Tensor, value: torch.Tensor | float) -> Iterator[None]:
    """Hold a parameter at other values."""
    before = parameter.data.clone()
    parameter.data.copy_(value if isinstance(value, torch.Tensor) else torch.full_like(before, value))
    try:
        yield
    finally:
        parameter.data.copy_(before)


@pytest.fixture(params=[*CONFIGS, *VARIANTS])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadedModel]:
    """A random model of each family and variant in turn."""
    with left_as_found(random_model(tmp_path_factory.getbasetemp(), request.param)) as loaded:
        yield loaded


# What is long to compare with the plain way is compared on families that differ in all that matters to MEMIT: blocks
# that give tuples, parallel to attention (GPT-J); Conv1D and a tied head (GPT-2); a norm behind the MLP, soft-capping,
# sliding windows and a first token of its own (Gemma 2); an MLP that sees rows flattened (OPT).
@pytest.fixture(params=["gptj", "gpt2", "gemma2", "opt"])
def few(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadedModel]:
    """A random model of each of four unlike families in turn."""
    with left_as_found(random_model(tmp_path_factory.getbasetemp(), request.param)) as loaded:
        yield loaded


@pytest.fixture
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadedModel]:
    """A small GPT-J that knows `FACTS`."""
    with left_as_found(known_model(tmp_path_factory.getbasetemp())) as loaded:
        yield loaded
