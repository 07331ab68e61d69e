"""How an edit's explanation is shown: a page of tables, and the same as a plot."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType

from kbsync.report.plots import Chart, Series, write_charts
from kbsync.report.tables import plain, table

if TYPE_CHECKING:
    from kbsync.memit.extensions.explain import Reading
    from kbsync.sync.explain import Explained


TITLES = {"base": "base", "target": "target by hand", "subject": "weights at subject", "model": "edited model"}


def explained_view(found: "Explained") -> RenderableType:
    """Return what each way says to each wording, what each layer brings, and the hint."""
    title = f"{found.relation} of {found.subject}: {found.object}, in {found.model} (batch {found.batch})"
    said = [
        (
            number,
            one.kind if one.edited else f"{one.kind}, held out",
            one.text,
            *(_cell(one.readings[way]) for way in TITLES),
            one.readings["model"].turns_at or "",
        )
        for number, one in enumerate(found.wordings, 1)
    ]
    columns = ("", "wording", "", *TITLES.values(), "first wrong at")
    layers = list(found.wordings[0].delivered)
    brought = [
        (number, *(f"{100 * share:.0f}" for share in (*one.delivered.values(), sum(one.delivered.values()))))
        for number, one in enumerate(found.wordings, 1)
    ]
    lines = ["right, or the answer given instead, and the mean log-probability of the object's tokens"]
    if (near := found.nearest) is not None:
        lines.append(
            f"nearest key with another object: {near.relation} of {near.subject} ({near.object}), cosine"
            f" {near.cosine:.2f}"
        )
    lines.append(f"hint: {found.hint}")
    return Group(
        table(columns, said, title=title),
        table(
            ("", *map(str, layers), "all"),
            brought,
            title="percent of the way to the target that each layer brings at the subject's last token",
        ),
        plain("\n".join(lines)),
    )


def _cell(reading: "Reading") -> str:
    return f"{'right' if reading.recall else reading.answer or '(nothing)'} {reading.log_prob:.2f}"


def plot_explained(found: "Explained", path: Path) -> list[Path]:
    """Draw the object's log-probability by wording and way, and what each layer brings; write PNG and SVG.

    `path` gives folder and stem. Raises KbsyncError where it cannot be written.
    """
    names = tuple(f"{number} {one.kind}" + ("" if one.edited else "*") for number, one in enumerate(found.wordings, 1))
    said = tuple(
        Series(title, tuple(one.readings[way].log_prob for one in found.wordings), tuple(range(len(names))))
        for way, title in TITLES.items()
    )
    layers = tuple(found.wordings[0].delivered)
    brought = tuple(
        Series(name, layers, tuple(100 * share for share in one.delivered.values()))
        for name, one in zip(names, found.wordings, strict=True)
    )
    across = "mean log-probability of the object (* held out)"
    return write_charts(
        path,
        [
            Chart("points", "explain-said", "what each way says", across, "wording", said, ticks=names),
            Chart("map", "explain-brought", "what each layer brings", "edited layer", "", brought, unit="% of the way"),
        ],
    )
