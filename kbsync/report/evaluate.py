"""How an evaluation and answers to prompts are shown; an evaluation also as a page that says what to trust."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import RenderableType

from kbsync.report.console import Parts, page, table

if TYPE_CHECKING:
    from kbsync.metrics import Figure
    from kbsync.models import Answer


def eval_view(found: Mapping[str, Any]) -> Parts:
    """Yield the figures with their intervals, base beside edited, and a row for each relation."""
    rows = [
        (name, base.cases, *_cells(base), *(_cells(found["edited"][name]) if found["edited"] else ()))
        for name, base in found["base"].items()
    ]
    sides = ("base", "95%", "edited", "95%") if found["edited"] else ("base", "95%")
    what = "the ledger's edits" if found["measured"] == "ledger" else found["measured"]
    yield table(("metric", "cases", *sides), rows, title=f"{found['model']}: {found['cases']} cases of {what}")
    if found["beside"]:
        beside = sides_of(found)
        cells = [(name, *(_mean(side.get(name)) for side in beside.values())) for name in found["base"]]
        yield table(("metric", *beside), cells, title="beside them, on the same questions")
    if found["reversal"]:
        yield from _reversal(found["reversal"])
    yield _by_relation(found)
    if found["lower"]:
        yield f"lower is better: {', '.join(found['lower'])}"
    yield from remarks(found)


def sides_of(found: Mapping[str, Any]) -> dict[str, Mapping[str, "Figure"]]:
    """Return the figures of the base model, of the edited one, and of everything that was asked the same."""
    return {"base": found["base"], **({"edited": found["edited"]} if found["edited"] else {}), **found["beside"]}


def remarks(found: Mapping[str, Any]) -> Iterator[str]:
    if found["edited"] is None:
        yield "this home has no edits of the model: only the base model was measured"
    if found["sampled"]:
        yield f"{found['cases']} cases were drawn by the seed; for others or more, --seed or --sample N"
    if found["text"] is not None:
        yield "text: {lines} lines of {corpus}".format(**found["text"])
    if "RS" in found["base"]:
        yield f"RS: against {found['references'] or 'sentences of known facts, as no --references were named'}"
    if found["unmeasured"]:
        yield f"not measured, as no case has what they need: {', '.join(found['unmeasured'])}"
    if found["unplaced"]:
        yield f"left out: {found['unplaced']} prompts that do not name their subject"
    if found["batch"] is not None:
        yield f"on record with batch {found['batch']}"


def eval_json(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the evaluation for machines: means by name, and the intervals beside them."""
    names = ("model", "measured", "cases", "sampled", "unplaced", "unmeasured", "batch", "text")
    return {
        **{name: found[name] for name in names},
        **_sides(found),
        "beside": {name: {"means": _means(one), "intervals": _intervals(one)} for name, one in found["beside"].items()},
        **{name: found[name] for name in ("reversal", "calibration")},
        "relations": {name: {"cases": one["cases"], **_sides(one)} for name, one in found["relations"].items()},
    }


def _reversal(found: Mapping[str, Any]) -> Parts:
    """What is left of withdrawn facts, and what each says to their prompts."""
    figures, answers = found["figures"], found["answers"]
    rows = [(name, *(_mean(one[name]) for one in figures.values())) for name in next(iter(figures.values()))]
    told = f"{found['withdrawn']} edits taken out again: retracted by a solve without them; counter-edit on top"
    yield table(("metric", *figures), rows, title=told)
    yield table(tuple(answers[0]), [tuple(one.values()) for one in answers])


def _sides(found: Mapping[str, Any]) -> dict[str, Any]:
    sides = {side: found[side] for side in ("base", "edited")}
    intervals = {side: None if one is None else _intervals(one) for side, one in sides.items()}
    return {**{side: None if one is None else _means(one) for side, one in sides.items()}, "intervals": intervals}


def _means(figures: Mapping[str, "Figure"]) -> dict[str, float]:
    return {name: figure.mean for name, figure in figures.items()}


def _intervals(figures: Mapping[str, "Figure"]) -> dict[str, tuple[float, float]]:
    return {name: (figure.low, figure.high) for name, figure in figures.items()}


def _mean(figure: "Figure | None") -> str | None:
    return None if figure is None else f"{figure.mean:.2f}"


def _cells(figure: "Figure") -> tuple[str, str]:
    return f"{figure.mean:.2f}", f"{figure.low:.1f} to {figure.high:.1f}"


def _by_relation(found: Mapping[str, Any]) -> RenderableType:
    """A relation's figures before and after, as far as it has them: those over cases."""
    of_cases = {name for one in found["relations"].values() for name in one["base"]}
    columns = [name for name in found["edited"] or found["base"] if name in of_cases]
    rows = []
    for relation, one in found["relations"].items():
        sides = [side for side in (one["base"], one["edited"]) if side]
        cells = [" → ".join(f"{side[name].mean:.1f}" for side in sides if name in side) or None for name in columns]
        rows.append((relation, one["cases"], *cells))
    return table(("relation", "cases", *columns), rows, title="by relation")


def asked_view(result: Mapping[str, Any]) -> Parts:
    """Yield a table for each prompt: the base's answers, and beside them the edited model's."""
    for asked in result["answers"]:
        base, edited = asked["base"], asked["edited"]
        if edited is None:
            yield table(("base", "%"), map(_answer, base), title=asked["prompt"])
        else:
            rows = [(*_answer(before), *_answer(after)) for before, after in zip_longest(base, edited)]
            yield table(("base", "%", "edited", "%"), rows, title=asked["prompt"])


