"""How an edit's explanation is shown, as tables and as a plot, and where a model recalls its facts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType

from kbsync.report.console import fields_of, plain, table
from kbsync.report.plots import Chart, Series, write_charts

if TYPE_CHECKING:
    from kbsync.memit.extensions.explain import Reading
    from kbsync.metrics import Figure
    from kbsync.sync.calibrate import Trace
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


TRACE_TITLES = {"state": "hidden state", "mlp": "MLP outputs", "attention": "attention outputs"}
LAST_SUBJECT = "last subject token"


def trace_view(found: "Trace") -> RenderableType:
    """Return a table for each kind of what is put back, the severed variants, and the suggested layers."""
    figures = found.figures
    told = (
        f"{found.traced} facts from the {found.source} that {found.model} knows, {found.samples} draws of noise each:"
        f" probability of the object {_figure_cell(figures.clean)}, with the subject's embeddings corrupted"
        f" {_figure_cell(figures.corrupted)} (percent, with 95% intervals)"
    )
    parts: list[RenderableType] = [plain(told)]
    depth = len(figures.gap)
    blocks = "one block" if figures.window == 1 else f"{figures.window} blocks about it"
    for kind, by_group in figures.effects.items():
        rows = [
            (group, *("" if one is None else f"{one.mean:.1f}" for one in effects))
            for group, effects in by_group.items()
        ]
        of = "behind the block" if kind == "state" else f"of {blocks}"
        title = f"{TRACE_TITLES[kind]} {of} restored at one token: percentage points of probability restored"
        parts.append(table(("block", *map(str, range(depth))), rows, title=title))
    state = figures.effects["state"][LAST_SUBJECT]
    columns = {"effect": state, "attention severed": figures.severed["attention"]}
    columns |= {"MLP severed": figures.severed["mlp"], "lost with the MLP": figures.gap}
    cells = zip(*([_figure_cell(one) for one in column] for column in columns.values()), strict=True)
    by_layer = [(layer, *row) for layer, row in enumerate(cells)]
    parts.append(table(("block", *columns), by_layer, title=f"hidden state restored at the {LAST_SUBJECT}"))
    parts += [plain(line) for line in _suggestion(found)]
    return Group(*parts)


def trace_json(found: "Trace") -> dict[str, Any]:
    """Return the trace for machines: percent, a value for each block."""
    return {
        "model": found.model,
        "facts": {"source": found.source, "traced": found.traced},
        **fields_of(found, "samples", "seed"),
        **fields_of(found.figures, "window", "clean", "corrupted", "effects", "severed", "gap"),
        "layers": found.present,
        **fields_of(found, "suggested", "preset"),
    }


def _suggestion(found: "Trace") -> list[str]:
    present = _layers(found.present)
    if found.suggested is None:
        return [f"no layers suggested: severing the MLPs has no effect beyond chance (settings have layers={present})"]
    effect, gap = (
        max(one.mean for one in column if one is not None)
        for column in (found.figures.effects["state"][LAST_SUBJECT], found.figures.gap)
    )
    lines = [
        f"suggested: --set layers={_layers(found.suggested)} (settings have layers={present}); the MLPs above a state"
        f" carry {gap:.1f} of the {effect:.1f} points that it gives back at most"
    ]
    if found.preset is not None:
        lines.append(f"written: {found.preset} (--model {found.preset.stem})")
    return lines


def _layers(layers: Sequence[int]) -> str:
    return ",".join(map(str, layers))


def _figure_cell(figure: "Figure | None") -> str:
    return "" if figure is None else f"{figure.mean:.1f} ({figure.low:.1f} to {figure.high:.1f})"


def plot_trace(found: "Trace", path: Path) -> list[Path]:
    """Draw a map for each kind of what is put back, and the severed variants as bars; write PNG and SVG.

    `path` gives folder and stem. Raises KbsyncError where it cannot be written.
    """
    effects, severed = (means(part) for part in (found.figures.effects["state"], found.figures.severed))
    by_kind = {kind: means(groups) for kind, groups in found.figures.effects.items()}
    severed |= {"effect": effects[LAST_SUBJECT]}
    return write_charts(path, trace_charts(by_kind, severed, found.figures.window))


def means(columns: "Mapping[str, Sequence[Figure | None]]") -> dict[str, tuple[float | None, ...]]:
    """Return the means of columns, a value for each block."""
    return {
        name: tuple(None if one is None else round(one.mean, 3) for one in column) for name, column in columns.items()
    }


def trace_charts(
    effects: Mapping[str, Mapping[str, tuple[float | None, ...]]],
    severed: Mapping[str, tuple[float | None, ...]],
    window: int,
) -> list[Chart]:
    """Return a map for each kind of what is put back, and bars of the state's effect with outputs severed.

    `effects` are by kind and token group, a value for each block; `severed` by what is severed, ``effect`` being whole.
    """
    charts = []
    for kind, groups in effects.items():
        of = "" if kind == "state" or window == 1 else f" of {window} blocks"
        rows = tuple(Series(group, tuple(range(len(column))), column) for group, column in groups.items())
        title = f"{TRACE_TITLES[kind]}{of} restored"
        charts.append(Chart("map", f"trace-{kind}", title, "block", "token", rows, unit="points of probability"))
    names = {"effect": "effect", "attention": "attention severed", "mlp": "MLP severed"}
    bars = tuple(Series(title, tuple(range(len(severed[kind]))), severed[kind]) for kind, title in names.items())
    title = f"hidden state restored at the {LAST_SUBJECT}"
    return [*charts, Chart("bars", "trace-severed", title, "block", "points of probability", bars)]
