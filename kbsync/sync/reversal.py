"""Reversibility: what is left of facts that are taken out again, by a solve without them and by edits back on top.

kbsync makes the state anew from the base, without the withdrawn facts. The usual way is a counter-edit: the object of
before is written over the edited weights, as one more edit.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

from kbsync.editors import Deltas
from kbsync.errors import SettingsError
from kbsync.facts import EditRequest
from kbsync.ledger import Ledger, ModelRow
from kbsync.memit import edited, group_requests
from kbsync.memit.settings import settings_on_record
from kbsync.metrics import Case, Figure, Sampled, Values, evaluate, figures, kept_values, recalled, say
from kbsync.models import LoadedModel, greedy_answers
from kbsync.sync.arms import Arm
from kbsync.sync.covariances import Covariances, covariances_for, with_text
from kbsync.sync.deltas import make_deltas
from kbsync.sync.edits import in_words, recorded_editor
from kbsync.sync.home import Progress, templates_for
from kbsync.sync.known import prompt_of, requests_of
from kbsync.sync.model import ModelChoice, current_deltas, model_contexts
from kbsync.sync.targets import cached_targets


@dataclass(frozen=True, slots=True)
class Reversal:
    """What models say of facts that were taken out."""

    withdrawn: int
    figures: Mapping[str, Mapping[str, Figure]]
    """base, edited, retracted, counter-edit -> the figures ``..._withdrawn``, over edit prompts and paraphrases"""
    answers: tuple[Mapping[str, str], ...]
    """edit prompt of a withdrawn fact, and what each says to it"""


def reversal(
    ledger: Ledger, choice: ModelChoice, model: ModelRow, out: Sequence[Case], seed: int, progress: Progress
) -> Reversal:
    """Take the facts of the cases `out` out of a model's current state, both ways; the ledger's state stays.

    Raises SettingsError for a batch of another editor than memit, and as `apply` does.
    """
    batch = ledger.current_batch(model.key)
    assert batch is not None
    if not recorded_editor(batch).targets:
        raise SettingsError(f"--withdraw is for memit; the current batch is of {batch.algorithm}")
    now = current_deltas(ledger, batch)
    values = settings_on_record(batch.settings)
    choice = replace(choice, settings=choice.settings.with_values(values))
    choice = with_text(ledger.home, choice, progress)
    without = retracted(ledger, choice, model, [case.request for case in out], progress)
    # The covariance is the base's: that of edited weights would be another one.
    covariances = covariances_for(ledger.tensors, choice, progress)
    with edited(choice.loaded, now):
        counter = counter_edit(ledger, choice, model, out, covariances, progress)

    @contextmanager
    def edited_back() -> Iterator[None]:
        with edited(choice.loaded, now), edited(choice.loaded, counter):
            yield

    states = [
        Arm("base", nullcontext),
        Arm("edited", lambda: edited(choice.loaded, now)),
        Arm("retracted", lambda: edited(choice.loaded, without)),
        Arm("counter-edit", edited_back),
    ]
    return compare(choice.loaded, states, out, seed, progress)


def retracted(
    ledger: Ledger, choice: ModelChoice, model: ModelRow, out: Sequence[EditRequest], progress: Progress
) -> Deltas:
    """Return the deltas that an apply makes once the facts `out` are withdrawn."""
    rows, templates = ledger.active_edits(model.key), templates_for(ledger.home)
    gone = {request.id for request in out}
    facts = {row.fact for row in rows if row.request in gone}  # an inverse goes with its fact
    kept = tuple(requests_of(ledger, templates, [row for row in rows if row.fact not in facts]))
    if not kept:
        return {}
    batch = ledger.current_batch(model.key)
    assert batch is not None
    editor, contexts = recorded_editor(batch), model_contexts(model, choice)
    groups, held, _ = in_words(ledger, templates, choice, editor, kept)
    retries = {row.request: row.retries for row in rows}
    z = cached_targets(ledger, model, choice, groups, contexts, progress, retries).z
    return make_deltas(editor, ledger, choice, groups, contexts, z, held, {}, progress)


def counter_edit(
    ledger: Ledger,
    choice: ModelChoice,
    model: ModelRow,
    out: Sequence[Case],
    covariances: Covariances,
    progress: Progress,
) -> Deltas:
    """Return the deltas that write the objects of before over the model as it is, edited."""
    batch = ledger.current_batch(model.key)
    assert batch is not None
    editor = recorded_editor(batch)
    requests = [replace(case.request, target=case.old, aliases=()) for case in out if case.old]
    groups = group_requests(choice.loaded, requests, choice.settings.wordings)
    contexts, own = model_contexts(model, choice), {"covariances": lambda layers: covariances}
    return make_deltas(editor, ledger, choice, groups, contexts, None, (), {}, progress, **own)


def compare(loaded: LoadedModel, states: Sequence[Arm], out: Sequence[Case], seed: int, progress: Progress) -> Reversal:
    """Ask each state, the base first, about the withdrawn facts."""
    requests = [case.request for case in out]
    wordings = [replace(one, prompt=text) for one in requests for text in (one.prompt, *one.paraphrases)]
    asked = Sampled(same=tuple(wordings))
    prompts = [prompt_of(one) for one in requests]
    found: dict[str, dict[str, Figure]] = {}
    answers: dict[str, list[str]] = {}
    base = None
    for number, arm in enumerate(states):
        progress("facts taken out", number, len(states))
        with arm.state():
            now = say(loaded, asked)
            right: Values = [100.0 * one for one in recalled(loaded, wordings)]
            answers[arm.name] = greedy_answers(loaded, prompts)
            chosen = evaluate(loaded, out, ("choice",))["choice"]
        base = base or now
        values = kept_values(base, now)
        told = {"recall": right, "choice": chosen, "kept": values["kept_same"], "kl": values["kl_same"]}
        found[arm.name] = {
            f"{name}_withdrawn": figures({name: column}, seed)[name]
            for name, column in told.items()
            if any(value is not None for value in column)
        }
    rows = tuple(
        {"prompt": prompt, **{name: said[place] for name, said in answers.items()}}
        for place, prompt in enumerate(prompts)
    )
    return Reversal(len(out), found, rows)
