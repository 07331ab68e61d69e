"""How a pull is shown."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType

from kbsync.report.tables import plain, table

if TYPE_CHECKING:
    from kbsync.sync.pull import Pulled

_COLUMNS = ("relation", "label", "new", "changed", "relabelled", "withdrawn", "unchanged", "conflicting")
_MOST_CHANGES = 20


def pulls_view(result: Mapping[str, Sequence["Pulled"]]) -> RenderableType:
    """Return the counts of each pull, the first changed and withdrawn facts, and the notes on what was skipped."""
    pulls = result["pulls"]
    rows = [
        (p.relation, p.label, p.new, p.changed, p.relabelled, p.withdrawn, p.unchanged, p.conflicting) for p in pulls
    ]
    parts: list[RenderableType] = [table(_COLUMNS, rows), *_changes(pulls)]
    parts += [
        plain(
            f"{p.relation}: only instances of {p.scope['class']} with {p.scope['min_sitelinks']} sitelinks or more, by "
            "its template (--class, --min-sitelinks, --subjects or --limit for another part, --all for everything)"
        )
        for p in pulls
        if p.scope_by_default and p.scope
    ]
    parts += [plain(f"{p.relation} as of {p.as_of}") for p in pulls if p.as_of is not None]
    parts += [plain(f"{p.relation} skipped: {note}") for p in pulls for note in p.skipped]
    read = sum(p.aliases for p in pulls)
    if read:
        parts.append(plain(f"{read} aliases read: answers in them count as the object."))
    untold = [p.relation for p in pulls if p.label is None and not p.own_wordings]
    if untold:
        parts.append(plain(f"No template yet for {', '.join(untold)}: their facts can be edited once they have one."))
    return Group(*parts)


def _changes(pulls: Sequence["Pulled"]) -> list[RenderableType]:
    """Return a table of what is not merely new, cut after the first few."""
    count = sum(p.changed + p.withdrawn + p.relabelled for p in pulls)
    if not count:
        return []
    shown = list(islice((change for p in pulls for change in p.changes.of("~-=")), _MOST_CHANGES))
    rows = [(c.sign, c.subject, c.relation, c.previous, c.object, c.why) for c in shown]
    parts: list[RenderableType] = [table(("", "subject", "relation", "previous", "object", "why"), rows)]
    if count > len(shown):
        parts.append(plain(f"and {count - len(shown)} more changed, relabelled or withdrawn (--json lists all)"))
    return parts
