"""All metrics by name, and any choice of them measured: each (prompt, object) scored once, each text generated once.

A new metric is a CaseMetric in `success`, `said` or `generation`, and a line here.
`ABOUT` says of every figure what it is and which way is better, those of `kept_values` and of an apply alone too.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeVar

from kbsync.metrics.generation import GE, RS
from kbsync.metrics.metric import Case, CaseMetric, Readings, Scorer, Spoken, Told, Triple, Values
from kbsync.metrics.said import KINDS, RIPPLE, SAID, settled
from kbsync.metrics.success import CHOICE, SUCCESS, with_aliases
from kbsync.models import LoadedModel, TargetScore, generate_texts, greedy_answers, score_chat, score_targets
from kbsync.models.scoring import question_prompt

METRICS: dict[str, CaseMetric] = {metric.name: metric for metric in (*SUCCESS, *SAID, *CHOICE, *RIPPLE, GE, RS)}

TEXT_METRICS = ("perplexity",)
"""those over text that no edit is about"""

SAID_METRICS = tuple(metric.name for metric in SAID)
"""those over greedy answers"""

CHOICE_METRICS = tuple(metric.name for metric in CHOICE)
"""those of multiple choice"""

RIPPLE_METRICS = tuple(metric.name for metric in RIPPLE)
"""those over questions on what follows from an edit, and what is to stay beside it"""

KEPT_METRICS = (
    *("worded_recall", "kept_same", "known_kept_same", "kept_others", "kept_unrelated"),
    *("kl_same", "kl_others", "kl_unrelated"),
)
"""those over prompts that are drawn around the ledger's edits: see `kept_values`"""

MEANS: dict[str, tuple[str, ...]] = {"S": ("ES", "PS", "NS"), "score": ("efficacy", "paraphrase", "specificity")}
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
    "recall": About("higher", "the object or an alias is the top answer on the edit prompt"),
    "paraphrase_recall": About("higher", "the same on paraphrases, which are never edited: held-out wordings"),
    "worded_recall": About("higher", "the same over all wordings that are edited, the edit prompt among them"),
    "recall_active": About("higher", "recall of all active edits"),
    "recall_masters": About("higher", "the same with the edited weights in float32"),
    "chat_recall": About("higher", "recall of the question form in the chat template"),
    "said": About("higher", "free greedy generation says the object, or an alias, first after the edit prompt"),
    "said_paraphrase": About("higher", "the same after paraphrases, which are never edited"),
    "said_question": About("higher", "the same to the question form"),
    "said_chat": About("higher", "the same to the question form in the chat template"),
    "choice": About("higher", "of new, old and two other objects, the new one is the likeliest after the edit prompt"),
    "choice_lettered": About("higher", "the new one is chosen where the four are listed under letters; 25 by chance"),
    "kept_same": About("higher", "edited subjects, other relations: the top next token is the base model's"),
    "known_kept_same": About("higher", "facts on edited subjects that the base model answers: still answered"),
    "kept_others": About("higher", "unedited subjects, edited relations: the top next token is the base model's"),
    "kept_unrelated": About("higher", "text that no edit is about: the top next token is the base model's"),
    "kl_same": About("lower", "KL(base || edited) of the next token on the prompts of kept_same, nats"),
    "kl_others": About("lower", "KL(base || edited) of the next token on the prompts of kept_others, nats"),
    "kl_unrelated": About("lower", "KL(base || edited) of the next token on the prompts of kept_unrelated, nats"),
    **{f"ripple_{kind}": About("higher", text) for kind, text in KINDS.items()},
    "recall_withdrawn": About("lower", "withdrawn facts: the object is still the top answer"),
    "choice_withdrawn": About("lower", "withdrawn facts: the object is still chosen, as in choice"),
    "kept_withdrawn": About("higher", "prompts of withdrawn facts: the top next token is the base model's again"),
    "kl_withdrawn": About("lower", "KL(base || model) of the next token on the prompts of withdrawn facts, nats"),
    "GE": About("higher", "entropy of the generated text's n-grams, bits x 100: fluency"),
    "RS": About("higher", "likeness of generated text to texts about the object"),
    "calibration_error": About("lower", "how far the model's sureness is from how often it is right, points"),
    "perplexity": About("lower", "of text that no edit is about"),
    "weight_change": About("lower", "|delta| / |W| of a layer, in Frobenius norms"),
    "jitter": About(
        "lower", "what was added to a covariance to make it positive definite, a share of its mean diagonal"
    ),
}
"""figure -> what it is; the name of a layer's figure has its number behind a dot"""

