"""``kbsync bench sync``: days of a knowledge base, synced four ways on the same days.

Each day adds facts, changes some that were added before, and withdraws some.

- rebase: each day solves for all active facts anew, from the base weights; targets are found on the base model once.
- stacked: MEMIT on the weights that the day before left, for the day's requests, as other tools do. Such a tool takes
  a fact back by editing the base model's answer in again, so a withdrawn fact is a request here.
- incremental: the same, with the keys of all earlier edits added to the covariance term (lambda C + K_p K_p^T), as
  later papers have it.
- none: the base model.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from kbsync.benchmarks.bench import Bench, Pool, edit_pool
from kbsync.errors import SettingsError
from kbsync.facts import EditRequest
from kbsync.ledger import Ledger
from kbsync.memit import RequestGroup, edited, matrices, optimise_targets, spread
from kbsync.memit.keys import SubjectStates
from kbsync.metrics import Case
from kbsync.models import greedy_answers
from kbsync.report.console import Parts, table
from kbsync.report.plots import Chart, Series, write_charts
from kbsync.sync.home import AS_STORED, Loading, Progress, silent
from kbsync.sync.model import choose_model

DAILY = 22
SHARES = {"added": 400, "changed": 200, "withdrawn": 60}
"""what the facts of a day are, out of 660"""
KEPT = ("kept_same", "kept_others", "kept_unrelated")
METRICS = ("ES", "PS", "NS", "recall", "paraphrase_recall", *KEPT, "perplexity")
COLUMNS = ("S", *METRICS[:-1], "recall_first", "withdrawn_restored", "perplexity", "delta_norm")
PLOTTED = {
    "S": "S of active facts",
    "recall": "recall of active facts, %",
    "NS": "NS, %",
    "withdrawn_restored": "withdrawn facts answered as the base does, %",
    "perplexity": "perplexity on other sentences",
    "delta_norm": "norm of the change of weights",
}


@dataclass(frozen=True, slots=True)
class Day:
    """One day: what it brings, and what holds at its end."""

    number: int
    added: tuple[Case, ...]
    changed: tuple[Case, ...]
    """new objects of facts that earlier days added"""
    withdrawn: tuple[Case, ...]
    active: tuple[Case, ...]

    @property
    def requests(self) -> list[EditRequest]:
        return [edit.request for edit in (*self.added, *self.changed)]


def draw_days(pool: Pool, days: int, daily: int = DAILY, seed: int = 0) -> list[Day]:
    """Draw `days` days of about `daily` facts each; raise SettingsError where the pool has too few facts."""
    if days < 2:
        raise SettingsError(f"--syncs {days}: ask for 2 days at least, as the first has nothing to change")
    additions, changes, ends = (round(days * daily * share / sum(SHARES.values())) for share in SHARES.values())
    edits = pool.require(additions, seed, f"--syncs {days} with --daily {daily}")
    objects: dict[str, set[str]] = defaultdict(set)
    for fact in (*pool.facts, *(edit.request for edit in edits)):
        objects[fact.relation].add(fact.target)
    draw = random.Random(seed)
    active: dict[tuple[str, str], Case] = {}
    made = []
    for number in range(1, days + 1):
        added = edits[part(additions, number - 1, days) : part(additions, number, days)]
        # The first day has nothing to change or withdraw, so the others share it out.
        changing, ending = (
            part(total, number - 1, days - 1) - part(total, max(0, number - 2), days - 1) for total in (changes, ends)
        )
        chosen = draw.sample(sorted(active), min(len(active), changing + ending))
        changed = [other_object(active[key], objects, draw) for key in chosen[:changing]]
        withdrawn = [active.pop(key) for key in chosen[changing:]]
        active |= {key(edit): edit for edit in (*changed, *added)}
        made.append(Day(number, tuple(added), tuple(changed), tuple(withdrawn), tuple(active.values())))
    return made


def draw_cases(days: Sequence[Day], most: int | None, seed: int = 0) -> list[list[Case]]:
    """Return the active facts of each day that are measured: the `most` that come first in one order for all days."""
    subjects = [key(edit) for day in days for edit in day.added]
    places = {one: place for place, one in enumerate(random.Random(seed).sample(subjects, len(subjects)))}
    return [sorted(day.active, key=lambda edit: places[key(edit)])[:most] for day in days]


def part(total: int, number: int, days: int) -> int:
    """Return how many of `total` have come by the end of day `number` of `days`."""
    return total * number // days


def other_object(edit: Case, objects: dict[str, set[str]], draw: random.Random) -> Case:
    """Return the edit with an object that is neither its own nor the base model's; as it is where there is none."""
    others = sorted(objects[edit.request.relation] - {edit.request.target, edit.old})
    return replace(edit, request=replace(edit.request, target=draw.choice(others))) if others else edit


Way = Callable[[Day], Mapping[int, torch.Tensor]]
"""brings a model from the day before to this one, and gives layer -> change of W_out from the base, [d, m]"""


