"""An evaluation as one HTML page that needs no network: figures, and in words what the model can be trusted with."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, select_autoescape

from kbsync import __version__

if TYPE_CHECKING:
    from kbsync.metrics import Figure
    from kbsync.sync.evaluate import Evaluation


TRUSTED, CAREFUL = 90.0, 60.0
"""percent from which a model can be trusted with something, and from which only with care"""
POINTS = 1.0
"""points of a task, and percent of perplexity, that count as no loss"""
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
    "kept_others": "saying of other subjects what the base model said",
    "kept_unrelated": "saying about other things what the base model said",
}
"""figure -> what it lets a model be trusted with"""
GROUPS = {
    "The edited facts": (
        *("said", "said_paraphrase", "said_question", "said_chat", "recall", "paraphrase_recall", "worded_recall"),
        *("chat_recall", "ES", "PS", "choice", "choice_lettered", "efficacy", "paraphrase"),
    ),
    "What follows from them": ("ripple_",),
    "What is to stay": ("NS", "specificity", "kept_", "known_kept_same", "kl_", "perplexity"),
    "General ability": ("task.",),
    "Sureness": ("calibration_error",),
}
"""heading -> the figures under it; one that ends in _ or a dot begins their names"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Something that a model can be trusted with, can be with care, or cannot."""

    trust: str
    """yes, care or no"""
    text: str


def verdicts(found: "Evaluation") -> list[Verdict]:
    """Return what a model can be trusted with by its figures; the edited model where there is one."""
    now = found.edited or found.base
    told = [
        Verdict(grade(now[name].mean), f"{text} ({now[name].mean:.0f}%)") for name, text in ASKED.items() if name in now
    ]
    for name, after in now.items():
        if name.startswith("task.") and found.edited:
            lost = found.base[name].mean - after.mean
            trust = "yes" if lost <= POINTS else "care" if after.low <= found.base[name].mean <= after.high else "no"
            told.append(Verdict(trust, f"{name.removeprefix('task.')}: {-lost:+.1f} points"))
    if found.edited and "perplexity" in now:
        rise = 100 * (now["perplexity"].mean / found.base["perplexity"].mean - 1)
        trust = "yes" if rise <= POINTS else "care" if rise <= 10 * POINTS else "no"
        told.append(Verdict(trust, f"text of other kinds: perplexity {rise:+.1f}%"))
    was = first(found.edited or {})
    for name in ("8bit", "4bit", "tuned"):
        kept = first(found.beside.get(name, {}))
        if was and was.mean and kept:
            share = 100 * kept.mean / was.mean
            what = "fine-tuning on other text" if name == "tuned" else f"quantisation to {name[0]} bits"
            told.append(
                Verdict(grade(share), f"keeping the edits through {what} ({share:.0f}% of what was said before)")
            )
    return told


def grade(percent: float) -> str:
    """Return how far a percentage can be trusted."""
    return "yes" if percent >= TRUSTED else "care" if percent >= CAREFUL else "no"


def first(side: Mapping[str, "Figure"]) -> "Figure | None":
    """Return the figure of the edited facts in the model's own words, else their recall."""
    return next((side[name] for name in ("said", "recall", "efficacy") if name in side), None)


def beside_told(found: "Evaluation") -> str:
    """Return in a sentence what telling the facts does in place of edits; "" where it was not asked."""
    named = {"retrieval": "told what a lexical retriever finds", "context": "told the fact itself"}
    parts = [
        f"{text}, the base model says {figure.mean:.0f}%"
        for name, text in named.items()
        if name in found.beside and (figure := first(found.beside[name]))
    ]
    now = first(found.edited) if found.edited else None
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


def eval_page(found: "Evaluation") -> str:
    """Return the page."""
    sides = {"base": found.base, **({"edited": found.edited} if found.edited else {}), **found.beside}
    pages = Environment(loader=PackageLoader("kbsync.report", "pages"), autoescape=select_autoescape(["html.j2"]))
    return pages.get_template("eval.html.j2").render(
        found=found,
        sides=sides,
        groups=grouped(list(dict.fromkeys(name for side in sides.values() for name in side))),
        about=found.about,
        verdicts=verdicts(found),
        told=beside_told(found),
        headings={"yes": "Can be trusted with", "care": "With care", "no": "Not to be trusted with"},
        version=__version__,
        made=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
