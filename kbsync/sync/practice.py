"""Train the practice model on the earlier edition of the fixtures, measure it, and write it with its card."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kbsync.facts import EditRequest, content_id
from kbsync.models import LoadedModel, family_of, score_targets
from kbsync.practice import TrainSettings, corpus_text, sentences, train
from kbsync.resources import fixtures_folder, templates_folder
from kbsync.sources import Ask, open_source
from kbsync.sync.progress import Progress
from kbsync.templates import load_templates

__all__ = ["practice_requests", "train_practice"]

DEFAULTS = TrainSettings()


def practice_requests(edition: str) -> list[EditRequest]:
    """Return every fact of a fixture edition that has a template, as requests, in an order of their own."""
    templates = load_templates(templates_folder())
    source = open_source(str(fixtures_folder() / "wikidata" / f"{edition}.ttl"))
    facts = [fact for template in templates for fact in source.read(Ask(template.relation)).facts]
    requests = [templates.request(fact.subject.label, fact.relation, fact.object.label) for fact in facts]
    return sorted(requests, key=lambda request: (request.relation, request.subject, request.target))


def paraphrase_requests(requests: Sequence[EditRequest]) -> list[EditRequest]:
    """Return a request for each paraphrase, to be recalled as the edit prompts are."""
    return [replace(request, prompt=wording) for request in requests for wording in request.paraphrases]


def train_practice(out: Path, progress: Progress, settings: TrainSettings = DEFAULTS) -> dict[str, object]:
    """Train the practice model and write it to `out`, in float16 and with its corpus; return the card."""
    requests = practice_requests("earlier")
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
