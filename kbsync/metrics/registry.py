"""All metrics by name, and any choice of them measured: each (prompt, object) scored once, each text generated once.

A new metric is a CaseMetric in `success` or `generation`, or a TextMetric, and a line here. `ABOUT` says of every
figure what it is and which way is better, those of `kept` and of an apply alone too.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from kbsync.metrics.generation import GE, RS
from kbsync.metrics.metric import Case, CaseMetric, Readings, TextMetric, Values
from kbsync.metrics.perplexity import PERPLEXITY
from kbsync.metrics.recall import Triple
from kbsync.metrics.success import SUCCESS
from kbsync.models import LoadedModel, generate_texts, score_targets

__all__ = ["ABOUT", "KEPT_METRICS", "MEANS", "METRICS", "TEXT_LENGTH", "TEXT_METRICS", "TOP_K", "About", "evaluate"]

METRICS: dict[str, CaseMetric] = {metric.name: metric for metric in (*SUCCESS, GE, RS)}

TEXT_METRICS: dict[str, TextMetric] = {metric.name: metric for metric in (PERPLEXITY,)}
"""those over text that no edit is about"""

KEPT_METRICS = ("worded_recall", "kept_same", "known_kept_same", "kept_others", "kl_same", "kl_others")
"""those over prompts that are drawn around the ledger's edits: see `kept`"""

MEANS: dict[str, tuple[str, ...]] = {
    "S": ("ES", "PS", "NS"),
    "score": ("efficacy", "paraphrase", "specificity"),
}
"""harmonic means of metrics' means: there where all of their parts are"""


class About(NamedTuple):
    """What a figure is; percent where no unit is told."""

    better: Literal["higher", "lower"]
    text: str


ABOUT: dict[str, About] = {
    "ES": About("higher", "the new object is likelier than the old one on the edit prompt"),
    "PS": About("higher", "the same on paraphrases, which are never edited"),
    "NS": About("higher", "other subjects' own object is likelier than the new one"),
    "S": About("higher", "harmonic mean of ES, PS and NS"),
    "EM": About("higher", "P[new] - P[old] on the edit prompt, -100 to 100"),
    "PM": About("higher", "the same on paraphrases"),
    "NM": About("higher", "P[own] - P[new] of other subjects"),
    "efficacy": About("higher", "the object's tokens that are the likeliest on the edit prompt (zsRE)"),
    "paraphrase": About("higher", "the same on paraphrases"),
    "specificity": About("higher", "the same of other subjects' own objects"),
    "score": About("higher", "harmonic mean of efficacy, paraphrase and specificity"),
    "portability": About("higher", "the same of objects that follow from the edit"),
    "recall": About("higher", "the object, or an alias, is the top answer on the edit prompt"),
    "paraphrase_recall": About("higher", "the same on paraphrases, which are never edited: held-out wordings"),
    "worded_recall": About("higher", "the same over all wordings that are edited, the edit prompt among them"),
    "recall_active": About("higher", "recall of all active edits"),
    "recall_masters": About("higher", "the same with the edited weights in float32"),
    "chat_recall": About("higher", "recall of the question form in the chat template"),
    "kept_same": About("higher", "edited subjects, other relations: the top next token is the base model's"),
    "known_kept_same": About("higher", "facts on edited subjects that the base model answers: still answered"),
    "kept_others": About("higher", "unedited subjects, edited relations: the top next token is the base model's"),
    "kl_same": About("lower", "KL(base || edited) of the next token on the prompts of kept_same, nats"),
    "kl_others": About("lower", "KL(base || edited) of the next token on the prompts of kept_others, nats"),
    "GE": About("higher", "entropy of the generated text's n-grams, bits x 100: fluency"),
    "RS": About("higher", "likeness of generated text to texts about the object"),
    "perplexity": About("lower", "of text that no edit is about"),
    "weight_change": About("lower", "|delta| / |W| of a layer, in Frobenius norms"),
    "jitter": About(
        "lower", "what was added to a covariance to make it positive definite, a share of its mean diagonal"
    ),
}
"""figure -> what it is; the name of a layer's figure has its number behind a dot"""

TEXT_LENGTH = 100
"""tokens of a generated text, those of its prompt counted, as in the published evaluation"""
TOP_K = 5


def evaluate(
    loaded: LoadedModel,
    cases: Sequence[Case],
    metrics: Sequence[str],
    seed: int = 0,
    progress: Callable[[str, int, int], None] = lambda phase, done, total: None,
) -> Mapping[str, Values]:
    """Return the values of each metric of the registry, a value a case, on the model as it is."""
    chosen = [METRICS[name] for name in metrics]
    wanted: dict[Triple, None] = {}
    prompts: dict[str, None] = {}
    for metric in chosen:
        for case in cases:
            wanted.update(dict.fromkeys(metric.triples(case)))
            prompts.update(dict.fromkeys(metric.prompts(case)))
    scores = score_targets(loaded, list(wanted), lambda done: progress("scoring", done, len(wanted)))
    texts = generate_texts(
        loaded,
        list(prompts),
        TEXT_LENGTH,
        top_k=TOP_K,
        seed=seed,
        progress=lambda done: progress("generating", done, len(prompts)),
    )
    read = Readings(dict(zip(wanted, scores, strict=True)), dict(zip(prompts, texts, strict=True)))
    return {metric.name: metric.values(cases, read) for metric in chosen}
