"""How batches, a fact's log, a rollback and a verification are shown, an export, and what a file holds."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType

from kbsync.report.console import Parts, table

if TYPE_CHECKING:
    from kbsync.sync.history import Event


_BATCH_COLUMNS = (
    *("", "batch", "when", "model", "state", "+", "~", "-", "active"),
    *("S", "recall", "perplexity", "seconds"),
)
_LOG_COLUMNS = ("when", "event", "relation", "previous", "object", "where", "figures", "detail")
_SHOWN_FIGURES = ("ES", "PS", "NS", "recall")


def history_view(history: Mapping[str, Any]) -> Parts:
    """Yield a row for each batch, the current ones marked, and the rollbacks below."""
    if not history["batches"]:
        yield "no batches yet: run `kbsync apply`"
        return
    yield table(_BATCH_COLUMNS, map(_batch_row, history["batches"]))
    yield "*: current; + added, ~ superseded, - retracted, active: edits after it"
    for batch in history["batches"]:
        if batch["reason"]:
            yield "batch {batch} is {state}: {reason}".format(**batch)
    if history["rollbacks"]:
        moves = [
            (_moment(one["time"]), one["model"], _batch(one["from_batch"]), _batch(one["to_batch"]))
            for one in history["rollbacks"]
        ]
        yield table(("when", "model", "from", "to"), moves, title="rollbacks")


def _batch_row(batch: Mapping[str, Any]) -> tuple[object, ...]:
    figures = tuple(None if value is None else f"{value:.2f}" for value in batch["metrics"].values())
    about = ("*" if batch["current"] else "", batch["batch"], _moment(batch["started"]), batch["model"], batch["state"])
    counts = (batch["added"], batch["superseded"], batch["retracted"], batch["active"])
    return (*about, *counts, *figures, None if batch["seconds"] is None else f"{batch['seconds']:.1f}")


def rollback_view(result: Mapping[str, Any]) -> str:
    """Return the way that was gone, or is to be gone, and what becomes of the edits."""
    way = f"{result['model']}: from {_batch(result['from_batch'])} to {_batch(result['to_batch'])}"
    return way + "; edits: {ended} out, {restored} back, {active} active in all".format(**result)


def log_view(log: Mapping[str, Any]) -> RenderableType:
    title = f"{log['subject']} ({', '.join(log['ids'])})" if log["ids"] else log["subject"]
    return table(_LOG_COLUMNS, map(_event_row, log["events"]), title=title)


def _event_row(event: "Event") -> tuple[object, ...]:
    where = [
        f"pull {event.pull}" if event.pull is not None else "",
        f"batch {event.batch}" if event.batch is not None else "",
        event.model or event.source or "",
    ]
    what = (_moment(event.time), event.event, event.relation, event.previous, event.object)
    shown = [(name, event.metrics[name]["after"]) for name in _SHOWN_FIGURES if name in event.metrics]
    figures = ", ".join(f"{name} {value:.0f}" for name, value in shown if value is not None)
    return (*what, ", ".join(filter(None, where)), figures, event.detail)


def verified_view(result: Mapping[str, Any]) -> Parts:
    """Yield a row for each check, and below them what is wrong."""
    checks = result["checks"]
    yield table(("", "checked", "wrong"), [(one["name"], one["checked"], len(one["faults"])) for one in checks])
    yield from (f"{one['name']}: {fault}" for one in checks for fault in one["faults"])
    yield "everything is as recorded" if result["whole"] else "something is wrong; nothing was repaired"


def pruned_view(result: Mapping[str, Any]) -> Parts:
    files = result["files"]
    if not files:
        yield "nothing to remove: every tensor file is needed"
        return
    yield table(("file", "MB"), [(one["path"].name, f"{one['bytes'] / 1e6:.1f}") for one in files])
    done = "would be removed" if result["dry_run"] else "removed"
    yield f"{len(files)} files, {result['bytes'] / 1e6:.1f} MB, {done}"


def _batch(batch: int) -> str:
    return f"batch {batch}" if batch else "the base model"


def _moment(time: str) -> str:
    """A time of the ledger to the second."""
    return time[:19].replace("T", " ")


def exported_view(done: Mapping[str, Any]) -> Parts:
    """Yield where the files are, what is in them and, where precision or rank may lose something, what that was."""
    kind = "{format}, rank {rank}" if done["rank"] else "{format}, {dtype}"
    about = "{folder}: {model} with {edits} edits (batch {batch}), " + kind
    yield f"{about.format(**done)}, {done['bytes'] / 1e6:.1f} MB"
    if (apart := max(done["deviation"].values(), default=0)) > 0:
        yield f"layers differ from their deltas by at most {100 * apart:.2f}%"
    if done["figures"]:
        rows = [(name, round(one["edited"], 2), round(one["file"], 2)) for name, one in done["figures"].items()]
        yield table(("", "edited model", "this file"), rows)


def audit_view(found: Mapping[str, Any]) -> Parts:
    """Yield what a file is, which of the asked facts it holds, and what speaks against it."""
    bill = found["bill"]
    yield f"{bill.format} of {bill.model}: batch {bill.batch} of {bill.finished[:19]}, {bill.edits} edits"
    yield f"base model {bill.base}, sha256 {bill.base_sha256[:12]}; ledger {bill.ledger_sha256}; kbsync {bill.kbsync}"
    for one in found["facts"]:
        held = f"in it ({one['object']})" if one["object"] else "in it" if one["held"] else "not in it"
        yield f"{one['fact']}: {held}"
    for name in found["changed"]:
        yield f"{name} is not as it was written"
    if not found["changed"]:
        yield "every tensor is as it was written"
    yield found["ledger"] or "no ledger is at hand to hold it against"


def published_view(done: Mapping[str, Any]) -> Parts:
    yield "{place}: published as {name}".format(**done)
    if done["asked"]:
        yield "the server answers {recalled} of {asked} facts through it".format(**done)
    for name in done["replaced"]:
        yield f"{name} was unloaded"
