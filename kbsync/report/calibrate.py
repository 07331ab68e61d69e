"""How a calibration is shown."""

from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType

from kbsync.report.tables import plain, table

if TYPE_CHECKING:
    from kbsync.memit.extensions.calibration import Trial
    from kbsync.sync.calibrate import Calibration

_FIGURES = ("ES", "PS", "NS", "S", "recall", "perplexity")


def calibration_view(found: "Calibration") -> RenderableType:
    """Return the causal trace, the trials, and what was chosen."""
    told = (
        f"{found.model} knows {found.known} of {found.asked} facts of the {found.source} that it was asked about;"
        f" each trial edits {found.edits} of them to another object"
    )
    effects = [(layer, f"{100 * effect:.1f}") for layer, effect in enumerate(found.effects.by_layer)]
    clean, corrupted = 100 * found.effects.clean, 100 * found.effects.corrupted
    traced = (
        f"mean probability of the object {clean:.1f}%, with the subject's embeddings corrupted {corrupted:.1f}%; "
        "restoring the MLP of one block at the subject's last token adds"
    )
    columns = ("layers", "lambda", "clamp", *_FIGURES, "")
    rows: list[tuple[object, ...]] = [("no edits", "", "", *_cells(found.base), "")]
    rows += [_row(trial, trial is found.chosen) for trial in found.trials]
    parts: list[RenderableType] = [
        plain(told),
        plain(traced),
        table(("block", "%"), effects),
        table(columns, rows, title=f"{len(found.trials)} trials, {found.from_record} of them from earlier runs"),
    ]
    parts += [plain(f"failed: {reason}") for reason in dict.fromkeys(t.reason for t in found.trials if t.reason)]
    if not found.chosen.bounded:
        parts.append(plain("note: no trial kept ordinary text likely enough; this one did the least damage"))
    settings = found.chosen.settings
    chosen = {"layers": ",".join(map(str, settings.layers)), "lambda": f"{settings.lambda_:g}"}
    chosen["clamp_norm_factor"] = f"{settings.clamp_norm_factor:g}"
    parts.append(plain("chosen: " + " ".join(f"--set {name}={value}" for name, value in chosen.items())))
    if found.preset is not None:
        parts.append(plain(f"written: {found.preset} (--model {found.preset.stem})"))
    else:
        parts.append(plain("not written: --write NAME saves it as a preset, without new trials"))
    return Group(*parts)


def calibration_json(found: "Calibration") -> dict[str, Any]:
    """Return the calibration for machines."""
    return {
        "model": found.model,
        "facts": {"source": found.source, "asked": found.asked, "known": found.known, "edits": found.edits},
        "trace": {"clean": found.effects.clean, "corrupted": found.effects.corrupted, "layers": found.effects.by_layer},
        "suggested": found.suggested,
        "base": found.base,
        "trials": [_plain_trial(trial) for trial in found.trials],
        "chosen": _plain_trial(found.chosen),
        "from_record": found.from_record,
        "preset": found.preset,
    }


def _plain_trial(trial: "Trial") -> dict[str, Any]:
    settings = trial.settings
    return {
        "layers": settings.layers,
        "lambda": settings.lambda_,
        "clamp_norm_factor": settings.clamp_norm_factor,
        **trial.figures,
        "within_bound": trial.bounded,
        "reason": trial.reason,
    }


def _row(trial: "Trial", chosen: bool) -> tuple[object, ...]:
    settings = trial.settings
    remark = "chosen" if chosen else "failed" if trial.reason else "" if trial.bounded else "perplexity"
    layers = ", ".join(map(str, settings.layers))
    return (layers, f"{settings.lambda_:g}", f"{settings.clamp_norm_factor:g}", *_cells(trial.figures), remark)


def _cells(figures: dict[str, float]) -> list[str]:
    return [f"{figures[name]:.2f}" if name in figures else "" for name in _FIGURES]
