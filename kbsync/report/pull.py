"""How a pull, a sync and the demo are shown.

How relations and templates are shown.
"""

from collections.abc import Mapping, Sequence
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.table import Table

from kbsync.report.apply import applied_view, plan_view, status_view
from kbsync.report.console import Parts, fields_of, plain, table

if TYPE_CHECKING:
    from kbsync.sync.daily import Synced
    from kbsync.sync.pull import Pulled
    from kbsync.templates import Template


_COLUMNS = ("relation", "label", "new", "changed", "relabelled", "withdrawn", "unchanged", "conflicting")
_MOST_CHANGES = 20


def pulls_view(result: Mapping[str, Sequence["Pulled"]]) -> Parts:
    """Yield the counts of each pull, the first changed and withdrawn facts, and the notes on what was skipped."""
    pulls = result["pulls"]
    yield table(_COLUMNS, [[getattr(one, name) for name in _COLUMNS] for one in pulls])
    yield from _changes(pulls)
    for p in pulls:
        if p.scope_by_default and p.scope:
            yield (
                f"{p.relation}: only instances of {p.scope['class']} with {p.scope['min_sitelinks']} sitelinks or more,"
                " by its template (--class, --min-sitelinks, --subjects or --limit for another part, --all for"
                " everything)"
            )
    yield from (f"{p.relation} as of {p.as_of}" for p in pulls if p.as_of is not None)
    yield from (f"{p.relation} skipped: {note}" for p in pulls for note in p.skipped)
    if read := sum(p.aliases for p in pulls):
        yield f"{read} aliases read: answers in them count as the object."
    if untold := [p.relation for p in pulls if p.label is None and not p.own_wordings]:
        yield f"No template yet for {', '.join(untold)}: their facts can be edited once they have one."


def _changes(pulls: Sequence["Pulled"]) -> Parts:
    """Yield a table of what is not merely new, cut after the first few."""
    count = sum(p.changed + p.withdrawn + p.relabelled for p in pulls)
    if not count:
        return
    shown = list(islice((change for p in pulls for change in p.changes.of("~-=")), _MOST_CHANGES))
    rows = [(c.sign, c.subject, c.relation, c.previous, c.object, c.why) for c in shown]
    yield table(("", "subject", "relation", "previous", "object", "why"), rows)
    if count > len(shown):
        yield f"and {count - len(shown)} more changed, relabelled or withdrawn (--json lists all)"


def demo_view(told: Mapping[str, Any]) -> Parts:
    """Yield the story: what was pulled, planned and applied, where things stand, and what the model now says."""
    yield "1. kbsync pull: the later edition, from a SPARQL endpoint on this machine"
    yield from pulls_view(told)
    yield "2. kbsync plan: what the model says so far (previous), and what it must learn (object)"
    yield from plan_view(told["plan"])
    yield "3. kbsync apply: MEMIT writes it into the weights"
    yield from applied_view(told["applied"])
    yield "4. kbsync status: knowledge base, ledger and model"
    yield from status_view(told["status"])
    yield "5. kbsync ask: the model in other words, before and after"
    answers = told["answers"]
    shown = itemgetter("prompt", "base", "edited", "wanted")
    yield table(("prompt", "before", "after", "knowledge base"), map(shown, answers))
    yield f"6. kbsync retract: the fact about {told['withdrawn']} is taken out of the model"
    gone, shown = [one for one in answers if one["withdrawn"]], itemgetter("prompt", "base", "edited", "after")
    yield table(("prompt", "before", "edited", "withdrawn"), map(shown, gone))


def synced_view(done: "Synced") -> Parts:
    """Yield what was pulled, what there was to do, and what was written."""
    yield from pulls_view({"pulls": done.pulls})
    yield from plan_view(done.plan)
    if done.applied is not None:
        yield from applied_view(done.applied)
        yield f"{done.checked} items of the ledger are as recorded"
    if done.exported is not None:
        yield f"exported to {done.exported}"
    if done.probed is not None:
        told = "of {asked} edits the model recalls {recalled}, and the exported files hold {held} of these"
        yield told.format(**done.probed)
    if done.dry_run:
        yield "dry run: nothing was written"


def synced_json(done: "Synced") -> dict[str, Any]:
    return {
        **fields_of(done, "model", "in_sync", "dry_run", "pulls"),
        "counts": done.plan.counts,
        **fields_of(done, "applied", "checked", "exported", "probed"),
    }


def relations_view(result: Mapping[str, Any]) -> Parts:
    rows = [
        (
            *(row["relation"], row["label"], "yes" if row["template"] else "no", row["facts"], row["conflicts"]),
            "-" if row["known"] is None else f"{row['known']:.1f}% of {row['asked']}",
        )
        for row in result["relations"]
    ]
    yield table(("relation", "label", "template", "facts", "conflicts", "known"), rows)
    model = result["model"]
    yield f"known: by {model}, of the facts it was asked about" if model else "no model has been asked yet"


def found_view(result: Mapping[str, Any]) -> RenderableType:
    found = result["relations"]
    if not found:
        return f"no relation with {result['search']!r}: try another word (--online asks an endpoint)"
    rows = [(one["relation"], one["label"], one["text"], "yes" if one["template"] else "no") for one in found]
    return table(("relation", "label", "found in", "template"), rows)


def discovered_view(result: Mapping[str, Any]) -> RenderableType:
    rows = [
        (one["predicate"], f"{one['statements']:,}", one["example"], one["relation"] or "-")
        for one in result["predicates"]
    ]
    return table(("predicate", "statements", "such as", "template"), rows)


def templates_view(result: Mapping[str, Sequence["Template"]]) -> RenderableType:
    rows = [(t.relation, t.label, t.prompt, len(t.paraphrases), t.file.name) for t in result["templates"]]
    return table(("relation", "label", "prompt", "paraphrases", "file"), rows)


def template_view(template: "Template") -> RenderableType:
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


def checked_view(result: Mapping[str, Any]) -> str:
    count = len(result["templates"])
    return f"{result['file']}: {count} template{'' if count == 1 else 's'}, all valid"


def drafted_view(result: Mapping[str, Any]) -> Parts:
    yield "{file}: a draft for {relation} ({label}); read and correct its wordings".format(**result)
    if result["remark"]:
        yield result["remark"]


def tested_view(result: Mapping[str, Any]) -> Parts:
    """Yield a row for each wording, the best first, and how many facts it was measured on."""
    rows = [(f"{one['share']:.1f}", one["right"], one["kind"], one["text"]) for one in result["wordings"]]
    yield table(("%", "right", "", "wording"), rows)
    yield "{relation}, {model}: {known} of {asked} facts known in at least one wording".format(**result)
