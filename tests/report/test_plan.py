"""How plan, status, apply, answers and the demo are shown."""

import io
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType

from kbsync.ledger import BatchRow
from kbsync.models import Answer
from kbsync.report.apply import applied_view, cost_view, plan_json, plan_view, status_json, status_view
from kbsync.report.console import Parts, stacked, to_plain
from kbsync.report.evaluate import asked_view
from kbsync.report.pull import demo_view
from kbsync.sync.guards import Cost
from kbsync.sync.plan import Plan, PlanRow, Sign
from kbsync.sync.pull import Changes, Pulled

FIGURES: dict[str, dict[str, float | None]] = {
    "ES": {"before": 0.0, "after": 97.256},
    "NS": {"before": None, "after": 90.0},
}


def drawn(view: RenderableType | Parts) -> str:
    out = io.StringIO()
    Console(file=out, width=160).print(stacked(view))
    return "\n".join(" ".join(line.split()) for line in out.getvalue().splitlines())


def row(
    sign: Sign, subject: str, thing: str | None = "Oslo", previous: str | None = None, reason: str = "new"
) -> PlanRow:
    return PlanRow(sign, subject, "P36", thing, previous, reason)


def applied(batch: int | None = 3, failed: int = 0) -> dict[str, Any]:
    known = {"relation": "P36", "object": "Oslo", "probability": 0.0123, "rival": "Riga", "rival_probability": 0.875}
    counts: dict[str, Any] = {"batch": batch, "edits": 7, "optimised": 5, "from_cache": 2, "left": {}}
    taken = {"metrics": FIGURES, "seconds": {"targets": 1.25, "total": 2.0}, "peak_memory_mb": 512.4}
    return {**counts, **taken, "failed": [{"subject": f"Land {n}", **known} for n in range(failed)]}


def status(plan: Plan) -> dict[str, Any]:
    started = "2025-06-01T12:00:00+00:00"
    batch = BatchRow(3, "model:1", "memit", {}, started, "2025-06-01T12:01:00", "done", None, "cpu", {}, None, {})
    return {"plan": plan, "batch": batch, "metrics": FIGURES, "notes": []}


PLAN = Plan(
    "practice", (row("+", "France"), row("~", "Peru", "Lima", "Riga", "changed"), row("=", "Kenya"), row("k", "Cuba"))
)


def test_a_plan_counts_each_sign_and_lists_what_is_to_be_done() -> None:
    text = drawn(plan_view(PLAN)).splitlines()
    assert text[0] == "practice"
    assert "+ 1 new in the knowledge base, to be edited" in text
    assert "k 1 the base model knows it already" in text
    assert "+ P36 France Oslo new" in text
    assert "~ P36 Peru Riga Lima changed" in text
    assert not any("Kenya" in line or "Cuba" in line or line.startswith("!") for line in text)
    assert "in sync" not in text


def test_many_rows_are_cut_and_told() -> None:
    text = drawn(plan_view(Plan("practice", tuple(row("+", f"Land {n}.") for n in range(50)))))
    assert "Land 39." in text
    assert "Land 40." not in text
    assert "and 10 more (--json lists all)" in text


def test_in_sync_and_nothing_pulled() -> None:
    assert drawn(plan_view(Plan("practice", (row("=", "Kenya"),)))).endswith("in sync")
    text = drawn(plan_view(Plan("practice", ())))
    assert "no facts: run `kbsync pull` first" in text
    assert "in sync" not in text


def test_json_of_plan_and_status_is_the_contract() -> None:
    made = to_plain(plan_json(PLAN))
    assert isinstance(made, dict)
    assert list(made) == ["model", "counts", "facts", "metrics"]
    assert made["counts"] == {"+": 1, "~": 1, "-": 0, "=": 1, "k": 1, "!": 0, "?": 0, "x": 0}
    assert made["facts"][1] == {
        "sign": "~", "subject": "Peru", "relation": "P36", "object": "Lima", "previous": "Riga", "reason": "changed",
        "sources": [],
    }  # fmt: skip
    assert made["metrics"] == {}
    assert to_plain(status_json(status(PLAN))) == {**made, "metrics": FIGURES, "notes": []}