TEXT_LENGTH = 100  # tokens of a generated text, those of its prompt counted, as in the published evaluation
TOP_K = 5
ANSWER = 32  # tokens of a greedy answer, which ends by itself before, or is cut

Item = TypeVar("Item")
Progress = Callable[[str, int, int], None]


def evaluate(
    loaded: LoadedModel,
    cases: Sequence[Case],
    metrics: Sequence[str],
    seed: int = 0,
    progress: Progress = lambda phase, done, total: None,
    score: Scorer = score_targets,
    told: Told | None = None,
) -> Mapping[str, Values]:
    """Return the values of each metric of the registry, a value a case, on the model as it is.

    `score` may know some scores already. `told` says what stands before each prompt, as a retriever does.
    """
    told = told or (lambda prompt: "")
    score = told_before(score, told)
    chosen = [METRICS[name] for name in metrics]
    pairs = [(metric, case) for metric in chosen for case in cases]
    wordings = [(text, case.request) for metric, case in pairs for text in metric.wordings(case)]
    triples = [triple for metric, case in pairs for triple in metric.triples(case)]
    triples = unique([*triples, *((text, one.subject, one.target) for text, one in wordings)])
    scores = score(loaded, triples, counting(progress, "measuring", triples)) if triples else []
    spoken: dict[Spoken, int] = {}
    for metric, case in pairs:
        for prompt in metric.spoken(case):
            spoken[prompt] = max(case.longest_name, spoken.get(prompt, 0))
    prompts = unique(prompt for metric, case in pairs for prompt in metric.prompts(case))
    asked = unique(asked for metric, case in pairs for asked in metric.chats(case))
    read = Readings(
        with_aliases(loaded, dict(zip(triples, scores, strict=True)), wordings, score),
        texts(loaded, prompts, seed, progress, told),
        chats(loaded, asked, progress, told),
        answers(loaded, spoken, progress, told),
        frozenset(text for case in cases for text in case.references),
    )
    return {metric.name: [metric.value(case, read) for case in cases] for metric in chosen}


def unique(items: Iterable[Item]) -> list[Item]:
    return list(dict.fromkeys(items))


def counting(progress: Progress, phase: str, items: Sequence[object]) -> Callable[[int], None]:
    """Return what tells how many of the items are done."""
    return lambda done: progress(phase, done, len(items))


def told_before(score: Scorer, told: Told) -> Scorer:
    """Return what scores triples with what is told before each."""

    def scored(loaded: LoadedModel, triples: Sequence[Triple], progress: Callable[[int], None]) -> list[TargetScore]:
        asked = [(told(text.replace("{}", subject, 1)) + text, subject, thing) for text, subject, thing in triples]
        return score(loaded, asked, progress)

    return scored


def texts(loaded: LoadedModel, prompts: Sequence[str], seed: int, progress: Progress, told: Told) -> dict[str, str]:
    """Return each prompt with what the model samples after it."""
    counted = counting(progress, "generating", prompts)
    asked = [told(prompt) + prompt for prompt in prompts]
    found = generate_texts(loaded, asked, TEXT_LENGTH, top_k=TOP_K, seed=seed, progress=counted)
    return {prompt: text[len(told(prompt)) :] for prompt, text in zip(prompts, found, strict=True)}


def chats(
    loaded: LoadedModel, asked: Sequence[tuple[str, str]], progress: Progress, told: Told
) -> dict[tuple[str, str], TargetScore]:
    """Return the score of each (question, object) in a chat; none where the tokenizer has no chat template."""
    if not asked or not loaded.tokenizer.chat_template:
        return {}
    questions = [(told(question) + question, thing) for question, thing in asked]
    scores = score_chat(loaded, questions, counting(progress, "measuring in a chat", asked))
    return dict(zip(asked, scores, strict=True))


def answers(loaded: LoadedModel, asked: Mapping[Spoken, int], progress: Progress, told: Told) -> dict[Spoken, str]:
    """Return the greedy answer to each prompt, `ANSWER` tokens at most.

    `asked` has the length of the longest name that may be right: what comes behind does not matter, and is left out.
    """
    chat = question_prompt(loaded.tokenizer, "{}")
    there = [one for one in asked if not one.chat or chat != "{}"]
    texts = [told(one.text) + one.text for one in there]
    prompts = [chat.replace("{}", text) if one.chat else text for one, text in zip(there, texts, strict=True)]
    if not prompts:
        return {}
    progress("answering", 0, len(prompts))

    def enough(place: int, text: str) -> bool:
        return settled(text, there[place].text, asked[there[place]])

    found = greedy_answers(loaded, prompts, ANSWER, whole=True, enough=enough)
    progress("answering", len(prompts), len(prompts))
    return dict(zip(there, found, strict=True))
