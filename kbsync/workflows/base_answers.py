"""What the base model says to prompts: from the ledger, or asked in batches and recorded there."""

from collections.abc import Mapping, Sequence

from kbsync.facts import EditRequest
from kbsync.ledger import Ledger, ModelRow
from kbsync.models import LoadedModel, greedy_answers, score_targets, top_answers
from kbsync.workflows.choice import ModelChoice
from kbsync.workflows.plan import prompt_of, says
from kbsync.workflows.progress import Progress

__all__ = ["base_answers", "other_answers"]


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
    scores = score_targets(choice.loaded, triples, lambda done: progress(phase, done, len(triples)))
    fresh = {prompt: target for (_, prompt, target), score in zip(triples, scores, strict=True) if score.exact}
    others = [prompt for _, prompt, _ in triples if prompt not in fresh]
    fresh |= zip(others, greedy_answers(choice.loaded, others), strict=True)
    ledger.record_answers(model.key, fresh)
    return said | fresh


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
