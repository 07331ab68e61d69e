"""How what kbsync finds out about a model is shown: a diagnosis, covariances, a calibration, MEND's training."""

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType

from kbsync.report.console import Parts, table

_MOST_MISPLACED = 20


def diagnosis_view(found: Mapping[str, Any]) -> Parts:
    """Yield devices, what loads, memory, time, the tokenizer's failures, and the verdict."""
    rows = [(one["name"], one["about"], f"{one['total_mb']:,}", f"{one['free_mb']:,}") for one in found["devices"]]
    yield table(("device", "", "MB", "MB free"), rows)
    if found["loads"] is not None:
        yield table(("", ""), _loads(found["loads"]), title=found["model"])
    if found["memory"]:
        yield _memory(found)
    if found["seconds"]:
        yield _time(found)
    subjects, misplaced = found["tokenizer"]["subjects"], found["tokenizer"]["misplaced"]
    if subjects:
        good = subjects - len({one.subject for one in misplaced})
        yield f"tokenizer: last token found for {good} of {subjects} difficult subjects"
    if misplaced:
        cells = [(one.subject, one.prompt, one.reason) for one in misplaced[:_MOST_MISPLACED]]
        yield table(("subject", "prompt", "why"), cells)
    yield from (f"note: {remark}" for remark in found["remarks"])
    yield from (f"problem: {problem}" for problem in found["problems"])
    yield f"{found['model']} " + ("can be edited here" if found["works"] else "cannot be edited here as it is")


def _loads(loads: Mapping[str, Any]) -> list[tuple[str, str]]:
    sizes = "{blocks} blocks, d {d:,}, m {m:,}, vocabulary {vocabulary:,}".format(**loads)
    rows = [
        ("loads", loads["source"]),
        ("family", f"{loads['family']} ({loads['architecture']})"),
        ("size", f"{sizes}, {'tied' if loads['tied_head'] else 'own'} head"),
        ("weights", f"{loads['weights_mb']:,.0f} MB in {loads['dtype']} on {loads['device']}"),
        ("tokenizer", f"{loads['tokenizer']}, {f'begins with {bos}' if (bos := loads['bos']) else 'no BOS'}"),
        ("chat template", "yes" if loads["chat_template"] else "no"),
        ("edited layers", ", ".join(map(str, loads["layers"]))),
    ]
    return [*rows, ("settings", loads["remark"])] if loads["remark"] else rows


def _memory(found: Mapping[str, Any]) -> RenderableType:
    rows: list[tuple[str, str, str, str]] = []
    for phase in found["memory"]:
        rows.append((phase["phase"], "", f"{phase['total_mb']:,.1f}", "yes" if phase["fits"] else "NO"))
        rows += [("", what, f"{size:,.1f}", "") for what, size in phase["what"].items()]
    return table(
        ("phase", "needed beside the weights", "MB", "fits"), rows, title=f"memory for {found['edits']:,} edits"
    )


def _time(found: Mapping[str, Any]) -> RenderableType:
    rates = {
        "covariance": f"{found['rates']['covariance_tokens']:,.0f} tokens a second, 10 for each dimension of m",
        "targets": f"{found['rates']['targets']:,.2f} requests a second, no early stop",
        "solve": f"{found['rates']['solve_gflops']:,.1f} GFLOP/s in float64",
    }
    rows = [(phase, f"{seconds:,.1f}", rates[phase]) for phase, seconds in found["seconds"].items()]
    title = f"time for {found['edits']:,} edits, by a short trial"
    return table(("phase", "seconds", "measured here"), rows, title=title)


_COLUMNS = ("layer", "m", "tokens", "change since half", "condition", "seconds", "on record", "file")


def stats_view(stats: Mapping[str, Any]) -> Parts:
    rows = [
        (
            *(one["layer"], one["m"], one["tokens"]),
            None if one["change"] is None else f"{one['change']:.2%}",
            None if one["condition"] is None else f"{one['condition']:.2g}",
            *(one["seconds"], "before" if one["cached"] else "now", one["file"]),
        )
        for one in stats["layers"]
    ]
    title = "{model}: covariance over {corpus}, in rows of {length} tokens".format(**stats)
    yield table(_COLUMNS, rows, title=title)
    if stats["remark"] is not None:
        yield stats["remark"]


def exported_view(shared: Mapping[str, Any]) -> str:
    layers = ", ".join(map(str, shared["layers"]))
    about = f"covariances of {shared['model']}, layers {layers}, over {shared['tokens']} tokens of {shared['corpus']}"
    return f"{shared['file']}: {about}"


def imported_view(shared: Mapping[str, Any]) -> str:
    new = len(shared["new"])
    return f"{exported_view(shared)}; " + (f"{new} new" if new else "all on record already")


def mend_view(trained: Mapping[str, Any]) -> RenderableType:
    """Return a table of both losses, at the beginning of the training and at its end."""
    layers = ", ".join(map(str, trained["layers"]))
    title = (
        f"{trained['model']}: MEND on layers {layers}, {trained['parameters']:,} parameters,"
        f" {trained['facts']} facts of the {trained['source']}, {trained['steps']} steps, {trained['seconds']} s"
    )
    rows = [("edit", *trained["edit_loss"]), ("locality", *trained["locality_loss"])]
    return table(("loss", "first tenth", "last tenth"), rows, title=title)


_FIGURES = ("ES", "PS", "NS", "S", "recall", "perplexity")


def calibration_view(found: Mapping[str, Any]) -> Parts:
    facts, trace, trials = found["facts"], found["trace"], found["trials"]
    yield (
        f"{found['model']} knows {facts['known']} of {facts['asked']} facts of the {facts['source']} that it was asked"
        f" about; each trial edits {facts['edits']} of them to another object"
    )
    yield (
        f"mean probability of the object {100 * trace['clean']:.1f}%, with the subject's embeddings corrupted"
        f" {100 * trace['corrupted']:.1f}%; restoring the MLP of one block at the subject's last token adds"
    )
    yield table(("block", "%"), [(layer, f"{100 * effect:.1f}") for layer, effect in enumerate(trace["layers"])])
    chosen = found["chosen"]
    rows: list[tuple[object, ...]] = [("no edits", "", "", *_cells(found["base"]), "")]
    rows += [_row(trial, trial == chosen) for trial in trials]
    title = f"{len(trials)} trials, {found['from_record']} of them from earlier runs"
    yield table(("layers", "lambda", "clamp", *_FIGURES, ""), rows, title=title)
    for reason in dict.fromkeys(trial["reason"] for trial in trials if trial["reason"]):
        yield f"failed: {reason}"
    if not chosen["within_bound"]:
        yield "note: no trial kept ordinary text likely enough; this one did the least damage"
    yield (
        f"chosen: --set layers={','.join(map(str, chosen['layers']))} --set lambda={chosen['lambda']:g}"
        f" --set clamp_norm_factor={chosen['clamp_norm_factor']:g}"
    )
    if (preset := found["preset"]) is not None:
        yield f"written: {preset} (--model {preset.stem})"
    else:
        yield "not written: --write NAME saves it as a preset, without new trials"


def _row(trial: Mapping[str, Any], chosen: bool) -> tuple[object, ...]:
    remark = "chosen" if chosen else "failed" if trial["reason"] else "" if trial["within_bound"] else "perplexity"
    layers = ", ".join(map(str, trial["layers"]))
    return (layers, f"{trial['lambda']:g}", f"{trial['clamp_norm_factor']:g}", *_cells(trial), remark)


def _cells(figures: Mapping[str, float]) -> list[str]:
    return [f"{figures[name]:.2f}" if name in figures else "" for name in _FIGURES]
