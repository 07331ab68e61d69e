"""The practice model, its data sets, and facts that a model knows, to measure it by.

MEND's network for a model: trained on facts that the model knows, kept in the home, found again by the weights.

A network may be trained without some subjects, those that it is to be measured on; it is kept beside the one for use.
"""

import json
import random
import shutil
import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cache
from itertools import compress
from pathlib import Path
from statistics import fmean
from typing import Any

from safetensors import SafetensorError

from kbsync.editors import known_values
from kbsync.editors.mend import MendNetwork, MendSettings, read_network, train_mend, weights_of
from kbsync.errors import EditError, LedgerError
from kbsync.facts import EditRequest, content_id, normalise_label
from kbsync.files import writing
from kbsync.ledger import Ledger, read_metadata, read_tensors, replace_tensors
from kbsync.memit.settings import changed
from kbsync.metrics import recalled
from kbsync.models import LoadedModel, family_of
from kbsync.practice import TrainSettings, corpus_text, sentences, train
from kbsync.practice.datasets import counterfact_records, json_text, zsre_records
from kbsync.resources import fixtures_folder
from kbsync.sources import Ask, open_source
from kbsync.sync.home import AS_STORED, Loading, Progress, own_templates, silent, templates_for
from kbsync.sync.model import ModelChoice, choose_model


@cache
def practice_requests(edition: str) -> tuple[EditRequest, ...]:
    """Return every fact of a fixture edition that has a template, as requests, in an order of their own."""
    templates = own_templates()
    source = open_source(str(fixtures_folder() / "wikidata" / f"{edition}.ttl"))
    facts = [fact for template in templates for fact in source.read(Ask(template.relation)).facts]
    requests = [templates.request(fact.subject.label, fact.relation, fact.object.label) for fact in facts]
    return tuple(sorted(requests, key=lambda request: (request.relation, request.subject, request.target)))


def paraphrase_requests(requests: Sequence[EditRequest]) -> list[EditRequest]:
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
    return round(100 * sum(recalled(loaded, requests)) / len(requests), 2)


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
        told = f"neither {home} nor the fixtures have facts of {', '.join(relations or ())} that have a template"
        raise LedgerError(f"{told}: pull some first")
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
        known += compress(some, recalled(loaded, some))
        asked += len(some)
        progress("asking the model", min(len(known), wanted), wanted)
    return known, asked


def train_network(
    home: Path,
    model: str,
    facts: int,
    steps: int | None = None,
    *,
    loading: Loading = AS_STORED,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train MEND's network for a model and keep it in `home`, in the place of an earlier one of the same weights."""
    with Ledger.open(home) as ledger, ledger.writer(f"mend train {model}"):
        asked = facts_to_ask(home, ledger, None)
        choice = choose_model(model, home=home, loading=loading, progress=progress)
        return train_for(ledger, choice, asked, facts, steps, progress)


def train_for(
    ledger: Ledger,
    choice: ModelChoice,
    asked: tuple[Sequence[EditRequest], str],
    facts: int,
    steps: int | None,
    progress: Progress = silent,
    *,
    without: Collection[str] = (),
) -> dict[str, Any]:
    """Train on those of the facts `asked` (and where they are from) that a loaded model knows; keep the network.

    Facts about the subjects `without` are left out. Returns how it went, with the keys of the JSON; losses are means
    over the first and the last tenth of the steps.
    """
    requests, source = asked
    kept_out = {normalise_label(subject) for subject in without}
    requests = [one for one in requests if normalise_label(one.subject) not in kept_out]
    known, _ = known_requests(choice.loaded, requests, facts, progress)
    given = {} if steps is None else {"steps": steps}
    settings = changed(MendSettings(), known_values(choice.name, "mend_train") | given)
    began = time.monotonic()
    trained = train_mend(choice.loaded, known, settings, progress)
    seconds = round(time.monotonic() - began, 2)
    network = trained.network
    file = network_file(ledger.tensors, network.weights, without)
    replace_tensors(file, network.state_dict(), network.metadata())
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return {
        "model": choice.name,
        "source": source,  # of the facts: ledger or fixtures
        "facts": len(known),
        "steps": len(trained.edit_losses),
        "layers": tuple(network.layers),
        "parameters": parameters,
        "edit_loss": ends(trained.edit_losses),  # -log P of the new object on another wording
        "locality_loss": ends(trained.locality_losses),  # KL(before || after) on the objects of unrelated facts
        "seconds": seconds,
        "file": file,
    }


def has_network(tensors: Path, loaded: LoadedModel, without: Collection[str] = ()) -> bool:
    return network_file(tensors, weights_of(loaded), without).exists()


def mend_network(tensors: Path, loaded: LoadedModel, without: Collection[str] = ()) -> MendNetwork:
    """Return the network in a home's tensors for the weights of `loaded`, trained without these subjects."""
    file = network_file(tensors, weights_of(loaded), without)
    if not file.exists():
        raise EditError(f"no MEND network is trained for {loaded.source} here: run `kbsync mend train --model ...`")
    return read_network(read_tensors(file), read_metadata(file), loaded)


def network_file(tensors: Path, weights: str, without: Collection[str] = ()) -> Path:
    """Return where the network for a model of these weights (SHA-256), trained without these subjects, lies."""
    named = [weights, sorted({normalise_label(subject) for subject in without})] if without else weights
    return tensors / f"{content_id('mend1', named).replace(':', '-')}.safetensors"


def ends(losses: tuple[float, ...]) -> tuple[float, float]:
    """Return the means of the first and the last tenth."""
    part = max(1, len(losses) // 10)
    return round(fmean(losses[:part]), 4), round(fmean(losses[-part:]), 4)
