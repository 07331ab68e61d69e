"""How an edit's explanation is shown, as tables and as a plot, and where a model recalls its facts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kbsync.report.console import Parts, table
from kbsync.report.plots import Chart, Series, write_charts

if TYPE_CHECKING:
    from kbsync.memit.extensions.explain import Reading
    from kbsync.metrics import Figure
    from kbsync.sync.explain import ExplainedWording


TITLES = {"base": "base", "target": "target by hand", "subject": "weights at subject", "model": "edited model"}


def explained_view(found: Mapping[str, Any]) -> Parts:
    """Yield what each way says to each wording, what each layer brings, and the hint."""
    wordings: Sequence[ExplainedWording] = found["wordings"]
    said = [
        (
            number,
            one.kind if one.edited else f"{one.kind}, held out",
            one.text,
            *(_cell(one.readings[way]) for way in TITLES),
            one.readings["model"].turns_at or "",
        )
        for number, one in enumerate(wordings, 1)
    ]
    title = "{relation} of {subject}: {object}, in {model} (batch {batch})".format(**found)
    yield table(("", "wording", "", *TITLES.values(), "first wrong at"), said, title=title)
    brought = [
        (number, *(f"{100 * share:.0f}" for share in (*one.delivered.values(), sum(one.delivered.values()))))
        for number, one in enumerate(wordings, 1)
    ]
    title = "percent of the way to the target that each layer brings at the subject's last token"
    yield table(("", *map(str, wordings[0].delivered), "all"), brought, title=title)
    yield "right, or the answer given instead, and the mean log-probability of the object's tokens"
    if (near := found["nearest"]) is not None:
        about = f"{near.relation} of {near.subject} ({near.object}), cosine {near.cosine:.2f}"
        yield f"nearest key with another object: {about}"
    yield f"hint: {found['hint']}"


def _cell(reading: "Reading") -> str:
    return f"{'right' if reading.recall else reading.answer or '(nothing)'} {reading.log_prob:.2f}"


def plot_explained(found: Mapping[str, Any], path: Path) -> list[Path]:
    """Draw the object's log-probability by wording and way, and what each layer brings; write PNG and SVG.

    `path` gives folder and stem. Raises KbsyncError where it cannot be written.
    """
    wordings: Sequence[ExplainedWording] = found["wordings"]
    names = tuple(f"{number} {one.kind}" + ("" if one.edited else "*") for number, one in enumerate(wordings, 1))
    said = tuple(
        Series(title, tuple(one.readings[way].log_prob for one in wordings), tuple(range(len(names))))
        for way, title in TITLES.items()
    )
    layers = tuple(wordings[0].delivered)
    brought = tuple(
        Series(name, layers, tuple(100 * share for share in one.delivered.values()))
        for name, one in zip(names, wordings, strict=True)
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


def trace_view(found: Mapping[str, Any]) -> Parts:
    """Yield a table for each kind of what is put back, the severed variants, and the suggested layers."""
    facts, window = found["facts"], found["window"]
    yield (
        f"{facts['traced']} facts from the {facts['source']} that {found['model']} knows, {found['samples']} draws of"
        f" noise each: probability of the object {_figure_cell(found['clean'])}, with the subject's embeddings"
        f" corrupted {_figure_cell(found['corrupted'])} (percent, with 95% intervals)"
    )
    blocks = "one block" if window == 1 else f"{window} blocks about it"
    for kind, by_group in found["effects"].items():
        rows = [
            (group, *("" if one is None else f"{one.mean:.1f}" for one in effects))
            for group, effects in by_group.items()
        ]
        of = "behind the block" if kind == "state" else f"of {blocks}"
        title = f"{TRACE_TITLES[kind]} {of} restored at one token: percentage points of probability restored"
        yield table(("block", *map(str, range(len(found["gap"])))), rows, title=title)
    columns = {
        "effect": found["effects"]["state"][LAST_SUBJECT],
        "attention severed": found["severed"]["attention"],
        "MLP severed": found["severed"]["mlp"],
        "lost with the MLP": found["gap"],
    }
    by_layer = [(layer, *map(_figure_cell, cells)) for layer, cells in enumerate(zip(*columns.values(), strict=True))]
    yield table(("block", *columns), by_layer, title=f"hidden state restored at the {LAST_SUBJECT}")
    yield from _suggestion(found)


def _suggestion(found: Mapping[str, Any]) -> Parts:
    present = _layers(found["layers"])
    if found["suggested"] is None:
        yield f"no layers suggested: severing the MLPs has no effect beyond chance (settings have layers={present})"
        return
    effect, gap = (
        max(one.mean for one in column if one is not None)
        for column in (found["effects"]["state"][LAST_SUBJECT], found["gap"])
    )
    yield (
        f"suggested: --set layers={_layers(found['suggested'])} (settings have layers={present}); the MLPs above a"
        f" state carry {gap:.1f} of the {effect:.1f} points that it gives back at most"
    )
    if (preset := found["preset"]) is not None:
        yield f"written: {preset} (--model {preset.stem})"


def _layers(layers: Sequence[int]) -> str:
    return ",".join(map(str, layers))


def _figure_cell(figure: "Figure | None") -> str:
    return "" if figure is None else f"{figure.mean:.1f} ({figure.low:.1f} to {figure.high:.1f})"


def plot_trace(found: Mapping[str, Any], path: Path) -> list[Path]:
    """Draw a map for each kind of what is put back, and the severed variants as bars; write PNG and SVG.

    `path` gives folder and stem. Raises KbsyncError where it cannot be written.
    """
    by_kind = {kind: means(groups) for kind, groups in found["effects"].items()}
    severed = means(found["severed"]) | {"effect": by_kind["state"][LAST_SUBJECT]}
    return write_charts(path, trace_charts(by_kind, severed, found["window"]))


def means(columns: "Mapping[str, Sequence[Figure | None]]") -> dict[str, tuple[float | None, ...]]:
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