def _answer(answer: "Answer | None") -> tuple[str, str]:
    return ("", "") if answer is None else (answer.text, f"{100 * answer.probability:.1f}")


TRUSTED, CAREFUL = 90.0, 60.0
"""percent from which a model can be trusted with something, and from which only with care"""
POINTS = 1.0  # points of a task, and percent of perplexity, that count as no loss
ASKED = {
    "said": "answering the edited facts in the words in which they were edited",
    "said_paraphrase": "answering them in other words",
    "said_question": "answering them as plain questions",
    "said_chat": "answering them in a chat",
    "ripple_inverse": "the same facts asked the other way round",
    "ripple_alias": "the same facts under the subject's other names",
    "ripple_two_hops": "conclusions from an edited fact and one more",
    "ripple_logical": "what the logic of the relation makes of an edited fact",
    "ripple_true_false": "telling the new fact from the old one",
    "ripple_negation": "telling them when they are denied",
    "known_kept_same": "other facts on the edited subjects that the base model knew",
    "kept_same": "saying of the edited subjects, in other relations, what the base model said",
    "kept_others": "saying of other subjects what the base model said",
    "kept_unrelated": "saying about other things what the base model said",
}
"""figure -> what it lets a model be trusted with"""
GROUPS = {
    "The edited facts": (
        *("said", "said_paraphrase", "said_question", "said_chat", "recall", "paraphrase_recall", "worded_recall"),
        *("chat_recall", "S", "ES", "PS", "choice", "choice_lettered", "score", "efficacy", "paraphrase"),
    ),
    "What follows from them": ("ripple_",),
    "What is to stay": ("NS", "specificity", "kept_", "known_kept_same", "kl_", "perplexity"),
    "General ability": ("task.",),
    "What it is sure of, and what is right": ("calibration_error",),
}
"""heading -> the figures under it; one that ends in _ or a dot begins their names"""


class Verdict(NamedTuple):
    """Something that a model can be trusted with, can be with care, or cannot: yes, care or no."""

    trust: str
    text: str


def verdicts(found: Mapping[str, Any]) -> Iterator[Verdict]:
    """Yield what a model can be trusted with by its figures; the edited model where there is one."""
    now = found["edited"] or found["base"]
    for name, text in ASKED.items():
        if name in now:
            yield Verdict(grade(now[name].mean), f"{text} ({now[name].mean:.0f}%)")
    for name, after in now.items():
        if name.startswith("task.") and found["edited"]:
            lost = found["base"][name].mean - after.mean
            trust = "yes" if lost <= POINTS else "care" if after.low <= found["base"][name].mean <= after.high else "no"
            yield Verdict(trust, f"{name.removeprefix('task.')}: {-lost:+.1f} points")
    if found["edited"] and "perplexity" in now:
        rise = 100 * (now["perplexity"].mean / found["base"]["perplexity"].mean - 1)
        trust = "yes" if rise <= POINTS else "care" if rise <= 10 * POINTS else "no"
        yield Verdict(trust, f"text of other kinds: perplexity {rise:+.1f}%")
    was = first(found["edited"] or {})
    for name in ("8bit", "4bit", "tuned"):
        kept = first(found["beside"].get(name, {}))
        if was and was.mean and kept:
            share = 100 * kept.mean / was.mean
            what = "fine-tuning on other text" if name == "tuned" else f"quantisation to {name[0]} bits"
            yield Verdict(grade(share), f"keeping the edits through {what} ({share:.0f}% of what was said before)")


def grade(percent: float) -> str:
    """Return how far a percentage can be trusted."""
    return "yes" if percent >= TRUSTED else "care" if percent >= CAREFUL else "no"


def first(side: Mapping[str, "Figure"]) -> "Figure | None":
    """Return the figure of the edited facts in the model's own words, else their recall."""
    return next((side[name] for name in ("said", "recall", "efficacy") if name in side), None)


def beside_told(found: Mapping[str, Any]) -> str:
    """Return in a sentence what telling the facts does in place of edits; "" where it was not asked."""
    named = {"retrieval": "told what a lexical retriever finds", "context": "told the fact itself"}
    parts = [
        f"{text}, the base model says {figure.mean:.0f}%"
        for name, text in named.items()
        if name in found["beside"] and (figure := first(found["beside"][name]))
    ]
    now = first(found["edited"]) if found["edited"] else None
    if not parts or now is None:
        return ""
    return f"The edited model says {now.mean:.0f}% of the edited facts; {'; '.join(parts)}."


def grouped(names: Sequence[str]) -> dict[str, list[str]]:
    """Return the figures under each heading; those under none come last."""
    left, found = list(names), {}
    for heading, starts in GROUPS.items():
        begin = tuple(one for one in starts if one[-1] in "_.")
        own = [name for name in left if name in starts or name.startswith(begin)]
        left = [name for name in left if name not in own]
        found[heading] = own
    return {heading: own for heading, own in (found | {"Other figures": left}).items() if own}


def eval_page(found: Mapping[str, Any]) -> str:
    """Return an evaluation as one HTML page that needs no network."""
    sides = sides_of(found)
    return page(
        "eval.html.j2",
        found=found,
        sides_of=lambda names: {name: side for name, side in sides.items() if side.keys() & set(names)},
        remarks=list(remarks(found)),
        groups=grouped(list(dict.fromkeys(name for side in sides.values() for name in side))),
        about=found["about"],
        verdicts=list(verdicts(found)),
        told=beside_told(found),
        headings={"yes": "Can be trusted with", "care": "With care", "no": "Not to be trusted with"},
    )
