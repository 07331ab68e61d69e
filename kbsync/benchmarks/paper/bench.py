"""What the experiments share beside `Bench`: data, sizes, MEND's network, and measurements that are kept.

Finished measurements lie in the folder of the results, so that a killed run goes on with what is missing.
"""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kbsync.benchmarks.bench import Bench, flat
from kbsync.benchmarks.paper.data import PaperData, Sizes, evenly
from kbsync.editors import Deltas, Task
from kbsync.editors.mend import MendNetwork
from kbsync.errors import SettingsError
from kbsync.facts import EditRequest, content_id
from kbsync.files import writing
from kbsync.ledger import Ledger
from kbsync.memit import MemitSettings, RequestGroup, WeightDelta
from kbsync.metrics import Case
from kbsync.report.plots import Chart, Row
from kbsync.sync.eval_cases import held_out
from kbsync.sync.home import Progress, silent
from kbsync.sync.model import ModelChoice
from kbsync.sync.practice import facts_to_ask, has_network, mend_network, train_for

OF_TEXT = ("GE", "RS")  # metrics that read generated text
ROMES = ("rome", "rome-published")
MEND_FACTS = 1000  # known facts that MEND's network is trained on, at most or a few more


@dataclass(frozen=True, slots=True)
class Result:
    rows: tuple[Row, ...]
    charts: tuple[Chart, ...] = ()
    note: str = ""
    """what was measured on what, for the reader of the page"""


