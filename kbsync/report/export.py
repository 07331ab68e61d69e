"""How an export, what a file holds, and what was published are shown."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType

from kbsync.report.tables import plain, table

if TYPE_CHECKING:
    from kbsync.sync.audit import Audit
    from kbsync.sync.export import Exported
    from kbsync.sync.publish import Published


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
