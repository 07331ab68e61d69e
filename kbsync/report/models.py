"""How what kbsync finds out about a model is shown: a diagnosis, covariances, a calibration, MEND's training."""

from typing import TYPE_CHECKING, Any

from rich.console import RenderableType

from kbsync.report.console import Parts, fields_of, table

if TYPE_CHECKING:
    from kbsync.memit.extensions.calibration import Trial
    from kbsync.sync.calibrate import Calibration
    from kbsync.sync.doctor import Diagnosis, Loads
    from kbsync.sync.practice import TrainedMend
    from kbsync.sync.stats import SharedCovariances, Stats


_MB = 2**20
_MOST_MISPLACED = 20


def diagnosis_view(found: "Diagnosis") -> Parts:
    """Yield devices, what loads, memory, time, the tokenizer's failures, and the verdict."""
    rows = [(one.name, one.about, f"{one.total / _MB:,.0f}", f"{one.free / _MB:,.0f}") for one in found.devices]
    yield table(("device", "", "MB", "MB free"), rows)
    if found.loads is not None:
        yield table(("", ""), _loads(found.loads), title=found.model)
    if found.memory:
        yield _memory(found)
    if found.seconds:
        yield _time(found)
    if found.subjects:
        good = found.subjects - len({one.subject for one in found.misplaced})
        yield f"tokenizer: last token found for {good} of {found.subjects} difficult subjects"
    if found.misplaced:
        cells = [(one.subject, one.prompt, one.reason) for one in found.misplaced[:_MOST_MISPLACED]]
        yield table(("subject", "prompt", "why"), cells)
    yield from (f"note: {remark}" for remark in found.remarks)
    yield from (f"problem: {problem}" for problem in found.problems)
    yield f"{found.model} can be edited here" if found.works else f"{found.model} cannot be edited here as it is"


def diagnosis_json(found: "Diagnosis") -> dict[str, Any]:
    return {
        **fields_of(found, "model", "edits", "works", "problems", "remarks"),
        "devices": [
            {"name": one.name, "about": one.about, "total_mb": round(one.total / _MB), "free_mb": round(one.free / _MB)}
            for one in found.devices
        ],
        **fields_of(found, "loads", "memory", "seconds", "rates"),
        "tokenizer": {"subjects": found.subjects, "misplaced": found.misplaced},
    }


def _loads(loads: "Loads") -> list[tuple[str, str]]:
    sizes = f"{loads.blocks} blocks, d {loads.d:,}, m {loads.m:,}, vocabulary {loads.vocabulary:,}"
    rows = [
        ("loads", loads.source),
        ("family", f"{loads.family} ({loads.architecture})"),
        ("size", f"{sizes}, {'tied' if loads.tied_head else 'own'} head"),
        ("weights", f"{loads.weights_mb:,.0f} MB in {loads.dtype} on {loads.device}"),
        ("tokenizer", f"{loads.tokenizer}, {f'begins with {loads.bos}' if loads.bos else 'no BOS'}"),
        ("chat template", "yes" if loads.chat_template else "no"),
        ("edited layers", ", ".join(map(str, loads.layers))),
    ]
    return [*rows, ("settings", loads.remark)] if loads.remark else rows


def _memory(found: "Diagnosis") -> RenderableType:
    rows: list[tuple[str, str, str, str]] = []
    for phase in found.memory:
        rows.append((phase.phase, "", f"{phase.total_mb:,.1f}", "yes" if phase.fits else "NO"))
        rows += [("", what, f"{size:,.1f}", "") for what, size in phase.what.items()]
    return table(("phase", "needed beside the weights", "MB", "fits"), rows, title=f"memory for {found.edits:,} edits")


def _time(found: "Diagnosis") -> RenderableType:
    rates = {
        "covariance": f"{found.rates['covariance_tokens']:,.0f} tokens a second, 10 for each dimension of m",
        "targets": f"{found.rates['targets']:,.2f} requests a second, no early stop",
        "solve": f"{found.rates['solve_gflops']:,.1f} GFLOP/s in float64",
    }
    rows = [(phase, f"{seconds:,.1f}", rates[phase]) for phase, seconds in found.seconds.items()]
    return table(("phase", "seconds", "measured here"), rows, title=f"time for {found.edits:,} edits, by a short trial")


