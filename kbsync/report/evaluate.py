"""How what a model says is shown: an evaluation, and its answers to prompts."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType

from kbsync.report.tables import plain, table

if TYPE_CHECKING:
    from kbsync.metrics import Figure
    from kbsync.models import Answer
    from kbsync.sync.answers import Asked
    from kbsync.sync.evaluate import Evaluation
    from kbsync.sync.reversal import Reversal


def eval_view(found: "Evaluation") -> RenderableType:
    """Return the figures with their intervals, base beside edited, and a row for each relation."""
    rows = []
    for name, base in found.base.items():
        after = found.edited[name] if found.edited else None
        rows.append((name, base.cases, *_cells(base), *(_cells(after) if after else ())))
    sides = ("base", "95%", "edited", "95%") if found.edited else ("base", "95%")
    what = "the ledger's edits" if found.measured == "ledger" else found.measured
    parts: list[RenderableType] = [
        table(("metric", "cases", *sides), rows, title=f"{found.model}: {found.cases} cases of {what}"),
        *([_beside(found)] if found.beside else []),
        *(_reversal(found.reversal) if found.reversal else []),
        table(("relation", "cases", *_relation_columns(found)), _relation_rows(found), title="by relation"),
    ]
    if found.edited is None:
        parts.append(plain("this home has no edits of the model: only the base model was measured"))
    if found.text is not None:
        parts.append(plain(f"text: {len(found.text.lines)} lines of {found.text.corpus}"))
    if found.lower:
        parts.append(plain(f"lower is better: {', '.join(found.lower)}"))
    if found.unmeasured:
        parts.append(plain(f"not measured, as no case has what they need: {', '.join(found.unmeasured)}"))
    if found.unplaced:
        parts.append(plain(f"left out: {found.unplaced} prompts that do not name their subject"))
    if found.batch is not None:
        parts.append(plain(f"on record with batch {found.batch}"))
    return Group(*parts)


def eval_json(found: "Evaluation") -> dict[str, Any]:
    """Return the evaluation for machines: means by name, and the intervals beside them."""
    return {
        "model": found.model,
        "measured": found.measured,
        "cases": found.cases,
        "unplaced": found.unplaced,
        "unmeasured": found.unmeasured,
        "batch": found.batch,
        "text": None if found.text is None else {"corpus": found.text.corpus, "lines": len(found.text.lines)},
        **_sides(found.base, found.edited),
        "beside": {name: {"means": _means(one), "intervals": _intervals(one)} for name, one in found.beside.items()},
        "reversal": found.reversal,
        "calibration": found.calibration,
        "relations": {
            name: {"cases": one.cases, **_sides(one.base, one.edited)} for name, one in found.relations.items()
        },
    }


def _beside(found: "Evaluation") -> RenderableType:
    """A column for everything that was asked the same, with the base and the edited model before them."""
    sides = {"base": found.base, **({"edited": found.edited} if found.edited else {}), **found.beside}
    rows = [
        (name, *(f"{one[name].mean:.2f}" if name in one else None for one in sides.values())) for name in found.base
    ]
    return table(("metric", *sides), rows, title="beside them, on the same questions")


def _reversal(found: "Reversal") -> list[RenderableType]:
    """What is left of withdrawn facts, and what each says to their prompts."""
    names = list(next(iter(found.figures.values())))
    rows = [(name, *(f"{one[name].mean:.2f}" for one in found.figures.values())) for name in names]
    told = f"{found.withdrawn} edits taken out again: retracted by a solve without them; counter-edit on top"
    said = [tuple(one.values()) for one in found.answers]
    return [table(("metric", *found.figures), rows, title=told), table(tuple(found.answers[0]), said)]


def _sides(base: Mapping[str, "Figure"], edited: Mapping[str, "Figure"] | None) -> dict[str, Any]:
    means = {"base": _means(base), "edited": None if edited is None else _means(edited)}
    intervals = {"base": _intervals(base), "edited": None if edited is None else _intervals(edited)}
    return {**means, "intervals": intervals}


def _means(figures: Mapping[str, "Figure"]) -> dict[str, float]:
    return {name: figure.mean for name, figure in figures.items()}


def _intervals(figures: Mapping[str, "Figure"]) -> dict[str, tuple[float, float]]:
    return {name: (figure.low, figure.high) for name, figure in figures.items()}


def _cells(figure: "Figure") -> tuple[str, str]:
    return f"{figure.mean:.2f}", f"{figure.low:.1f} to {figure.high:.1f}"


def _relation_columns(found: "Evaluation") -> list[str]:
    """The figures that a relation has: those over cases."""
    of_cases = {name for one in found.relations.values() for name in one.base}
    return [name for name in found.edited or found.base if name in of_cases]


def _relation_rows(found: "Evaluation") -> list[tuple[object, ...]]:
    """A relation's figures before and after."""
    rows: list[tuple[object, ...]] = []
    for relation, one in found.relations.items():
        cells: list[str | None] = []
        for name in _relation_columns(found):
            seen = [side[name].mean for side in (one.base, one.edited) if side and name in side]
            cells.append(" → ".join(f"{mean:.1f}" for mean in seen) or None)
        rows.append((relation, one.cases, *cells))
    return rows


def asked_view(result: Mapping[str, Sequence["Asked"]]) -> RenderableType:
    """Return a table for each prompt: the base's answers, and beside them the edited model's."""
    return Group(*(_asked(asked) for asked in result["answers"]))


def _asked(asked: "Asked") -> RenderableType:
    if asked.edited is None:
        return table(("base", "%"), [_answer(answer) for answer in asked.base], title=asked.prompt)
    rows = [(*_answer(before), *_answer(after)) for before, after in zip_longest(asked.base, asked.edited)]
    return table(("base", "%", "edited", "%"), rows, title=asked.prompt)


def _answer(answer: "Answer | None") -> tuple[str, str]:
    return ("", "") if answer is None else (answer.text, f"{100 * answer.probability:.1f}")