class Measurements:
    """Finished measurements as JSON lines in a file; `made` counts what this run added."""

    def __init__(self, file: Path) -> None:
        """Read the file; SettingsError where it cannot be read, or holds something else."""
        self.file, self.made = file, 0
        try:
            whole, _, cut = (file.read_bytes() if file.exists() else b"").rpartition(b"\n")
            self.values = {line["key"]: line["value"] for line in map(json.loads, whole.splitlines())}
            if cut:  # what a killed run was writing
                os.truncate(file, file.stat().st_size - len(cut))
        except OSError as error:
            raise SettingsError(f"{file} cannot be read and written: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise SettingsError(f"{file} is not as bench paper wrote it: delete it and run again") from error

    def get(self, about: Mapping[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the measurement that depends on all of `about`: the kept one, or one made now."""
        kept = self.find(about)
        return self.add(about, make()) if kept is None else kept

    def find(self, about: Mapping[str, Any]) -> dict[str, Any] | None:
        return self.values.get(content_id("unit1", about))

    def add(self, about: Mapping[str, Any], value: Mapping[str, Any]) -> dict[str, Any]:
        """Keep a measurement, in the place of an earlier one; it is on the disk when this returns, as JSON gives it."""
        key, kept = content_id("unit1", about), json.loads(json.dumps(value))
        with writing(self.file):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a", encoding="utf-8") as opened:
                line = {"key": key, "about": dict(about), "value": kept}
                opened.write(json.dumps(line, ensure_ascii=False) + "\n")
                opened.flush()
                os.fsync(opened.fileno())
        self.values[key] = kept
        self.made += 1
        return dict(kept)


class PaperBench(Bench):
    """Everything that an experiment asks for; `rows` are the editors that the tables compare."""

    def __init__(
        self,
        ledger: Ledger,
        choice: ModelChoice,
        measurements: Measurements,
        *,
        data: PaperData,
        sizes: Sizes,
        rows: Sequence[str],
        text: Path | None = None,
        progress: Progress = silent,
        values: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    ) -> None:
        """Take what there is; `text` is for perplexity, None is what the covariance leaves out of its own."""
        super().__init__(ledger, choice, progress, values)
        self.measurements, self.data, self.sizes, self.rows = measurements, data, sizes, list(rows)
        self.romes: dict[str, dict[int, WeightDelta]] = {}
        self.counterfact, self.zsre = data.counterfact, data.zsre
        held = held_out(self.choice, text)
        self.held_out = replace(held, lines=held.lines[: sizes.lines])

    @property
    def largest(self) -> int:
        """N: the largest number of edits that is asked for and that the data has."""
        return min(self.sizes.edits, len(self.counterfact))

    @property
    def about(self) -> dict[str, Any]:
        """What every measurement depends on."""
        return {"model": self.model.key, "dtype": str(self.loaded.model.dtype), "contexts": list(self.contexts)}

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

    def has_network(self) -> bool:
        """Return whether the home has MEND's network for this model, trained without the evaluated subjects."""
        return has_network(self.ledger.tensors, self.loaded, self.evaluated)

    def training(self) -> dict[str, Any] | None:
        """Train MEND's network where the home has none that suits; return how that went, None where it had one."""
        about = {**self.about, "what": "MEND's training", "without": content_id("subjects1", sorted(self.evaluated))}
        if not self.has_network():
            asked = facts_to_ask(self.ledger.home, self.ledger, None)
            done = train_for(self.ledger, self.choice, asked, MEND_FACTS, None, self.progress, without=self.evaluated)
            self.measurements.add(about, {name: done[name] for name in ("steps", "facts", "seconds")})
        return self.measurements.find(about)

    def network(self) -> MendNetwork:
        """Return MEND's network, trained without the evaluated subjects; where the home has none, it is made."""
        self.training()
        return mend_network(self.ledger.tensors, self.loaded, self.evaluated)

    @cached_property
    def network_id(self) -> str:
        """What tells MEND's network from another one for this model."""
        state = self.network().state_dict()
        return content_id("network1", {name: value.double().sum().item() for name, value in state.items()})

    def task(self, groups: Sequence[RequestGroup], settings: MemitSettings, *, search: bool = False) -> Task:
        return replace(super().task(groups, settings, search=search), network=self.network)

    def deltas(self, name: str, requests: Sequence[EditRequest], settings: MemitSettings | None = None) -> Deltas:
        """Return an editor's deltas for the requests.

        ROME edits one after another, so its deltas for a prefix of the order are the first factors of the whole.
        """
        order = [case.request for case in self.counterfact[: self.largest]]
        if name not in ROMES or order[: len(requests)] != list(requests):
            return super().deltas(name, requests, settings)
        if name not in self.romes:
            self.romes[name] = dict(super().deltas(name, order))  # type: ignore[arg-type]
        count = len(requests)
        whole = self.romes[name].items()
        return {layer: WeightDelta(delta.left[:, :count], delta.right[:count]) for layer, delta in whole}

    def measured(
        self, name: str, cases: Sequence[Case], metrics: Sequence[str], settings: MemitSettings | None = None
    ) -> dict[str, Any]:
        """Write the cases with an editor, measure some of them, and return ``metric``, ``metric_low``, ``metric_high``.

        At most `sizes.measured` of the cases are measured (`sizes.generated` for metrics of generated text), evenly
        over their order, with 95% intervals over them. What was measured before is not measured again.
        """
        seen, heard = evenly(cases, self.sizes.measured), evenly(cases, self.sizes.generated)
        settings = settings or self.settings_for(name)
        requests = [case.request for case in cases]
        about = {
            **self.about,
            "what": "edits",
            "editor": name,
            "editor_settings": asdict(self.editor(name).settings),
            "settings": settings.as_dict(),
            "requests": len(requests),
            "ids": content_id("requests1", [request.id for request in requests]),
            "seen": content_id("cases1", [asdict(case) for case in seen]),
            "heard": content_id("cases1", [asdict(case) for case in heard]),
            "metrics": list(metrics),
            "seed": self.data.seed,
            "network": self.network_id if name == "mend" else None,
            "text": content_id("text1", self.held_out.lines) if "perplexity" in metrics else None,
        }

        def make() -> dict[str, Any]:
            began, cpu = time.monotonic(), time.process_time()
            found = self.measure(seen, heard, metrics, self.deltas(name, requests, settings), requests)
            seconds = {"seconds": round(time.monotonic() - began, 3), "cpu": round(time.process_time() - cpu, 3)}
            return {"figures": found, **seconds}

        found: dict[str, Any] = self.measurements.get(about, make)["figures"]
        return found

    def measure(
        self,
        seen: Sequence[Case],
        heard: Sequence[Case],
        metrics: Sequence[str],
        deltas: Deltas,
        edits: Sequence[EditRequest] | None = None,
    ) -> dict[str, float]:
        """Return flat figures of the edited model; those of generated text are over the cases `heard`."""
        seed, read = self.data.seed, [name for name in metrics if name not in OF_TEXT]
        of_text = [name for name in metrics if name in OF_TEXT]
        found = self.figures(seen, read, self.held_out, seed, deltas, edits)
        return flat(found | self.figures(heard, of_text, self.held_out, seed, deltas))