_COLUMNS = ("layer", "m", "tokens", "change since half", "condition", "seconds", "on record", "file")


def stats_view(stats: "Stats") -> Parts:
    rows = [
        (
            *(one.layer, one.m, one.tokens),
            None if one.change is None else f"{one.change:.2%}",
            None if one.condition is None else f"{one.condition:.2g}",
            *(one.seconds, "before" if one.cached else "now", one.file),
        )
        for one in stats.layers
    ]
    title = f"{stats.model}: covariance over {stats.corpus}, in rows of {stats.length} tokens"
    yield table(_COLUMNS, rows, title=title)
    if stats.remark is not None:
        yield stats.remark


def exported_view(shared: "SharedCovariances") -> str:
    layers = ", ".join(map(str, shared.layers))
    about = f"covariances of {shared.model}, layers {layers}, over {shared.tokens} tokens of {shared.corpus}"
    return f"{shared.file}: {about}"


def imported_view(shared: "SharedCovariances") -> str:
    return f"{exported_view(shared)}; " + (f"{len(shared.new)} new" if shared.new else "all on record already")


def mend_view(trained: "TrainedMend") -> RenderableType:
    """Return a table of both losses, at the beginning of the training and at its end."""
    title = (
        f"{trained.model}: MEND on layers {', '.join(map(str, trained.layers))}, {trained.parameters:,} parameters,"
        f" {trained.facts} facts of the {trained.source}, {trained.steps} steps, {trained.seconds} s"
    )
    rows = [("edit", *trained.edit_loss), ("locality", *trained.locality_loss)]
    return table(("loss", "first tenth", "last tenth"), rows, title=title)


_FIGURES = ("ES", "PS", "NS", "S", "recall", "perplexity")


def calibration_view(found: "Calibration") -> Parts:
    yield (
        f"{found.model} knows {found.known} of {found.asked} facts of the {found.source} that it was asked about;"
        f" each trial edits {found.edits} of them to another object"
    )
    clean, corrupted = 100 * found.effects.clean, 100 * found.effects.corrupted
    yield (
        f"mean probability of the object {clean:.1f}%, with the subject's embeddings corrupted {corrupted:.1f}%; "
        "restoring the MLP of one block at the subject's last token adds"
    )
    yield table(("block", "%"), [(layer, f"{100 * effect:.1f}") for layer, effect in enumerate(found.effects.by_layer)])
    rows: list[tuple[object, ...]] = [("no edits", "", "", *_cells(found.base), "")]
    rows += [_row(trial, trial is found.chosen) for trial in found.trials]
    title = f"{len(found.trials)} trials, {found.from_record} of them from earlier runs"
    yield table(("layers", "lambda", "clamp", *_FIGURES, ""), rows, title=title)
    for reason in dict.fromkeys(trial.reason for trial in found.trials if trial.reason):
        yield f"failed: {reason}"
    if not found.chosen.bounded:
        yield "note: no trial kept ordinary text likely enough; this one did the least damage"
    settings = found.chosen.settings
    yield (
        f"chosen: --set layers={','.join(map(str, settings.layers))} --set lambda={settings.lambda_:g}"
        f" --set clamp_norm_factor={settings.clamp_norm_factor:g}"
    )
    if found.preset is not None:
        yield f"written: {found.preset} (--model {found.preset.stem})"
    else:
        yield "not written: --write NAME saves it as a preset, without new trials"


def calibration_json(found: "Calibration") -> dict[str, Any]:
    return {
        "model": found.model,
        "facts": {"source": found.source, "asked": found.asked, "known": found.known, "edits": found.edits},
        "trace": {"clean": found.effects.clean, "corrupted": found.effects.corrupted, "layers": found.effects.by_layer},
        **fields_of(found, "suggested", "base"),
        "trials": [_plain_trial(trial) for trial in found.trials],
        "chosen": _plain_trial(found.chosen),
        **fields_of(found, "from_record", "preset"),
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
