"""A status as a page: Markdown for a pull request, or one HTML file that needs no network."""

import datetime
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup, escape

from kbsync import __version__
from kbsync.report.apply import MEANING, figure, in_sync_text
from kbsync.report.console import plain

if TYPE_CHECKING:
    from kbsync.sync.history import History
    from kbsync.sync.plan import PlanRow
    from kbsync.sync.status import Overview, Recent, Status


MOST_ROWS = 200
"""of a sign; what a reader of a page goes through"""
LAST = 10
"""batches that a plot goes back"""
_TICKS = re.compile(r"`([^`]+)`")
_MARKUP = re.compile(r"([\\`*_{}\[\]<>()#+\-.!|~&])")


def status_page(
    status: "Status[Overview]", history: "History | None", recent: "Recent", form: Literal["markdown", "html"]
) -> str:
    """Return a status, with what was new lately and the figures of the last batches from `history`, as one page."""
    rows: dict[str, list[PlanRow]] = defaultdict(list)
    for row in status.plan.rows:
        if len(rows[row.sign]) < MOST_ROWS:
            rows[row.sign].append(row)
    counts = {sign: count for sign, count in status.plan.counts.items() if count}
    pages = Environment(loader=PackageLoader("kbsync.report", "pages"), autoescape=select_autoescape(["html.j2"]))
    pages.filters["cell"] = cell
    pages.filters["bars"] = bars
    pages.filters["code"] = code
    return pages.get_template("status.html.j2" if form == "html" else "status.md.j2").render(
        model=status.plan.model,
        verdict=verdict(status),
        counts=[(sign, count, MEANING[sign]) for sign, count in counts.items()],
        notes=status.notes,
        batch=status.batch.id if status.batch else None,
        figures=[
            (name, figure(values["before"]) or "", figure(values["after"]) or "", points(name, history))
            for name, values in status.metrics.items()
        ],
        rows=rows,
        changes=recent.changes,
        answers=recent.answers,
        failed=recent.failed,
        version=__version__,
        made=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def verdict(status: "Status[Overview]") -> str:
    """Return in a sentence whether there is anything to do."""
    counts = status.plan.counts
    if not any(counts.values()):
        return "No facts yet: run `kbsync pull`."
    if status.plan.in_sync:
        return in_sync_text(counts).capitalize() + "."
    changes = sum(counts.get(sign, 0) for sign in ("+", "~", "-"))
    facts = "1 fact" if changes == 1 else f"{changes:,} facts"
    return f"Knowledge base and model differ in {facts}: `kbsync apply` writes the change."


def cell(value: object) -> str:
    """Return a value for a cell of a Markdown table: labels come from afar, so none of it is markup."""
    return _MARKUP.sub(r"\\\1", " ".join(plain(value).plain.split()))


def code(text: str) -> Markup:
    """Return a sentence for HTML, what stands between backticks as code."""
    return Markup(_TICKS.sub(r"<code>\1</code>", str(escape(text))))


def bars(points: Sequence[tuple[float, float]]) -> str:
    """Return the same as a line of text."""
    return "".join("▁▂▃▄▅▆▇█"[round(7 * (18 - y) / 16)] for _, y in points)


def points(name: str, history: "History | None") -> Sequence[tuple[float, float]]:
    """Return a figure's way over the last batches, scaled to 100 x 20; nothing where there are fewer than two."""
    values = [batch.metrics.get(name) for batch in history.batches if batch.active is not None] if history else []
    told = [value for value in values if value is not None][-LAST:]
    if len(told) < 2:
        return []
    low, high = min(told), max(told)
    step = 96 / (len(told) - 1)
    return [
        (round(2 + step * at, 1), round(18 - 16 * (value - low) / ((high - low) or 1), 1))
        for at, value in enumerate(told)
    ]
