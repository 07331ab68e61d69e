"""All metrics by name, and any choice of them measured: each (prompt, object) scored once, each text generated once.

A new metric is a CaseMetric in `success` or `generation`, or a TextMetric, and a line here.
"""

from collections.abc import Callable, Mapping, Sequence

from kbsync.metrics.generation import GE, RS
from kbsync.metrics.metric import Case, CaseMetric, Readings, TextMetric, Values
from kbsync.metrics.perplexity import PERPLEXITY
from kbsync.metrics.recall import Triple
from kbsync.metrics.success import SUCCESS
from kbsync.models import LoadedModel, generate_texts, score_targets

__all__ = ["MEANS", "METRICS", "TEXT_LENGTH", "TEXT_METRICS", "TOP_K", "evaluate"]

METRICS: dict[str, CaseMetric] = {metric.name: metric for metric in (*SUCCESS, GE, RS)}

TEXT_METRICS: dict[str, TextMetric] = {metric.name: metric for metric in (PERPLEXITY,)}
"""those over text that no edit is about"""

MEANS: dict[str, tuple[str, ...]] = {
    "S": ("ES", "PS", "NS"),
    "score": ("efficacy", "paraphrase", "specificity"),
}
"""harmonic means of metrics' means: there where all of their parts are"""

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
