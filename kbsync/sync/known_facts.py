"""Facts that a model knows, to measure it by: the ledger's or, where there are none, the fixtures'."""

import random
from collections.abc import Collection, Sequence
from pathlib import Path

from kbsync.errors import LedgerError
from kbsync.facts import EditRequest
from kbsync.ledger import Ledger
from kbsync.models import LoadedModel, score_targets
from kbsync.sync.practice import practice_requests
from kbsync.sync.progress import Progress
from kbsync.sync.templates import templates_for

__all__ = ["facts_to_ask", "known_requests"]

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
        raise LedgerError(f"neither {home} nor the fixtures have facts of {wanted} with a template: pull some first")
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
