"""How relations and templates are shown."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table

from kbsync.report.console import plain, table

if TYPE_CHECKING:
    from kbsync.sync.relations import NewTemplate, Relations
    from kbsync.sync.wordings import MeasuredWordings
    from kbsync.templates import Template


def relations_view(result: "Relations") -> RenderableType:
    """Return a row for each relation, and which model is spoken of."""
    rows = [
        (
            row.relation,
            row.label,
            "yes" if row.template else "no",
            row.facts,
            row.conflicts,
            "-" if row.known is None else f"{row.known:.1f}% of {row.asked}",
        )
        for row in result.relations
    ]
    told = (
        f"known: by {result.model}, of the facts it was asked about" if result.model else "no model has been asked yet"
    )
    return Group(table(("relation", "label", "template", "facts", "conflicts", "known"), rows), plain(told))


def found_view(result: Mapping[str, Any]) -> RenderableType:
    """Return a row for each relation that a search found."""
    found = result["relations"]
    if not found:
        return plain(f"no relation with {result['search']!r}: try another word (--online asks an endpoint)")
    rows = [(one.relation, one.label, one.text, "yes" if one.template else "no") for one in found]
    return table(("relation", "label", "found in", "template"), rows)


def discovered_view(result: Mapping[str, Any]) -> RenderableType:
    """Return a row for each predicate of a source."""
    rows = [(one.predicate, f"{one.statements:,}", one.example, one.relation or "-") for one in result["predicates"]]
    return table(("predicate", "statements", "such as", "template"), rows)


def templates_view(result: Mapping[str, Sequence["Template"]]) -> RenderableType:
    """Return a table with a row for each template."""
    rows = [(t.relation, t.label, t.prompt, len(t.paraphrases), t.file.name) for t in result["templates"]]
    return table(("relation", "label", "prompt", "paraphrases", "file"), rows)


def template_view(template: "Template") -> RenderableType:
    """Return all of one template, a line for each text."""
    grid = Table.grid(padding=(0, 2))
    lines = [("relation", template.relation), ("label", template.label), ("prompt", template.prompt)]
    lines += [("wording", text) for text in template.wordings]
    lines += [("paraphrase", text) for text in template.paraphrases]
    lines.append(("question", template.question))
    if template.subject:
        lines.append(("subject", template.subject))
    if scope := template.scope:
        lines.append(("scope", f"instances of {scope.class_id} with at least {scope.min_sitelinks} sitelinks"))
    for name, text in [*lines, ("file", template.place)]:
        grid.add_row(plain(name), plain(text))
    return grid


def checked_view(result: Mapping[str, Any]) -> RenderableType:
    """Return one line that says how many templates a file holds."""
    count = len(result["templates"])
    return plain(f"{result['file']}: {count} template{'' if count == 1 else 's'}, all valid")


def drafted_view(result: "NewTemplate") -> RenderableType:
    """Return where the draft is, and what is left to do."""
    told = [f"{result.file}: a draft for {result.relation} ({result.label}); read and correct its wordings"]
    if result.remark:
        told.append(result.remark)
    return plain("\n".join(told))


def tested_view(result: "MeasuredWordings") -> RenderableType:
    """Return a row for each wording, the best first, and how many facts it was measured on."""
    rows = [(f"{one.share:.1f}", one.right, one.kind, one.text) for one in result.wordings]
    told = f"{result.relation}, {result.model}: {result.known} of {result.asked} facts known in at least one wording"
    return Group(table(("%", "right", "", "wording"), rows), plain(told))
