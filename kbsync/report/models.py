"""How what kbsync finds out about a model is shown: a diagnosis, covariances, a calibration, MEND's training."""

from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType

from kbsync.report.console import fields_of, plain, table

if TYPE_CHECKING:
    from kbsync.memit.extensions.calibration import Trial
    from kbsync.sync.calibrate import Calibration
    from kbsync.sync.doctor import Diagnosis, Loads
    from kbsync.sync.practice import TrainedMend
    from kbsync.sync.stats import SharedCovariances, Stats


_MB = 2**20
_MOST_MISPLACED = 20


def diagnosis_view(found: "Diagnosis") -> RenderableType:
    """Return devices, what loads, memory, time, the tokenizer's failures, and the verdict."""
    rows = [(one.name, one.about, f"{one.total / _MB:,.0f}", f"{one.free / _MB:,.0f}") for one in found.devices]
    parts: list[RenderableType] = [table(("device", "", "MB", "MB free"), rows)]
    if found.loads is not None:
        parts.append(table(("", ""), _loads(found.loads), title=found.model))
    if found.memory:
        parts.append(_memory(found))
    if found.seconds:
        parts.append(_time(found))
    if found.subjects:
        good = found.subjects - len({one.subject for one in found.misplaced})
        parts.append(plain(f"tokenizer: last token found for {good} of {found.subjects} difficult subjects"))
    if found.misplaced:
        cells = [(one.subject, one.prompt, one.reason) for one in found.misplaced[:_MOST_MISPLACED]]
        parts.append(table(("subject", "prompt", "why"), cells))
    parts += [plain(f"note: {remark}") for remark in found.remarks]
    parts += [plain(f"problem: {problem}") for problem in found.problems]
    verdict = f"{found.model} can be edited here" if found.works else f"{found.model} cannot be edited here as it is"
    return Group(*parts, plain(verdict))


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


def stats_view(stats: "Stats") -> RenderableType:
    """Return a table with a row for each layer."""
    rows = [
        (
            layer.layer,
            layer.m,
            layer.tokens,
            None if layer.change is None else f"{layer.change:.2%}",
            None if layer.condition is None else f"{layer.condition:.2g}",
            layer.seconds,
            "before" if layer.cached else "now",
            layer.file,
        )
        for layer in stats.layers
    ]
    title = f"{stats.model}: covariance over {stats.corpus}, in rows of {stats.length} tokens"
    parts: list[RenderableType] = [table(_COLUMNS, rows, title=title)]
    if stats.remark is not None:
        parts.append(plain(stats.remark))
    return Group(*parts)


def exported_view(shared: "SharedCovariances") -> RenderableType:
    """Return one line that says what was written where."""
    return plain(f"{shared.file}: {_about(shared)}")


def imported_view(shared: "SharedCovariances") -> RenderableType:
    """Return one line that says what was taken in."""
    new = f"{len(shared.new)} new" if shared.new else "all on record already"
    return plain(f"{shared.file}: {_about(shared)}; {new}")


def _about(shared: "SharedCovariances") -> str:
    layers = ", ".join(map(str, shared.layers))
    return f"covariances of {shared.model}, layers {layers}, over {shared.tokens} tokens of {shared.corpus}"


def mend_view(trained: "TrainedMend") -> RenderableType:
    """Return a table of both losses, at the beginning of the training and at its end."""
    title = (
        f"{trained.model}: MEND on layers {', '.join(map(str, trained.layers))}, {trained.parameters:,} parameters,"
        f" {trained.facts} facts of the {trained.source}, {trained.steps} steps, {trained.seconds} s"
    )
    rows = [("edit", *trained.edit_loss), ("locality", *trained.locality_loss)]
    return table(("loss", "first tenth", "last tenth"), rows, title=title)


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
