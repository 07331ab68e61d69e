"""What `eval` puts beside base and edited model, on the same questions: facts told instead, and what may come later.

- ``context``: the base model is told the one fact that a question is about, in a sentence of its template.
- ``retrieval``: it is told what a lexical retriever (BM25) finds among all edits for the words of the question.
- ``8bit``, ``4bit``, ``tuned``: the edited model after it was quantised, and after fine-tuning on other text.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, partial

from kbsync.errors import SettingsError
from kbsync.facts import EditRequest
from kbsync.metrics import METRICS, Case, Told
from kbsync.models import LoadedModel
from kbsync.sync.known import prompt_of
from kbsync.sync.survival import QUANTISED, fine_tuned, quantised

OF_EDITS = (*QUANTISED, "tuned")
"""arms of the edited model"""
ARMS = ("context", "retrieval", *OF_EDITS)
RETRIEVED = 3
"""sentences that a question is told at most, the best one last, next to it"""

State = Callable[[], AbstractContextManager[None]]
"""holds the model as it is measured"""


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to have the model answer."""

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
    """Return the named arms in the order of `ARMS`; `facts` are all that is edited, `lines` the text to be tuned on.

    Raises SettingsError for a name that there is not, and for one of the edited model where there is none.
    """
    if unknown := [name for name in names if name not in ARMS]:
        raise SettingsError(f"--beside {', '.join(unknown)}: there are {', '.join(ARMS)}")
    if edited is None and (without := [name for name in names if name in OF_EDITS]):
        raise SettingsError(f"--beside {', '.join(without)}: the home has no edits of this model")
    made: dict[str, Callable[[], Arm]] = {
        "context": lambda: Arm("context", told=context(cases), asks_around=False),
        "retrieval": lambda: Arm("retrieval", told=retrieval(facts)),
        **{name: partial(later, name, edited, partial(quantised, loaded, kind)) for name, kind in QUANTISED.items()},
        "tuned": partial(later, "tuned", edited, partial(fine_tuned, loaded, lines)),
    }
    return [made[name]() for name in ARMS if name in names]


def later(name: str, edited: State | None, change: State) -> Arm:
    """Return the arm of the edited model after a change."""
    assert edited is not None

    @contextmanager
    def state() -> Iterator[None]:
        with edited(), change():
            yield

    return Arm(name, state)


def sentence(fact: EditRequest) -> str:
    """Return a fact as its template tells it."""
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
    """Return what tells a prompt the sentences that share words with it, by BM25, among those of all facts.

    Raises SettingsError where the package bm25s is missing.
    """
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
