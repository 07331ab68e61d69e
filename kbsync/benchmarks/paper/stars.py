"""Appendix E, the constellation task: stars that the model does not place are written, and asked again.

The stars are real ones with proper names, some well known and most not.
"""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from kbsync.benchmarks.paper.bench import Experiment, PaperBench, Result
from kbsync.benchmarks.paper.data import evenly
from kbsync.errors import SettingsError
from kbsync.facts import EditRequest, content_id
from kbsync.memit import edited
from kbsync.metrics import recalled
from kbsync.models import score_targets
from kbsync.report.plots import Chart, Row, Series
from kbsync.sync.home import templates_for
from kbsync.templates import Templates

RELATION = "P59"


@cache
def stars() -> dict[str, str]:
    """Return star -> constellation."""
    found: dict[str, str] = yaml.safe_load(Path(__file__).with_name("stars.yaml").read_text(encoding="utf-8"))
    return found


def star_requests(templates: Templates) -> list[EditRequest]:
    """Return a request for each star of the list."""
    return [templates.request(star, RELATION, constellation) for star, constellation in stars().items()]


def run(bench: PaperBench) -> Result:
    """Write the stars that the model does not place, and measure recall before and after."""
    asked = evenly(star_requests(templates_for(bench.ledger.home)), bench.sizes.stars)
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


STARS = Experiment("stars", "Stars and their constellations", "Appendix E", run)
