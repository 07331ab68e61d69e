"""What the base model and the edited one say: recorded, put into a plan (``--probe``), or side by side (``ask``)."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from math import exp, isfinite, log
from pathlib import Path

from kbsync.conflicts import Policy
from kbsync.errors import LedgerError, SettingsError
from kbsync.facts import EditRequest, content_id
from kbsync.ledger import Ledger, ModelRow
from kbsync.memit import edited
from kbsync.metrics import Triple, perplexity, recalled
from kbsync.models import Answer, LoadedModel, TargetScore, greedy_answers, load_model, score_targets, top_answers
from kbsync.sync.history import model_meant
from kbsync.sync.home import AS_STORED, Loading, Progress, model_name, silent, templates_for
from kbsync.sync.known import prompt_of, says
from kbsync.sync.model import ModelChoice, choose_model, current_deltas, edited_state, identify
from kbsync.sync.plan import NOT_RECALLED, SIGNS, Plan, PlanRow, known_facts, make_plan


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
    model is loaded. Raises as `apply` does.
    """
    with Ledger.open(home, create=False) as ledger:
        if loading.dtype is None:
            named = model_name(model, home)
            told = plan_on_record(ledger, named, home, relations, on_conflict, include_known, inverse)
            if told is not None:
                return told
        choice = choose_model(model, home=home, loading=loading)
        known = identify(ledger, choice)
        plan = make_plan(ledger, templates_for(home), choice.name, known, relations, on_conflict, inverse=inverse)
        if not include_known:
            plan = known_facts(plan, lambda asked: base_answers(ledger, choice, known, asked, progress))
        applied = [row for row in plan.having("=", "x") if row.request is not None]
        with edited(choice.loaded, current_deltas(ledger, ledger.current_batch(known.key))):
            kept = recalled(
                choice.loaded,
                [row.request for row in applied if row.request],
                lambda done: progress("asking the edited model", done, len(applied)),
            )
        found = {id(row): right for row, right in zip(applied, kept, strict=True)}

    def judged(row: PlanRow) -> PlanRow:
        if id(row) not in found:
            return row
        return (
            replace(row, sign="=", reason="applied") if found[id(row)] else replace(row, sign="x", reason=NOT_RECALLED)
        )

    return replace(plan, rows=tuple(sorted(map(judged, plan.rows), key=lambda row: SIGNS.index(row.sign))))


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
    merged or fine-tuned one. Raises SettingsError where nothing was applied to `model`, ModelError where `file` cannot
    be loaded.
    """
    with Ledger.open(home, create=False) as ledger:
        known = model_meant(ledger, model)
        plan = make_plan(ledger, templates_for(home), known.name, known, relations)
    loaded = load_model(file, **asdict(loading))
    applied = [row for row in plan.having("=", "x") if row.request is not None]
    requests = [row.request for row in applied if row.request]
    found = recalled(loaded, requests, lambda done: progress(f"asking {file}", done, len(applied)))
    rows = [
        replace(row, sign="=", reason="applied") if right else replace(row, sign="x", reason=NOT_RECALLED)
        for row, right in zip(applied, found, strict=True)
    ]
    return replace(plan, rows=tuple(sorted(rows, key=lambda row: SIGNS.index(row.sign))))


def plan_on_record(
    ledger: Ledger,
    name: str,
    home: Path,
    relations: Collection[str] | None,
    on_conflict: Policy,
    include_known: bool,
    inverse: bool | None,
) -> Plan | None:
    """Return the plan by what the model of this name said when it was asked last; None where it must be asked."""
    known = ledger.latest_model(name)
    if known is None:
        return None
    plan = make_plan(ledger, templates_for(home), name, known, relations, on_conflict, inverse=inverse)
    unasked: set[str] = set()

    def answers(asked: Mapping[str, str]) -> Mapping[str, str]:
        said = ledger.answers(known.key, list(asked))
        unasked.update(asked.keys() - said.keys())
        return said

    if not include_known:
        plan = known_facts(plan, answers)
    return None if unasked or plan.having("=", "x") else plan


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt and its answers, likeliest first; `edited` is None where there is the base alone."""

    prompt: str
    base: tuple[Answer, ...]
    edited: tuple[Answer, ...] | None


def ask(
    home: Path,
    model: str,
    prompts: Sequence[str],
    *,
    base_only: bool = False,
    count: int = 5,
    loading: Loading = AS_STORED,
) -> list[Asked]:
    """Ask each prompt of the base model and, where there are edits in `home`, of the edited one. Writes nothing.

    Raises SettingsError for an empty prompt, LedgerError where there is no ledger, and ModelError as `apply` does.
    """
    prompts = [prompt.rstrip() for prompt in prompts]
    if not all(prompts):
        raise SettingsError("the prompt is empty: give the beginning of a sentence, such as 'The capital of France is'")
    if not base_only and not (home / "ledger.db").exists():
        raise LedgerError(f"no ledger in {home}: name another --home, or ask the base model alone with --base")
    choice = choose_model(model, home=home, loading=loading)
    base = [tuple(top_answers(choice.loaded, prompt, count)) for prompt in prompts]
    if base_only:
        return [Asked(prompt, answers, None) for prompt, answers in zip(prompts, base, strict=True)]
    with Ledger.open(home, create=False) as ledger:
        _, batch, deltas = edited_state(ledger, choice)
    if batch is None:
        return [Asked(prompt, answers, None) for prompt, answers in zip(prompts, base, strict=True)]
    with edited(choice.loaded, deltas):
        after = [tuple(top_answers(choice.loaded, prompt, count)) for prompt in prompts]
    return [Asked(*row) for row in zip(prompts, base, after, strict=True)]
