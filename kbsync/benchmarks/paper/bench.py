"""What the experiments share: a model with its covariances and target vectors, the data, and how edits are measured.

Beside the editors there is `published`: MEMIT as the paper has it, without what kbsync adds. Target vectors,
covariances and MEND's network lie in the home, finished measurements in the folder of the results.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import torch

from kbsync.benchmarks.edits import published
from kbsync.benchmarks.paper.data import PaperData, evenly
from kbsync.benchmarks.paper.drawings import Drawing, Row
from kbsync.benchmarks.paper.measurements import Measurements
from kbsync.benchmarks.paper.sizes import Sizes
from kbsync.editors import Deltas, Editor, Task, editor
from kbsync.editors.mend import MendNetwork
from kbsync.facts import EditRequest, content_id
from kbsync.ledger import Ledger
from kbsync.memit import MemitSettings, RequestGroup, WeightDelta, edited, group_requests, sample_contexts
from kbsync.metrics import TEXT_METRICS, Case, Figure, evaluate, figures
from kbsync.sync.covariances import Covariances, covariances_for
from kbsync.sync.deltas import cached_targets
from kbsync.sync.evaluate import HeldOut, text_figures
from kbsync.sync.home import Progress, templates_for
from kbsync.sync.mend import has_network, mend_network, train_for
from kbsync.sync.model import ModelChoice, identify, model_contexts
from kbsync.sync.practice import facts_to_ask
from kbsync.sync.wordings import held_beside

__all__ = ["PUBLISHED", "Experiment", "PaperBench", "Result"]

PUBLISHED = "published"

OF_TEXT = ("GE", "RS")
"""metrics that read generated text"""
REUSES_TARGETS = ("memit", PUBLISHED, "alphaedit")
"""editors whose search for target vectors is MEMIT's on the base model"""
MEND_FACTS = 1000
"""known facts that MEND's network is trained on, at most or a few more"""


