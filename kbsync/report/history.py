"""How batches, a fact's log, a rollback and a verification are shown."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType

from kbsync.report.tables import plain, table

if TYPE_CHECKING:
    from kbsync.sync.history import Event, FactLog, History, HistoryBatch
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
    figures = tuple(_figure(value) for value in batch.metrics.values())
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


def _figure(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f}"
