"""How batches, a fact's log, a rollback and a verification are shown, an export, and what a file holds."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType

from kbsync.report.console import plain, table

if TYPE_CHECKING:
    from kbsync.sync.export import Exported
    from kbsync.sync.history import Event, FactLog, History, HistoryBatch
    from kbsync.sync.publish import Audit, Published
    from kbsync.sync.rollback import RolledBack
    from kbsync.sync.verify import Check, Leftover


_BATCH_COLUMNS = (
    "",
    "batch",
    "when",
    "model",
    "state",
    "+",
    "~",
    "-",
    "active",
    "S",
    "recall",
    "perplexity",
    "seconds",
)
_LOG_COLUMNS = ("when", "event", "relation", "previous", "object", "where", "figures", "detail")
_SHOWN_FIGURES = ("ES", "PS", "NS", "recall")


def history_view(history: "History") -> RenderableType:
    """Return a row for each batch, the current ones marked, and the rollbacks below."""
    if not history.batches:
        return plain("no batches yet: run `kbsync apply`")
    parts: list[RenderableType] = [table(_BATCH_COLUMNS, [_batch_row(batch) for batch in history.batches])]
    parts.append(plain("*: current; + added, ~ superseded, - retracted, active: edits after it"))
    parts += [
        plain(f"batch {batch.batch} is {batch.state}: {batch.reason}") for batch in history.batches if batch.reason
    ]
    if history.rollbacks:
        rows = [
            (_moment(move.time), move.model, _batch(move.from_batch), _batch(move.to_batch))
            for move in history.rollbacks
        ]
        parts.append(table(("when", "model", "from", "to"), rows, title="rollbacks"))
    return Group(*parts)


def _batch_row(batch: "HistoryBatch") -> tuple[object, ...]:
    figures = tuple(None if value is None else f"{value:.2f}" for value in batch.metrics.values())
    about = ("*" if batch.current else "", batch.batch, _moment(batch.started), batch.model, batch.state)
    counts = (batch.added, batch.superseded, batch.retracted, batch.active)
    return (*about, *counts, *figures, None if batch.seconds is None else f"{batch.seconds:.1f}")


def rollback_view(result: "RolledBack") -> RenderableType:
    """Return the way that was gone, or is to be gone, and what becomes of the edits."""
    way = f"{result.model}: from {_batch(result.from_batch)} to {_batch(result.to_batch)}"
    return plain(f"{way}; edits: {result.ended} out, {result.restored} back, {result.active} active in all")


def log_view(log: "FactLog") -> RenderableType:
    """Return a row for each event."""
    title = f"{log.subject} ({', '.join(log.ids)})" if log.ids else log.subject
    return table(_LOG_COLUMNS, [_event_row(event) for event in log.events], title=title)


def _event_row(event: "Event") -> tuple[object, ...]:
    where = [
        f"pull {event.pull}" if event.pull is not None else "",
        f"batch {event.batch}" if event.batch is not None else "",
        event.model or event.source or "",
    ]
    what = (_moment(event.time), event.event, event.relation, event.previous, event.object)
    return (*what, ", ".join(filter(None, where)), _figures(event.metrics), event.detail)


def _figures(metrics: Mapping[str, Mapping[str, float | None]]) -> str:
    shown = [(name, metrics[name]["after"]) for name in _SHOWN_FIGURES if name in metrics]
    return ", ".join(f"{name} {value:.0f}" for name, value in shown if value is not None)


def verified_view(result: Mapping[str, Any]) -> RenderableType:
    """Return a row for each check, and below them what is wrong."""
    checks: Sequence[Check] = result["checks"]
    rows = [(check.name, check.checked, len(check.faults)) for check in checks]
    parts: list[RenderableType] = [table(("", "checked", "wrong"), rows)]
    parts += [plain(f"{check.name}: {fault}") for check in checks for fault in check.faults]
    parts.append(plain("everything is as recorded" if result["whole"] else "something is wrong; nothing was repaired"))
    return Group(*parts)


def pruned_view(result: Mapping[str, Any]) -> RenderableType:
    """Return a row for each file that no state needs, and the sum."""
    files: Sequence[Leftover] = result["files"]
    if not files:
        return plain("nothing to remove: every tensor file is needed")
    done = "would be removed" if result["dry_run"] else "removed"
    size = f"{len(files)} files, {result['bytes'] / 1e6:.1f} MB, {done}"
    rows = [(file.path.name, f"{file.bytes / 1e6:.1f}") for file in files]
    return Group(table(("file", "MB"), rows), plain(size))


def _batch(batch: int) -> str:
    return f"batch {batch}" if batch else "the base model"


def _moment(time: str) -> str:
    """A time of the ledger to the second."""
    return time[:19].replace("T", " ")


def exported_view(done: "Exported") -> RenderableType:
    """Return where the files are, what is in them and, where precision or rank may lose something, what that was."""
    kind = f"{done.format}, rank {done.rank}" if done.rank else f"{done.format}, {done.dtype}"
    about = f"{done.model} with {done.edits} edits (batch {done.batch}), {kind}, {done.bytes / 1e6:.1f} MB"
    parts: list[RenderableType] = [plain(f"{done.folder}: {about}")]
    if done.deviation and max(done.deviation.values()) > 0:
        parts.append(plain(f"layers differ from their deltas by at most {100 * max(done.deviation.values()):.2f}%"))
    if done.figures:
        rows = [(name, round(one["edited"], 2), round(one["file"], 2)) for name, one in done.figures.items()]
        parts.append(table(("", "edited model", "this file"), rows))
    return Group(*parts)


def audit_view(found: "Audit") -> RenderableType:
    """Return what a file is, which of the asked facts it holds, and what speaks against it."""
    return Group(*map(plain, _audit_lines(found)))


def _audit_lines(found: "Audit") -> Iterator[str]:
    bill = found.bill
    yield f"{bill.format} of {bill.model}: batch {bill.batch} of {bill.finished[:19]}, {bill.edits} edits"
    yield f"base model {bill.base}, sha256 {bill.base_sha256[:12]}; ledger {bill.ledger_sha256}; kbsync {bill.kbsync}"
    for one in found.facts:
        yield f"{one.fact}: " + (f"in it ({one.object})" if one.object else "in it" if one.held else "not in it")
    for name in found.changed:
        yield f"{name} is not as it was written"
    if not found.changed:
        yield "every tensor is as it was written"
    yield found.ledger or "no ledger is at hand to hold it against"


def published_view(done: "Published") -> RenderableType:
    """Return where an export is now and, with a server, what that answers."""
    lines = [f"{done.place}: published as {done.name}"]
    if done.asked:
        lines.append(f"the server answers {done.recalled} of {done.asked} facts through it")
    lines += [f"{name} was unloaded" for name in done.replaced]
    return Group(*map(plain, lines))