class Stacked:
    """Each day's requests upon the weights of the day before; `incremental` adds the keys of earlier edits."""

    def __init__(self, bench: Bench, *, incremental: bool) -> None:
        self.bench, self.incremental, self.settings = bench, incremental, bench.settings.published()
        self.contexts = bench.contexts_for(self.settings)
        self.moments: dict[int, torch.Tensor] = {}
        """sum of k k^T over earlier edits, by layer, [m, m]"""
        self.deltas: dict[int, torch.Tensor] = {}

    def __call__(self, day: Day) -> Mapping[int, torch.Tensor]:
        """Edit the day's requests, and the base's answers of withdrawn facts, into the present weights."""
        loaded, settings = self.bench.loaded, self.settings
        back = [replace(edit.request, target=edit.old) for edit in day.withdrawn]
        groups = self.bench.groups("published", [*day.requests, *back])
        with edited(loaded, self.deltas):
            found = optimise_targets(loaded, groups, self.contexts, settings, progress=self.bench.progress)
            z = torch.stack([target.z for target in found])
            covariances = {
                layer: value + self.moments[layer] / settings.lambda_ if layer in self.moments else value
                for layer, value in self.bench.covariances(settings.layers).items()
            }
            change = spread(loaded, groups, self.contexts, z, covariances, settings)
        for layer, delta in change.items():
            self.deltas[layer] = self.deltas.get(layer, 0) + delta.matrix()
        if self.incremental:
            self.remember(groups)
        return self.deltas

    def remember(self, groups: Sequence[RequestGroup]) -> None:
        """Add the keys of the day's edits, as they are in the edited model."""
        loaded, layers = self.bench.loaded, self.settings.layers
        with torch.no_grad(), edited(loaded, self.deltas):
            states, reached = SubjectStates(loaded, groups, self.contexts), 0
            for layer in layers:
                if layer > reached:
                    states.advance(reached, layer - 1)
                    reached = layer
                keys, _ = states.keys_and_hidden(layer, layers[-1])
                self.moments[layer] = self.moments.get(layer, 0) + keys @ keys.T


WAYS: dict[str, Callable[[Bench], Way]] = {
    # all active facts, with targets that are kept in the home
    "rebase": lambda bench: lambda day: matrices(bench.deltas("memit", [edit.request for edit in day.active])),
    "stacked": lambda bench: Stacked(bench, incremental=False),
    "incremental": lambda bench: Stacked(bench, incremental=True),
    "none": lambda bench: lambda day: {},
}


class Measure:
    """How a day's state is measured: the same text and the same base answers on every day."""

    def __init__(self, bench: Bench, pool: Pool, days: Sequence[Day], most: int | None = None, seed: int = 0) -> None:
        self.bench, self.pool = bench, pool
        self.samples = dict(zip([day.number for day in days], draw_cases(days, most, seed), strict=True))
        self.first = {key(edit) for edit in days[0].added}
        text = bench.text([edit for day in days for edit in (*day.added, *day.changed)])
        self.text = replace(text, lines=text.lines[:most])
        prompts = list({prompt(edit): None for day in days for edit in day.withdrawn})
        self.base_answers = dict(zip(prompts, greedy_answers(bench.loaded, prompts), strict=True))

    def figures(
        self, day: Day, deltas: Mapping[int, torch.Tensor], withdrawn: Sequence[Case]
    ) -> dict[str, float | None]:
        """Measure one way's state; `withdrawn` are the facts of all days so far.

        ES, PS, NS, S and recall are over the measured active facts, in percent; ``kept_...`` is the percentage of top
        answers around them that stay; ``recall_first`` is over the first day's facts that are active still, and
        ``withdrawn_restored`` the percentage of the withdrawn facts that get the base model's answer again, None where
        there are none; ``perplexity`` is on sentences that name nothing that is edited; ``delta_norm`` is the Frobenius
        norm of the whole change of weights.
        """
        bench, prompts = self.bench, [prompt(edit) for edit in withdrawn]
        first = self.pool.cases([edit for edit in day.active if key(edit) in self.first])
        active = [edit.request for edit in day.active]
        measured = bench.figures(
            self.pool.cases(self.samples[day.number]), METRICS, self.text, deltas=deltas, edits=active
        )
        of_first = bench.figures(first, ("recall",), self.text, deltas=deltas)
        with edited(bench.loaded, deltas):
            answers = greedy_answers(bench.loaded, prompts)
        back = sum(answer == self.base_answers[asked] for asked, answer in zip(prompts, answers, strict=True))
        found: dict[str, float | None] = {name: figure.mean for name, figure in measured.items()}
        found["recall_first"] = of_first["recall"].mean if of_first else None
        found["withdrawn_restored"] = 100 * back / len(prompts) if prompts else None
        found["delta_norm"] = sum(float(delta.double().norm()) ** 2 for delta in deltas.values()) ** 0.5
        return found


