"""Appendix B.1 to B.4: what each editor costs, and what has to be made once for a model.

Appendix E, the constellation task: stars that the model does not place are written, and asked again.

The stars are real ones with proper names, some well known and most not.

Appendix E, new knowledge: whom the states of the United States elected in 2022, as governors and senators.
"""

import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from kbsync.benchmarks.paper.bench import PaperBench, Result
from kbsync.benchmarks.paper.data import evenly
from kbsync.errors import SettingsError
from kbsync.facts import EditRequest, content_id
from kbsync.memit import collect_covariances, edited
from kbsync.metrics import Case, recalled
from kbsync.models import score_targets
from kbsync.report.plots import Chart, Row, Series, bars_by_row
from kbsync.sync.answers import other_answers
from kbsync.sync.corpus import documents
from kbsync.sync.home import templates_for
from kbsync.sync.model import Session


class PhaseClock:
    """A progress that gives the time since its last call to the phase that reports."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.last = time.monotonic()

    def __call__(self, phase: str, done: int, total: int) -> None:
        present = time.monotonic()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + present - self.last
        self.last = present


def time_(bench: PaperBench) -> Result:
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


RELATION = "P59"


@cache
def stars() -> dict[str, str]:
    found: dict[str, str] = yaml.safe_load(Path(__file__).with_name("stars.yaml").read_text(encoding="utf-8"))
    return found


def constellations(bench: PaperBench) -> Result:
    """Write the stars that the model does not place, and measure recall before and after."""
    templates = templates_for(bench.ledger.home)
    requests = [templates.request(star, RELATION, constellation) for star, constellation in stars().items()]
    asked = evenly(requests, bench.sizes.stars)
    ids = content_id("requests1", [one.id for one in asked])
    about = {**bench.about, "what": "stars and all of them", "settings": bench.settings.as_dict(), "ids": ids}
    found = bench.measurements.get(about, lambda: write_stars(bench, asked))
    rows: list[Row] = [{"asked": when, **found[when]} for when in ("before", "after")]
    groups = ("all stars", "those edited", "on paraphrases", "those not edited")
    shown = ("accuracy", "recall", "paraphrase_recall", "others_recall")
    series = tuple(Series(row["asked"], groups, tuple(row[name] for name in shown)) for row in rows)
    title = f"{found['edits']} stars and their constellations"
    bars = Chart("bars", "stars", title, "", "top answer right, %", series)
    note = (
        f"{len(asked)} stars were asked; those that the model does not place right are edited. Before the edits it"
        f" placed {found['known']} of them. Stars not edited are these."
    )
    return Result(tuple(rows), (bars,), note)


def write_stars(bench: PaperBench, asked: list[EditRequest]) -> dict[str, Any]:
    """Return recall before and after, in percent: of all stars, of those edited, and of those that the model knew."""
    known = recalled(bench.loaded, asked)
    edits = [one for one, right in zip(asked, known, strict=True) if not right]
    others = [one for one, right in zip(asked, known, strict=True) if right]
    if not edits:
        raise SettingsError(f"{bench.choice.name} places all {len(asked)} stars right: there is none to edit")

    def figures() -> dict[str, float | None]:
        wordings = [(text, one.subject, one.target) for one in edits for text in one.paraphrases]
        return {
            "accuracy": share([*(right := recalled(bench.loaded, edits)), *(rest := recalled(bench.loaded, others))]),
            "recall": share(right),
            "paraphrase_recall": share([score.exact for score in score_targets(bench.loaded, wordings)]),
            "others_recall": share(rest),
        }

    before = figures()
    with edited(bench.loaded, bench.deltas("memit", edits)):
        after = figures()
    return {"edits": len(edits), "known": len(others), "before": before, "after": after}


def share(right: list[bool]) -> float | None:
    """Return the percentage that is true; None of nothing."""
    return round(100 * sum(right) / len(right), 2) if right else None


ELECTED_SHOWN = ("ES", "PS", "recall", "paraphrase_recall")
ELECTED_FROM = "elected-from"
ELECTED_PROMPT = "{} was elected from the state of"
ELECTED_PARAPHRASES = (
    "The state that elected {} in 2022 is",
    "In 2022, {} won an election in the state of",
    "The voters who put {} into office live in the state of",
    "As an elected politician, {} represents the state of",
)
ELECTED_QUESTION = "From which state was {} elected?"


def election_requests() -> list[EditRequest]:
    states: dict[str, list[str]] = yaml.safe_load(Path(__file__).with_name("elections.yaml").read_text("utf-8"))
    return [
        EditRequest(ELECTED_FROM, person, ELECTED_PROMPT, state, ELECTED_PARAPHRASES, ELECTED_QUESTION)
        for state, people in states.items()
        for person in people
    ]


def elections(bench: PaperBench) -> Result:
    """Write everyone's state, against what the model said before; those that it knows are written too."""
    requests = evenly(election_requests(), bench.sizes.elections)
    old = other_answers(Session.of(bench.ledger, bench.choice, bench.progress), requests)
    cases = [Case(one, old[one.id]) for one in requests]
    rows: list[Row] = [
        {"asked": when, "edits": len(cases), **bench.measured(name, cases, ELECTED_SHOWN)}
        for when, name in (("before", "none"), ("after", "memit"))
    ]
    bars = bars_by_row("elections", f"{len(cases)} results of elections", "asked", rows, ELECTED_SHOWN)
    note = (
        "Governors and senators elected in 2022, each with the state; the paper also wrote the 435 seats of the House."
        " ES and PS are against what the model said before or, where that was right, its next likeliest answer."
    )
    return Result(tuple(rows), (bars,), note)
