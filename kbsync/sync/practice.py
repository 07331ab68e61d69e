"""The practice model, its data sets, and facts that a model knows, to measure it by."""

import json
import random
import shutil
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from safetensors import SafetensorError

from kbsync.errors import LedgerError
from kbsync.facts import EditRequest, content_id
from kbsync.files import writing
from kbsync.ledger import Ledger
from kbsync.models import LoadedModel, family_of, score_targets
from kbsync.practice import TrainSettings, corpus_text, sentences, train
from kbsync.practice.datasets import counterfact_records, json_text, zsre_records
from kbsync.resources import fixtures_folder
from kbsync.sources import Ask, open_source
from kbsync.sync.home import Progress, own_templates, templates_for


@cache
def practice_requests(edition: str) -> tuple[EditRequest, ...]:
    """Return every fact of a fixture edition that has a template, as requests, in an order of their own."""
    templates = own_templates()
    source = open_source(str(fixtures_folder() / "wikidata" / f"{edition}.ttl"))
    facts = [fact for template in templates for fact in source.read(Ask(template.relation)).facts]
    requests = [templates.request(fact.subject.label, fact.relation, fact.object.label) for fact in facts]
    return tuple(sorted(requests, key=lambda request: (request.relation, request.subject, request.target)))


def paraphrase_requests(requests: Sequence[EditRequest]) -> list[EditRequest]:
    """Return a request for each paraphrase, to be recalled as the edit prompts are."""
    return [replace(request, prompt=wording) for request in requests for wording in request.paraphrases]


def train_practice(out: Path, progress: Progress) -> dict[str, object]:
    """Train the practice model and write it to `out`, in float16 and with its corpus; return the card."""
    requests, settings = practice_requests("earlier"), TrainSettings()
    made = sentences(requests)
    model, tokenizer, figures = train(made, settings, progress)
    model.half().float()  # measured as it will be loaded
    loaded = LoadedModel(str(out), model, tokenizer, family_of(model.config))
    card = {
        "facts": len(requests),
        "facts_hash": content_id("facts1", [request.id for request in requests]),
        "recall_edit_prompt": recall(loaded, requests),
        "recall_paraphrases": recall(loaded, paraphrase_requests(requests)),
        **figures,
    }
    with writing(out, SafetensorError):
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent) as folder:
            made_here = Path(folder, "model")
            model.half().save_pretrained(made_here)
            tokenizer.save_pretrained(made_here)
            Path(made_here, "corpus.txt").write_text(corpus_text(requests, settings.seed), encoding="utf-8")
            Path(made_here, "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
            if out.exists():
                shutil.rmtree(out)
            made_here.rename(out)
    return card


def recall(loaded: LoadedModel, requests: Sequence[EditRequest]) -> float:
    """Return the percentage of requests whose exact target is the model's top answer."""
    scores = score_targets(loaded, [(request.prompt, request.subject, request.target) for request in requests])
    return round(100 * sum(score.exact for score in scores) / len(scores), 2)


COUNTERFACT, ZSRE = "counterfact-practice.json", "zsre-practice.json"
RECORDS = {COUNTERFACT: 750, ZSRE: 1500}
"""how many each has; CounterFact's are fewer, as a record needs a fact of the same object that no record edits"""


def write_datasets(folder: Path) -> dict[str, int]:
    """Write both data sets into `folder`; return how many records each file has. The same bytes each time."""
    known = practice_requests("earlier")
    written = {}
    for name, make in ((COUNTERFACT, counterfact_records), (ZSRE, zsre_records)):
        records = make(known, RECORDS[name])
        with writing(folder / name):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(json_text(records), encoding="utf-8", newline="\n")
        written[name] = len(records)
    return written


ASKED_AT_ONCE = 500


def facts_to_ask(home: Path, ledger: Ledger, relations: Collection[str] | None) -> tuple[list[EditRequest], str]:
    """Return the ledger's facts that have a template or, where there are none, the fixtures'; in a drawn order."""
    templates = templates_for(home)
    rows = [row for row in ledger.facts(relations, withdrawn=False) if row.relation in templates]
    found = [templates.request(row.subject_label, row.relation, row.object_label) for row in rows]
    source = "ledger" if found else "fixtures"
    if not found:
        found = [one for one in practice_requests("earlier") if relations is None or one.relation in relations]
    if not found:
        wanted = ", ".join(relations or ())
        raise LedgerError(
            f"neither {home} nor the fixtures have facts of {wanted} that have a template: pull some first"
        )
    found.sort(key=lambda request: request.id)
    random.Random(0).shuffle(found)
    return found, source


def known_requests(
    loaded: LoadedModel, requests: Sequence[EditRequest], wanted: int, progress: Progress
) -> tuple[list[EditRequest], int]:
    """Return requests whose object is the model's exact top answer, `wanted` or a few more, and how many were asked."""
    known: list[EditRequest] = []
    asked = 0
    while asked < len(requests) and len(known) < wanted:
        some = requests[asked : asked + ASKED_AT_ONCE]
        scores = score_targets(loaded, [(one.prompt, one.subject, one.target) for one in some])
        known += [one for one, score in zip(some, scores, strict=True) if score.exact]
        asked += len(some)
        progress("asking the model", min(len(known), wanted), wanted)
    return known, asked
