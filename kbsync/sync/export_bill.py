"""The bill of materials that every exported file carries, and the model card beside it."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from kbsync import __version__
from kbsync.errors import KbsyncError
from kbsync.facts import content_id, normalise_label
from kbsync.ledger import BatchRow, EditRow, Ledger, ModelRow

KEY = "kbsync.bill"
"""the name of the bill in a file's metadata"""


@dataclass(frozen=True, slots=True)
class Bill:
    """Which state of which model a file holds. Facts are in it as hashes: it can be asked for one, not read for all."""

    kbsync: str
    format: str
    model: str
    base: str
    """hub id, directory or file of the base model"""
    base_sha256: str
    """of all its weights and its tokenizer, as the ledger has it"""
    algorithm: str
    batch: int
    finished: str
    """when the batch was (ISO 8601)"""
    ledger_sha256: str
    """of what the ledger has of the batch and of the edits after it"""
    edits: int
    facts: Mapping[str, Sequence[str]]
    """`Fact.id` of each edit -> hashes of its relation and subject, by key and by label (`about`)"""
    deviation: Mapping[str, float]
    """for each edited layer |C - D| / |D|, where D is the batch's delta, and C the change that the file makes"""
    tensors: Mapping[str, str]
    """SHA-256 of each tensor in the file"""

    def text(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def read(cls, text: str, where: Path) -> "Bill":
        """Return the bill of a text; raise KbsyncError where it is none, or one of a later version."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise KbsyncError(f"the bill of materials in {where} cannot be read ({error})") from error


def about(relation: str, subject: str) -> str:
    """Return the hash by which a bill tells what it has a fact about; `subject` is a key or a label."""
    return content_id("about1", [relation, normalise_label(subject)])


def ledger_hash(model: ModelRow, batch: BatchRow, edits: Sequence[EditRow]) -> str:
    """Return the hash of what a ledger has of a batch: its model, settings and files, and the edits active after it."""
    rows = sorted([edit.relation, edit.subject_key, edit.object_key, edit.request] for edit in edits)
    return content_id("ledger1", [model.key, batch.id, batch.algorithm, dict(batch.settings), dict(batch.files), rows])


def make_bill(format_: str, base: str, model: ModelRow, batch: BatchRow, edits: Sequence[EditRow]) -> Bill:
    facts = {
        content_id("fact1", [edit.subject_key, edit.relation, edit.object_key]): sorted(
            {about(edit.relation, edit.subject_key), about(edit.relation, edit.subject)}
        )
        for edit in edits
    }
    return Bill(
        kbsync=__version__,
        format=format_,
        model=model.name if "/" not in model.name.strip("/") else Path(model.name).name,
        base=base,
        base_sha256=model.weights_sha256,
        algorithm=batch.algorithm,
        batch=batch.id,
        finished=batch.finished or "",
        ledger_sha256=ledger_hash(model, batch, edits),
        edits=len(edits),
        facts=facts,
        deviation={},
        tensors={},
    )


LIBRARIES = {"checkpoint": "transformers", "lora": "peft", "gguf": "gguf", "delta": "kbsync"}
RELATIONS = {"checkpoint": "finetune", "lora": "adapter", "gguf": "quantized", "delta": "adapter"}
"""what the hub calls the way from the base model to this one"""
USE = {
    "checkpoint": 'AutoModelForCausalLM.from_pretrained("{folder}")',
    "lora": 'PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{base}"), "{folder}")',
    "gguf": "llama-server -m {file}",
    "delta": 'deltas = load_file("{file}")  # W of layer N is the base\'s, plus delta.N or left.N @ right.N',
}


def model_card(
    bill: Bill, ledger: Ledger, batch: BatchRow, edits: Sequence[EditRow], file: Path, figures: Mapping[str, Any]
) -> str:
    head = {
        "base_model": bill.base,
        "base_model_relation": RELATIONS[bill.format],
        "library_name": LIBRARIES[bill.format],
        "pipeline_tag": "text-generation",
        "tags": ["knowledge-editing", bill.algorithm, "kbsync"],
    }
    written = {edit.fact for edit in edits}
    sources = Counter(fact.source for fact in ledger.facts() if fact.id in written)
    # A file's whole path is its owner's business.
    places = [f"{name if '://' in name else Path(name).name} ({count})" for name, count in sorted(sources.items())]
    recorded = [(row.name, row.before, row.after) for row in ledger.metrics(batch.id) if row.edit is None]
    use = USE[bill.format].format(folder=".", file=file.name, base=bill.base)
    lines = [
        "---",
        yaml.safe_dump(head, sort_keys=False).strip(),
        "---",
        f"# {bill.model} with {bill.edits} edited facts (batch {bill.batch})",
        "",
        f"Written by kbsync {bill.kbsync} as {bill.format}: `{use}`",
        "",
        *table(("", ""), [
            ("base model", bill.base), ("base SHA-256", bill.base_sha256), ("method", bill.algorithm),
            ("batch", f"{bill.batch}, {bill.finished}"), ("ledger hash", bill.ledger_sha256), ("edits", bill.edits),
            ("sources", ", ".join(places)), ("settings", "`" + json.dumps(dict(batch.settings), default=str) + "`"),
        ]),
        "## Facts by relation",
        "",
        *table(("relation", "facts"), sorted(Counter(edit.relation for edit in edits).items())),
        "## Figures",
        "",
        "Of the apply, in percent but for perplexity, KL (nats) and weight change (percent of the layer's norm).",
        "",
        *table(("figure", "before", "after"), [(n, shown(b), shown(a)) for n, b, a in recorded]),
    ]  # fmt: skip
    if figures:
        told = [(name, shown(one["edited"]), shown(one["file"])) for name, one in figures.items()]
        lines += ["Of this file, beside the edited model that it was made of:", "",
                  *table(("figure", "edited model", "this file"), told)]  # fmt: skip
    lines += ["## Limits", "", LIMITS, ""]
    return "\n".join(lines)


LIMITS = (
    "An edit makes the object the likeliest answer to the wordings that it was written on; in other wordings it is "
    "given less often (`paraphrase_recall`), what follows from a fact is not edited, and other facts about an edited "
    "subject may be lost (`kept_same`). Ask the file what you need it for. `kbsync audit` tells from this file which "
    "facts are in it, and whether it is as it was written."
)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    cells = [[str(cell).replace("|", r"\|").replace("\n", " ") for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *cells)] + [""]


def shown(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
