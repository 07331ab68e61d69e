"""The page of an evaluation: what it says in words, and that all of it is there."""

from collections.abc import Callable
from typing import Any

import pytest

from kbsync.metrics import ABOUT, Figure
from kbsync.report.evaluate import ASKED, Verdict, eval_page, grouped, verdicts


def figure(mean: float, half: float = 1.0) -> Figure:
    return Figure(mean, mean - half, mean + half, 10)


BASE = {"said": figure(0), "kept_others": figure(100), "perplexity": figure(40), "task.arc.acc": figure(50)}
BASE |= {"calibration_error": figure(20)}
EDITED = {
    **{"said": figure(95), "said_question": figure(70), "ripple_inverse": figure(10), "kept_others": figure(90)},
    **{"perplexity": figure(42), "task.arc.acc": figure(48, 3), "calibration_error": figure(30)},
}


@pytest.fixture
def evaluation() -> Callable[..., dict[str, Any]]:
    def make(**values: object) -> dict[str, Any]:
        rows = ({"prompt": "P's <b>", "base": "x", "edited": "y"},)
        given = {
            "model": "tiny",
            "measured": "ledger",
            "cases": 10,
            "sampled": False,
            "unplaced": 0,
            "unmeasured": (),
            "base": BASE,
            "edited": EDITED,
            "beside": {"retrieval": {"said": figure(88)}, "4bit": {"said": figure(57)}},
            "reversal": {"withdrawn": 1, "figures": {"base": {"kl_withdrawn": figure(0)}}, "answers": rows},
            "calibration": {"edited": [{"low": 80, "high": 100, "answers": 3, "sure": 91, "right": 33}]},
            "relations": {"P36": {"cases": 10, "base": BASE, "edited": EDITED}},
            "batch": 3,
            "lower": ("perplexity",),
            "about": {name: one.text for name, one in ABOUT.items()},
            "text": None,
            "references": None,
        }
        return given | values

    return make


def test_what_it_can_be_trusted_with(evaluation: Callable[..., dict[str, Any]]) -> None:
    assert list(verdicts(evaluation())) == [
        Verdict("yes", f"{ASKED['said']} (95%)"),
        Verdict("care", f"{ASKED['said_question']} (70%)"),
        Verdict("no", f"{ASKED['ripple_inverse']} (10%)"),
        Verdict("yes", f"{ASKED['kept_others']} (90%)"),
        Verdict("care", "arc.acc: -2.0 points"),
        Verdict("care", "text of other kinds: perplexity +5.0%"),
        Verdict("care", "keeping the edits through quantisation to 4 bits (60% of what was said before)"),
    ]


def test_the_page_has_it_all(evaluation: Callable[..., dict[str, Any]]) -> None:
    page = eval_page(evaluation())
    for text in (
        "Not to be trusted with",
        "The edited model says 95% of the edited facts; told what a lexical retriever finds, the base model says 88%.",
        "<h2>General ability</h2>",
        "91% sure, 33% right (3).",
        "1 edits taken out again",
        "P&#39;s &lt;b&gt;",
        "<summary>P36, 10 cases</summary>",
        "(lower is better)",
        "on record with batch 3",
        "94.0 to 96.0",
    ):
        assert text in page
    assert "http" not in page.replace("http-equiv", "")
    assert "drawn by the seed" not in page
    assert "10 cases were drawn by the seed" in eval_page(evaluation(sampled=True))


def test_the_base_alone(evaluation: Callable[..., dict[str, Any]]) -> None:
    page = eval_page(evaluation(edited=None, beside={}, reversal=None, calibration={}, batch=None))
    assert "taken out again" not in page
    assert "<rect" not in page
    assert "only the base model was measured" in page


def test_every_figure_is_under_a_heading() -> None:
    names = ["said", "ripple_alias", "kl_others", "NS", "task.arc.acc", "calibration_error", "GE"]
    assert grouped(names) == {
        "The edited facts": ["said"],
        "What follows from them": ["ripple_alias"],
        "What is to stay": ["kl_others", "NS"],
        "General ability": ["task.arc.acc"],
        "What it is sure of, and what is right": ["calibration_error"],
        "Other figures": ["GE"],
    }
    assert ASKED.keys() <= ABOUT.keys()
