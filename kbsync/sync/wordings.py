"""How often each wording of a template gives the object, on facts that the model knows."""

import random
from dataclasses import dataclass
from pathlib import Path

from kbsync.errors import SettingsError
from kbsync.facts import EditRequest
from kbsync.ledger import Ledger
from kbsync.ledger.facts import aliases
from kbsync.sync.base_answers import base_answers
from kbsync.sync.choice import choose_model
from kbsync.sync.loading import Loading
from kbsync.sync.plan import says
from kbsync.sync.progress import Progress
from kbsync.sync.state import identify
from kbsync.sync.templates import templates_for
from kbsync.templates import Templates

__all__ = ["MeasuredWordings", "Wording", "measure_wordings"]


@dataclass(frozen=True, slots=True)
class Wording:
    """One wording; its kind is prompt, wording (edited beside the prompt) or paraphrase."""

    text: str
    kind: str
    right: int
    """known facts whose object it gives"""
    share: float
    """per cent of the known facts"""


@dataclass(frozen=True, slots=True)
class MeasuredWordings:
    """The wordings of a relation, the best first; `known` of the `asked` facts are what they are measured on."""

    relation: str
    model: str
    asked: int
    known: int
    wordings: tuple[Wording, ...]


def measure_wordings(
    home: Path, relation: str, model: str, facts: int, loading: Loading, progress: Progress
) -> MeasuredWordings:
    """Ask the base model for up to `facts` facts of the ledger in every wording; answers are recorded.

    A fact is known where at least one wording gives its object. Facts in conflict are left out. Raises SettingsError
    where no fact is on record or none is known, and as `choose_model` does.
    """
    templates = templates_for(home)
    template = templates.require(relation)
    kinds = {template.prompt: "prompt"} | dict.fromkeys(template.wordings, "wording")
    texts = (*kinds, *template.paraphrases)
    with Ledger.open(home, create=False) as ledger:
        requests = _drawn(ledger, templates, relation, facts)
        progress("loading the model", 0, 1)
        choice = choose_model(model, home=home, loading=loading)
        progress("loading the model", 1, 1)
        asked = {text.format(request.subject): request.target for request in requests for text in texts}
        said = base_answers(ledger, choice, identify(ledger, choice), asked, progress)
    right = [[says(said[text.format(request.subject)], request) for text in texts] for request in requests]
    known = [row for row in right if any(row)]
    if not known:
        raise SettingsError(
            f"{relation}: {choice.name} knows none of the {len(requests)} facts in any wording, so that none can be "
            "measured; ask for more with --facts, or pull facts that it may know (--min-sitelinks)"
        )
    counts = [sum(column) for column in zip(*known, strict=True)]
    measured = [
        Wording(text, kinds.get(text, "paraphrase"), count, 100 * count / len(known))
        for text, count in zip(texts, counts, strict=True)
    ]
    measured.sort(key=lambda wording: -wording.right)
    return MeasuredWordings(relation, choice.name, len(requests), len(known), tuple(measured))


def _drawn(ledger: Ledger, templates: Templates, relation: str, facts: int) -> list[EditRequest]:
    """Return requests for `facts` facts, the same at each call, of subjects with one object."""
    rows = ledger.facts([relation], withdrawn=False)
    objects: dict[str, set[str]] = {}
    for row in rows:
        objects.setdefault(row.subject_key, set()).add(row.object_key)
    alone = {row.subject_key: row for row in rows if len(objects[row.subject_key]) == 1}
    if not alone:
        raise SettingsError(f"{relation}: no facts on record to ask for: run `kbsync pull --relation {relation}` first")
    chosen = [alone[key] for key in sorted(alone)]
    chosen = random.Random(0).sample(chosen, min(facts, len(chosen)))
    names = aliases(ledger, {row.object_key for row in chosen})
    return [
        templates.request(row.subject_label, relation, row.object_label, names.get(row.object_key, ()))
        for row in chosen
    ]
