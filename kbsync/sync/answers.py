"""What the base model and the edited one say: recorded, put into a plan (``--probe``), or side by side (``ask``)."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, astuple, replace
from functools import partial
from math import exp, isfinite, log
from pathlib import Path
from typing import Any

from kbsync.conflicts import Policy
from kbsync.errors import LedgerError, SettingsError
from kbsync.facts import EditRequest, content_id
from kbsync.ledger import Ledger, ModelRow
from kbsync.memit import edited
from kbsync.metrics import Triple, perplexity, recalled
from kbsync.models import Answer, LoadedModel, TargetScore, greedy_answers, load_model, score_targets, top_answers
from kbsync.sync.history import model_meant
from kbsync.sync.home import AS_STORED, Loading, Progress, model_name, silent, templates_for
from kbsync.sync.known import Answers, prompt_of, says
from kbsync.sync.model import Session, choose_model, current_deltas, edited_state
from kbsync.sync.plan import NOT_RECALLED, SIGNS, Plan, PlanRow, known_facts, make_plan


def base_answers(work: Session, asked: Mapping[str, str]) -> dict[str, str]:
    """Return what the base model says to each prompt of `asked`: from the ledger, or asked now and recorded.

    `asked` maps a prompt to the object that is hoped for: where that is the model's top answer, one forward pass
    tells; only the others are generated.
    """
    said = work.ledger.answers(work.model.key, list(asked))
    triples = [("{}", prompt, target) for prompt, target in asked.items() if prompt not in said]
    if not triples:
        return said

    def told(done: int) -> None:
        work.progress("asking the base model", done, len(triples))

    scores = BaseScores(work.ledger, work.model)(work.loaded, triples, told)
    fresh = {prompt: target for (_, prompt, target), score in zip(triples, scores, strict=True) if score.exact}
    others = [prompt for _, prompt, _ in triples if prompt not in fresh]
    fresh |= zip(others, greedy_answers(work.loaded, others), strict=True)
    work.ledger.record_answers(work.model.key, fresh)
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
        missing = [(triple, about) for triple, about in zip(triples, asked, strict=True) if about not in known]
        if missing:
            fresh = score_targets(loaded, [triple for triple, _ in missing], progress)
            found = {about: astuple(score) for (_, about), score in zip(missing, fresh, strict=True)}
            finite = {about: one for about, one in found.items() if isfinite(one[0])}
            self.ledger.record_base_scores(self.sha256, finite)
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


def other_answers(work: Session, requests: Sequence[EditRequest]) -> dict[str, str]:
    """Return o^c for each request's id: what the base model says or, where that is the object, what comes next."""
    said = base_answers(work, {prompt_of(one): one.target for one in requests})

    def other(request: EditRequest) -> str:
        answer = said[prompt_of(request)]
        if not says(answer, request):
            return answer
        answers = top_answers(work.loaded, prompt_of(request), 3 + len(request.aliases))
        return next((one.text for one in answers if not says(one.text, request)), answers[-1].text)

    return {one.id: other(one) for one in requests}


def probed_plan(
    home: Path,
    model: str,
    relations: Collection[str] | None = None,
    on_conflict: Policy = "out",
    *,
    include_known: bool = False,
    inverse: bool | None = None,
    loading: Loading = AS_STORED,
    progress: Progress = silent,
) -> Plan:
    """Return the plan with the model's word: new facts that the base knows are ``k``, applied ones not recalled ``x``.

    Answers of the base model are recorded, and where the ledger has them all and there are no edits to ask about, no
    model is loaded.
    """
    with Ledger.open(home, create=False) as ledger:

        def plan_by(answers: Answers, known: ModelRow) -> Plan:
            plan = make_plan(ledger, templates_for(home), known.name, known, relations, on_conflict, inverse=inverse)
            return plan if include_known else known_facts(plan, answers)

        latest = ledger.latest_model(model_name(model, home)) if loading.dtype is None else None
        if latest is not None:
            unasked: set[str] = set()

            def on_record(asked: Mapping[str, str]) -> Mapping[str, str]:
                said = ledger.answers(latest.key, list(asked))
                unasked.update(asked.keys() - said.keys())
                return said

            plan = plan_by(on_record, latest)
            if not unasked and not plan.having("=", "x"):
                return plan
        work = Session.of(ledger, choose_model(model, home=home, loading=loading), progress)
        plan = plan_by(partial(base_answers, work), work.model)
        with edited(work.loaded, current_deltas(ledger, ledger.current_batch(work.model.key))):
            return by_recall(plan, work.loaded, "asking the edited model", progress)


def probed_file(
    home: Path,
    model: str,
    file: str,
    relations: Collection[str] | None = None,
    *,
    loading: Loading = AS_STORED,
    progress: Progress = silent,
) -> Plan:
    """Return the active edits of `model` by what another model says: ``=`` it holds them, ``x`` it does not.

    `file` is a directory, a GGUF file or a hub id: what has become of the edited model since, such as a quantised,
    merged or fine-tuned one.
    """
    with Ledger.open(home, create=False) as ledger:
        known = model_meant(ledger, model)
        plan = make_plan(ledger, templates_for(home), known.name, known, relations)
    loaded = load_model(file, **asdict(loading))
    plan = replace(plan, rows=tuple(row for row in plan.having("=", "x") if row.request is not None))
    return by_recall(plan, loaded, f"asking {file}", progress)


def by_recall(plan: Plan, loaded: LoadedModel, phase: str, progress: Progress) -> Plan:
    """Return the plan with its applied facts marked by whether a model recalls them, as it is now."""
    requests = {id(row): row.request for row in plan.having("=", "x") if row.request is not None}
    right = recalled(loaded, list(requests.values()), lambda done: progress(phase, done, len(requests)))
    found = dict(zip(requests, right, strict=True))

    def judged(row: PlanRow) -> PlanRow:
        if id(row) not in found:
            return row
        if found[id(row)]:
            return replace(row, sign="=", reason="applied")
        return replace(row, sign="x", reason=NOT_RECALLED)

    return replace(plan, rows=tuple(sorted(map(judged, plan.rows), key=lambda row: SIGNS.index(row.sign))))


def ask(
    home: Path,
    model: str,
    prompts: Sequence[str],
    *,
    base_only: bool = False,
    count: int = 5,
    loading: Loading = AS_STORED,
) -> list[dict[str, Any]]:
    """Ask each prompt of the base model and, where there are edits in `home`, of the edited one (else None).

    Writes nothing. Answers come likeliest first.
    """
    prompts = [prompt.rstrip() for prompt in prompts]
    if not all(prompts):
        raise SettingsError("the prompt is empty: give the beginning of a sentence, such as 'The capital of France is'")
    if not base_only and not (home / "ledger.db").exists():
        raise LedgerError(f"no ledger in {home}: name another --home, or ask the base model alone with --base")
    choice = choose_model(model, home=home, loading=loading)

    def said() -> list[tuple[Answer, ...]]:
        return [tuple(top_answers(choice.loaded, prompt, count)) for prompt in prompts]

    base: list[tuple[Answer, ...]] = said()
    after: list[tuple[Answer, ...]] | list[None] = [None] * len(prompts)
    if not base_only:
        with Ledger.open(home, create=False) as ledger:
            _, batch, deltas = edited_state(ledger, choice)
        if batch is not None:
            with edited(choice.loaded, deltas):
                after = said()
    return [dict(zip(("prompt", "base", "edited"), row, strict=True)) for row in zip(prompts, base, after, strict=True)]
