"""What the base model says to prompts, and how it scores objects: from the ledger, or asked now and recorded."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple
from math import exp, isfinite, log

from kbsync.facts import EditRequest, content_id
from kbsync.ledger import Ledger, ModelRow
from kbsync.metrics import perplexity
from kbsync.metrics.recall import Triple
from kbsync.models import LoadedModel, TargetScore, greedy_answers, score_targets, top_answers
from kbsync.sync.choice import ModelChoice
from kbsync.sync.plan import prompt_of, says
from kbsync.sync.progress import Progress

__all__ = ["BaseScores", "base_answers", "other_answers"]


def base_answers(
    ledger: Ledger, choice: ModelChoice, model: ModelRow, asked: Mapping[str, str], progress: Progress
) -> dict[str, str]:
    """Return what the base model says to each prompt of `asked`: from the ledger, or asked now and recorded.

    `asked` maps a prompt to the object that is hoped for: where that is the model's top answer, one forward pass
    tells; only the others are generated.
    """
    said = ledger.answers(model.key, list(asked))
    triples = [("{}", prompt, target) for prompt, target in asked.items() if prompt not in said]
    if not triples:
        return said
    phase = "asking the base model"
    scores = BaseScores(ledger, model)(choice.loaded, triples, lambda done: progress(phase, done, len(triples)))
    fresh = {prompt: target for (_, prompt, target), score in zip(triples, scores, strict=True) if score.exact}
    others = [prompt for _, prompt, _ in triples if prompt not in fresh]
    fresh |= zip(others, greedy_answers(choice.loaded, others), strict=True)
    ledger.record_answers(model.key, fresh)
    return said | fresh


class BaseScores:
    """`score_targets` and `perplexity` for a base model, which is asked only what the ledger does not know."""

    def __init__(self, ledger: Ledger, model: ModelRow) -> None:
        self.ledger, self.sha256 = ledger, model.weights_sha256

    def __call__(
        self, loaded: LoadedModel, triples: Sequence[Triple], progress: Callable[[int], None] = lambda done: None
    ) -> list[TargetScore]:
        """Score (template, subject, object) triples; `progress` is told of those that the model is asked for."""
        asked = [(template.replace("{}", subject, 1), thing) for template, subject, thing in triples]
        known = self.ledger.base_scores(self.sha256, set(asked))
        missing = [triple for triple, about in zip(triples, asked, strict=True) if about not in known]
        if missing:
            fresh = score_targets(loaded, missing, progress)
            places = [about for about in asked if about not in known]
            found = {about: astuple(score) for about, score in zip(places, fresh, strict=True)}
            self.ledger.record_base_scores(
                self.sha256, {about: one for about, one in found.items() if isfinite(one[0])}
            )
            known |= found
        return [TargetScore(*known[about]) for about in asked]

    def perplexity(self, loaded: LoadedModel, lines: Sequence[str], length: int) -> float:
        """Return the perplexity of lines that are cut at `length` tokens."""
        about = (content_id("text1", [length, list(lines)]), "")
        known = self.ledger.base_scores(self.sha256, [about])
        if about in known:
            return exp(-known[about][0])
        found = perplexity(loaded, lines, length)
        if isfinite(found):
            self.ledger.record_base_scores(self.sha256, {about: (-log(found), False, 0.0)})
        return found


def other_answers(
    ledger: Ledger, choice: ModelChoice, model: ModelRow, requests: Sequence[EditRequest], progress: Progress
) -> dict[str, str]:
    """Return o^c for each request's id: what the base model says or, where that is the object, what comes next."""
    said = base_answers(ledger, choice, model, {prompt_of(one): one.target for one in requests}, progress)
    return {one.id: other_answer(choice.loaded, one, said[prompt_of(one)]) for one in requests}


def other_answer(loaded: LoadedModel, request: EditRequest, answer: str) -> str:
    """Return the answer; where it is the request's object, the model's next likeliest one."""
    if not says(answer, request):
        return answer
    answers = top_answers(loaded, prompt_of(request), 3 + len(request.aliases))
    return next((one.text for one in answers if not says(one.text, request)), answers[-1].text)