def key(edit: Case) -> tuple[str, str]:
    return edit.request.relation, edit.request.subject


def prompt(edit: Case) -> str:
    return edit.request.prompt.format(edit.request.subject)


def bench_sync(
    home: Path,
    model: str,
    syncs: int,
    *,
    daily: int = DAILY,
    cases: int | None = None,
    dataset: Path | None = None,
    seed: int = 0,
    values: Mapping[str, Any] | None = None,
    corpus: Path | None = None,
    loading: Loading = AS_STORED,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Sync `syncs` days on a data set's records, or the fixtures' facts; targets and covariances stay in the home."""
    with Ledger.open(home) as ledger, ledger.writer(f"bench sync {model}"):
        choice = choose_model(model, values, home=home, loading=loading, corpus=corpus)
        pool = edit_pool(choice.loaded, dataset, progress)
        days = draw_days(pool, syncs, daily, seed)
        return run_days(Bench(ledger, choice, progress), pool, days, cases, seed)


def run_days(bench: Bench, pool: Pool, days: Sequence[Day], cases: int | None = None, seed: int = 0) -> dict[str, Any]:
    """Sync the days each way, and compare rebase with one batch of each day's facts, searched all at once.

    With `cases`, so many active facts are measured on a day at most. `one_batch` is how far rebase is from one batch of
    a day's facts, relative to that batch's delta; `ways` have what `Measure.figures` gives.
    """
    measure, withdrawn = Measure(bench, pool, days, cases, seed), list[Case]()
    ways = {name: make(bench) for name, make in WAYS.items()}
    one_batch = search(bench, days)
    told: list[dict[str, Any]] = []
    for day in days:
        withdrawn += day.withdrawn
        figures, deltas = {}, {}
        for number, (name, way) in enumerate(ways.items()):
            bench.progress("days and ways", (day.number - 1) * len(ways) + number, len(days) * len(ways))
            deltas[name] = way(day)
            figures[name] = measure.figures(day, deltas[name], withdrawn)
        groups = bench.groups("memit", [edit.request for edit in day.active])
        task = replace(bench.task(groups, bench.settings), z=torch.stack([one_batch[group.id] for group in groups]))
        apart = difference(deltas["rebase"], matrices(bench.editor("memit").edit(task)))
        counts = {"active": len(day.active), "requests": len(day.requests), "withdrawn": len(day.withdrawn)}
        told.append({"day": day.number, **counts, "one_batch": apart, "ways": figures})
    bench.progress("days and ways", len(days) * len(ways), len(days) * len(ways))
    return {
        "model": bench.choice.name,
        "source": pool.source,
        "measured": cases,
        "requests": sum(len(day.requests) for day in days),
        "changes": sum(len(day.changed) for day in days),
        "withdrawals": sum(len(day.withdrawn) for day in days),
        "settings": bench.settings.as_dict(),
        "days": told,
    }


def search(bench: Bench, days: Sequence[Day]) -> dict[str, torch.Tensor]:
    """Return the targets of all days' groups by their ids, found in one search and not taken from the home."""
    found = [group for day in days for group in bench.groups("memit", [edit.request for edit in day.active])]
    groups = list({group.id: group for group in found}.values())
    targets = optimise_targets(bench.loaded, groups, bench.contexts, bench.settings, progress=bench.progress)
    return {group.id: target.z for group, target in zip(groups, targets, strict=True)}


def difference(left: Mapping[int, torch.Tensor], right: Mapping[int, torch.Tensor]) -> float:
    """Return the largest relative difference of a layer's deltas."""
    return max(float((left[layer] - right[layer]).norm() / right[layer].norm()) for layer in right)


def sync_view(bench: dict[str, Any]) -> Parts:
    last, most = bench["days"][-1], bench["measured"]
    rows = []
    for way, one in last["ways"].items():
        values = [one.get(name) for name in COLUMNS]
        rows.append((way, *(None if value is None else round(value, 2) for value in values)))
    of = f", {most} of them measured" if most and most < last["active"] else ""
    title = f"{bench['model']}, day {last['day']}: {last['active']} facts active{of}"
    yield table(("way", *COLUMNS), rows, title=title)
    held = "{requests} requests, {changes} of them changes; {withdrawals} withdrawals".format(**bench)
    yield f"facts from {bench['source']}: {held}"
    apart = max(day["one_batch"] for day in bench["days"])
    yield f"rebase and one batch of the day's facts differ by {apart:.1e} of the delta at most"


def plot_sync(bench: dict[str, Any], path: Path) -> list[Path]:
    """Write the plot of all days as `path` with .png and .svg in place of its suffix; return both paths."""
    days = tuple(day["day"] for day in bench["days"])
    charts = []
    for name, title in PLOTTED.items():
        series = tuple(Series(way, days, tuple(day["ways"][way].get(name) for day in bench["days"])) for way in WAYS)
        charts.append(Chart("lines", name, title, "day", "", series))
    return write_charts(path, charts)