def test_status_adds_the_figures_of_the_batch() -> None:
    text = drawn(status_view(status(PLAN))).splitlines()
    assert "batch 3, 2025-06-01T12:01:00" in " ".join(text)  # a narrow table folds its title
    assert "ES 0.00 97.26" in text
    assert "NS 90.00" in text
    assert "figure" not in drawn(status_view({"plan": PLAN, "batch": None, "metrics": {}, "notes": []}))


def test_an_apply_shows_figures_time_and_what_is_not_recalled() -> None:
    text = drawn(applied_view(applied(failed=12)))
    assert "batch 3: 7 edits active" in text
    assert "ES 0.00 97.26" in text
    assert "5 targets optimised, 2 from the cache" in text
    assert "seconds: targets 1.2, total 2.0" in text
    assert "peak memory: 512 MB" in text
    assert "not recalled: 12" in text
    assert ("P36 Land 9 Oslo 1.2 Riga 88" in text, "Land 10" in text) == (True, False)
    assert "not recalled" not in drawn(applied_view(applied()))
    assert drawn(applied_view(applied(batch=None))) == "in sync: nothing to do, 7 edits are active"
    left = applied(batch=None) | {"left": {"?": 1, "!": 2}}
    told = " ".join(drawn(applied_view(left)).split())
    assert told.startswith("nothing to apply; what is left: 1 without a template")
    assert "2 kept out (in conflict" in told
    assert told.endswith("7 edits are active")


def test_what_an_apply_will_do_is_told_before() -> None:
    seconds = {"targets": 8.25, "keys": 2.0, "solve": 1.0, "measure": 0.5, "total": 11.75}
    again = {"edits": 3, "steps": 80, "clamp_norm_factor": 1.725}
    text = drawn(cost_view(Cost(610, 10, 600, 10, again=(again,), seconds=seconds)))
    assert "to do: 10 targets to optimise, 600 from the cache; 610 edits" in text
    assert "again: 3 edits, with 80 steps and a clamp of 1.725" in text
    assert "time: about 12 s at the pace of earlier batches (targets 8.2, keys 2.0, solve 1.0, measure 0.5)" in text
    assert "there is no earlier batch on this device" in drawn(cost_view(Cost(1, 1, 0, 1)))


def test_answers_stand_side_by_side() -> None:
    base = (Answer("Paris", 0.875), Answer("Lyon", 0.1))
    text = drawn(
        asked_view({"answers": [{"prompt": "The capital of France is", "base": base, "edited": [Answer("Oslo", 0.5)]}]})
    ).splitlines()
    assert text[0] == "The capital of France is"
    assert "base % edited %" in text
    assert "Paris 87.5 Oslo 50.0" in text
    assert "Lyon 10.0" in text
    alone = drawn(asked_view({"answers": [{"prompt": "The capital of France is", "base": base, "edited": None}]}))
    assert "edited" not in alone


def test_the_demo_tells_all_six_steps() -> None:
    pulled = Pulled(1, "http://127.0.0.1/query", "P36", "capital", 2, 0, 0, 0, 0, 0, 0, (), Changes(Path(), 1))
    said = [
        ("Peru's capital is", "Riga", "Lima", "Riga", "Lima", True),
        ("Norway's capital is", "Bergen", "Oslo", "Oslo", "Oslo", False),
    ]
    keys = ("prompt", "base", "edited", "after", "wanted", "withdrawn")
    answers = [dict(zip(keys, one, strict=True)) for one in said]
    story = {"pulls": [pulled], "plan": PLAN, "applied": applied(), "status": status(PLAN)}
    text = drawn(demo_view({**story, "answers": answers, "withdrawn": "Peru"}))
    steps = [
        text.index(f"{number}. kbsync {name}:")
        for number, name in enumerate(("pull", "plan", "apply", "status", "ask", "retract"), 1)
    ]
    assert steps == sorted(steps)
    assert text.count("Peru's capital is Riga Lima") == 2
    assert "Peru's capital is Riga Lima Riga" in text[steps[-1] :]
    assert "Norway" not in text[steps[-1] :]
