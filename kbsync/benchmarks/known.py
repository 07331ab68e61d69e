"""The fixtures' facts that a model knows: what benchmarks draw their edits from."""

from kbsync.facts import EditRequest
from kbsync.models import LoadedModel, score_targets
from kbsync.workflows.practice import practice_requests
from kbsync.workflows.progress import Progress, silent

__all__ = ["known_facts"]


def known_facts(loaded: LoadedModel, progress: Progress = silent) -> list[EditRequest]:
    """Return the facts of the fixtures' earlier edition whose object is the model's top answer."""
    facts = practice_requests("earlier")
    triples = [(fact.prompt, fact.subject, fact.target) for fact in facts]
    scores = score_targets(loaded, triples, lambda done: progress("asking the model", done, len(facts)))
    return [fact for fact, score in zip(facts, scores, strict=True) if score.exact]