@dataclass(frozen=True, slots=True)
class Result:
    """What an experiment gave."""

    rows: tuple[Row, ...]
    drawings: tuple[Drawing, ...] = ()
    note: str = ""
    """what was measured on what, for the reader of the page"""


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment of the paper."""

    name: str
    title: str
    paper: str
    """the table or figure that it is made after"""
    run: Callable[["PaperBench"], Result]


class PaperBench:
    """Everything that an experiment asks for."""

    def __init__(
        self,
        ledger: Ledger,
        choice: ModelChoice,
        data: PaperData,
        sizes: Sizes,
        editors: Sequence[str],
        measurements: Measurements,
        progress: Progress,
        text: HeldOut,
        values: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    ) -> None:
        """Take what there is; `text` is for perplexity, `values` are settings by the row that they are for."""
        self.ledger, self.choice, self.data, self.sizes = ledger, choice, data, sizes
        self.editors, self.measurements, self.progress = list(editors), measurements, progress
        self.text, self.values = text, values
        self.loaded, self.settings = choice.loaded, choice.settings
        self.model = identify(ledger, choice)
        self.contexts = model_contexts(self.model, choice)
        self.records: dict[int, Covariances] = {}

    @property
    def counterfact(self) -> list[Case]:
        """The cases of CounterFact's form, in their order."""
        return self.data.counterfact

    @property
    def zsre(self) -> list[Case]:
        """The cases of zsRE's form, in their order."""
        return self.data.zsre

    def facts(self) -> list[EditRequest]:
        """Return the facts to trace, if the model knows them: the home's or the fixtures', and the data's old ones."""
        own = [replace(case.request, target=case.old) for case in self.counterfact if case.old]
        return [*facts_to_ask(self.ledger.home, self.ledger, None)[0], *own]

    @cached_property
    def evaluated(self) -> frozenset[str]:
        """The subjects of both data sets: MEND's network is trained without them, whatever the sizes.

        Facts that stand in the neighbourhood alone are not left out (in the practice data hardly any would stay), which
        is to MEND's advantage.
        """
        return frozenset(case.request.subject for case in (*self.counterfact, *self.zsre))

    @property
    def largest(self) -> int:
        """N: the largest number of edits that is asked for and that the data has."""
        return min(self.sizes.edits, len(self.counterfact))

    def editor(self, name: str) -> Editor:
        """Return an editor with what is known to suit the model, and what the user set for it."""
        if name in ("memit", PUBLISHED):
            return editor("memit")
        return editor(name, self.values.get(name, {}), model=self.choice.name)

    def settings_for(self, name: str) -> MemitSettings:
        """Return the model's settings as an editor gets them: what kbsync adds is MEMIT's alone."""
        if name == "memit":
            return self.settings
        return published(self.settings).with_values(self.values.get(PUBLISHED, {}))

    def contexts_for(self, settings: MemitSettings) -> tuple[str, ...]:
        """Return the contexts x_j of a search: those on record, or others where the settings ask for others."""
        if settings.contexts == self.settings.contexts:
            return self.contexts
        return sample_contexts(self.loaded, settings)

    def covariances(self, layers: Sequence[int]) -> Mapping[int, torch.Tensor]:
        """Return C of these layers; those not yet in the home are collected in one pass, and kept there."""
        missing = tuple(sorted(set(layers) - self.records.keys()))
        if missing:
            choice = replace(self.choice, settings=replace(self.settings, layers=missing))
            found = covariances_for(self.ledger.tensors, choice, self.progress)
            self.records |= dict.fromkeys(missing, found)
        records = {layer: self.records[layer].records[layer] for layer in layers}
        return Covariances(self.ledger.tensors, records, frozenset(layers))

    def training(self) -> dict[str, Any] | None:
        """Train MEND's network where the home has none that suits; return how that went, None where it had one."""
        about = {**self.about, "what": "MEND's training", "without": content_id("subjects1", sorted(self.evaluated))}
        if not self.has_network():
            asked = facts_to_ask(self.ledger.home, self.ledger, None)
            done = train_for(self.ledger, self.choice, asked, MEND_FACTS, None, self.progress, without=self.evaluated)
            self.measurements.add(about, {"steps": done.steps, "facts": done.facts, "seconds": done.seconds})
        return self.measurements.find(about)

    def has_network(self) -> bool:
        """Return whether the home has MEND's network for this model, trained without the evaluated subjects."""
        return has_network(self.ledger.tensors, self.loaded, self.evaluated)

    def network(self) -> MendNetwork:
        """Return MEND's network, trained without the evaluated subjects; where the home has none, it is made."""
        self.training()
        return mend_network(self.ledger.tensors, self.loaded, self.evaluated)

    @cached_property
    def network_id(self) -> str:
        """What tells MEND's network from another one for this model."""
        state = self.network().state_dict()
        return content_id("network1", {name: value.double().sum().item() for name, value in state.items()})

    @property
    def about(self) -> dict[str, Any]:
        """What every measurement depends on."""
        return {"model": self.model.key, "dtype": str(self.loaded.model.dtype), "contexts": list(self.contexts)}

    def z(self, groups: Sequence[RequestGroup], settings: MemitSettings) -> torch.Tensor:
        """Return the groups' target vectors [u, d]; those in the home are not searched again."""
        choice = replace(self.choice, settings=settings)
        contexts = self.contexts_for(settings)
        return cached_targets(self.ledger, self.model, choice, groups, contexts, self.progress).z

    def task(self, groups: Sequence[RequestGroup], settings: MemitSettings | None = None) -> Task:
        """Return a task with all that an editor may ask for, but the target vectors."""
        settings = settings or self.settings
        edited = {(request.relation, request.subject) for group in groups for request in group.requests}
        return Task(
            self.loaded,
            groups,
            self.contexts_for(settings),
            settings,
            covariances=self.covariances,
            network=self.network,
            held=held_beside(self.ledger, templates_for(self.ledger.home), self.loaded, settings, edited),
            progress=self.progress,
        )

    def groups(self, name: str, requests: Sequence[EditRequest]) -> list[RequestGroup]:
        """Return the requests as an editor takes them: MEMIT by subject, others one by one in their order."""
        if name == "memit":
            return group_requests(self.loaded, requests, self.settings.wordings)
        return [RequestGroup((request,)) for request in requests]

    def deltas(self, name: str, requests: Sequence[EditRequest], settings: MemitSettings | None = None) -> Deltas:
        """Return an editor's deltas for the requests."""
        if name == "rome":
            return self.rome(requests)
        task = self.task(self.groups(name, requests), settings or self.settings_for(name))
        if name in REUSES_TARGETS:
            task = replace(task, z=self.z(task.groups, task.settings))
        return self.editor(name).edit(task)

    @cached_property
    def rome_order(self) -> dict[int, WeightDelta]:
        """ROME's deltas for the N edits: a factor for each request, in their order."""
        requests = [case.request for case in self.counterfact[: self.largest]]
        return dict(self.editor("rome").edit(self.task(self.groups("rome", requests), self.settings_for("rome"))))  # type: ignore[arg-type]

    def rome(self, requests: Sequence[EditRequest]) -> Deltas:
        """Return ROME's deltas; it edits one after another, so those of a prefix are the first factors of the whole."""
        order = [case.request for case in self.counterfact[: self.largest]]
        if order[: len(requests)] != list(requests):
            return self.editor("rome").edit(self.task(self.groups("rome", requests), self.settings_for("rome")))
        count = len(requests)
        return {
            layer: WeightDelta(delta.left[:, :count], delta.right[:count]) for layer, delta in self.rome_order.items()
        }

    def measured(
        self,
        name: str,
        cases: Sequence[Case],
        metrics: Sequence[str],
        settings: MemitSettings | None = None,
    ) -> dict[str, Any]:
        """Write the cases with an editor, measure some of them, and return ``metric``, ``metric_low``, ``metric_high``.

        At most `sizes.measured` of the cases are measured (`sizes.generated` for metrics of generated text), evenly
        over their order, with 95% intervals over them. What was measured before is not measured again.
        """
        seen, heard = evenly(cases, self.sizes.measured), evenly(cases, self.sizes.generated)
        own, settings = self.editor(name), settings or self.settings_for(name)
        requests = [case.request for case in cases]
        about = {
            **self.about,
            "what": "edits",
            "editor": name,
            "editor_settings": asdict(own.settings),
            "settings": settings.as_dict(),
            "requests": len(requests),
            "ids": content_id("requests1", [request.id for request in requests]),
            "seen": content_id("cases1", [asdict(case) for case in seen]),
            "heard": content_id("cases1", [asdict(case) for case in heard]),
            "metrics": list(metrics),
            "seed": self.data.seed,
            "network": self.network_id if name == "mend" else None,
            "text": content_id("text1", self.text.lines) if TEXT_METRICS.keys() & set(metrics) else None,
        }

        def make() -> dict[str, Any]:
            began, cpu = time.monotonic(), time.process_time()
            deltas = self.deltas(name, requests, settings)
            with edited(self.loaded, deltas):
                of_cases = [one for one in metrics if one not in (*OF_TEXT, *TEXT_METRICS)]
                found = self.figures(seen, of_cases) | self.perplexity(metrics)
                found |= self.figures(heard, [one for one in metrics if one in OF_TEXT])
            seconds = {"seconds": round(time.monotonic() - began, 3), "cpu": round(time.process_time() - cpu, 3)}
            return {"figures": found, **seconds}

        figures_found: dict[str, Any] = self.measurements.get(about, make)["figures"]
        return figures_found

    def figures(self, cases: Sequence[Case], metrics: Sequence[str]) -> dict[str, float]:
        """Return the figures of the model as it is, flat, with their intervals."""
        if not metrics:
            return {}
        return flat(figures(evaluate(self.loaded, cases, metrics, self.data.seed, self.progress), self.data.seed))

    def perplexity(self, metrics: Sequence[str]) -> dict[str, float]:
        """Return those figures that are over text, of the model as it is, flat."""
        names = [one for one in metrics if one in TEXT_METRICS]
        return flat(text_figures(self.choice, self.text, names, self.data.seed, self.progress))


def flat(found: Mapping[str, Figure]) -> dict[str, float]:
    """Return figures with the bounds of their intervals beside them."""
    return {
        f"{name}{part}": round(value, 3)
        for name, one in found.items()
        for part, value in (("", one.mean), ("_low", one.low), ("_high", one.high))
    }
