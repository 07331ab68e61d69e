"""Appendix B.1 to B.4: what each editor costs, and what has to be made once for a model."""

import time
from dataclasses import replace
from typing import Any

from kbsync.benchmarks.paper.bench import Experiment, PaperBench, Result
from kbsync.facts import content_id
from kbsync.memit import collect_covariances
from kbsync.report.plots import Chart, Row, Series
from kbsync.sync.corpus import documents


class PhaseClock:
    """A progress that gives the time since its last call to the phase that reports."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.last = time.monotonic()

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Take a report."""
        present = time.monotonic()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + present - self.last
        self.last = present


def run(bench: PaperBench) -> Result:
    """Time each editor on the same requests, with nothing cached but what is made once; and that."""
    rows: list[Row] = [covariance_row(bench)] if bench.choice.corpus is not None else []
    if "mend" in bench.rows and (trained := bench.training()):
        rows.append({"editor": "mend", "phase": "training (once)", "edits": 0, "seconds": trained["seconds"]})
    rows += [row for name in bench.rows if name != "none" for row in editor_rows(bench, name)]
    whole = {row["editor"]: row["edits_per_second"] for row in rows if row["phase"] == "whole"}
    title = f"Edits per second, {bench.sizes.timed} edits at once"
    bars = Series("edits per second", tuple(whole), tuple(whole.values()))
    rates = Chart("bars", "time", title, "", "edits per second", (bars,), logarithmic=True)
    note = (
        "Wall-clock seconds of this run's machine. Target vectors are searched anew here; covariances and MEND's"
        " network are made once for a model, and stand in rows of their own."
    )
    return Result(tuple(rows), (rates,), note)


def covariance_row(bench: PaperBench) -> Row:
    """Return what one pass for C of R takes."""

    def make() -> dict[str, Any]:
        began = time.monotonic()
        assert bench.choice.corpus is not None
        _, tokens = collect_covariances(bench.loaded, documents(bench.choice.corpus), bench.settings, bench.progress)
        return {"tokens": tokens, "seconds": round(time.monotonic() - began, 3)}

    about = {**bench.about, "what": "time of C", "settings": bench.settings.as_dict()}
    found = bench.measurements.get(about, make)
    return {"editor": "memit", "phase": "covariance (once)", "edits": 0, "seconds": found["seconds"]}


def editor_rows(bench: PaperBench, name: str) -> list[Row]:
    """Return an editor's seconds by phase and as a whole."""
    requests = [case.request for case in bench.counterfact[: bench.sizes.timed]]
    own, settings = bench.editor(name), bench.settings_for(name)

    def make() -> dict[str, Any]:
        task = bench.task(bench.groups(name, requests), settings)
        own.edit(replace(task, groups=task.groups[:1]))  # so that what is made once is there
        clock = PhaseClock()
        began = time.monotonic()
        own.edit(replace(task, progress=clock))
        total = time.monotonic() - began
        return {
            "phases": {phase: round(seconds, 3) for phase, seconds in clock.seconds.items()},
            "seconds": round(total, 3),
        }

    about = {**bench.about, "what": "time", "editor": name, "settings": settings.as_dict()}
    found = bench.measurements.get({**about, "ids": content_id("requests1", [one.id for one in requests])}, make)
    return [
        {
            "editor": name,
            "phase": phase,
            "edits": len(requests),
            "seconds": seconds,
            "seconds_per_edit": round(seconds / len(requests), 4),
            "edits_per_second": round(len(requests) / seconds, 3) if seconds else None,
        }
        for phase, seconds in {**found["phases"], "whole": found["seconds"]}.items()
    ]


TIME = Experiment("time", "What an edit costs", "Appendix B.1-B.4", run)
