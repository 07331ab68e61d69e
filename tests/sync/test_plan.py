"""The signs of a plan: this table is their specification. Facts and edits lie in a real ledger."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from kbsync.conflicts import Policy
from kbsync.errors import ConflictError, LedgerError, SettingsError
from kbsync.facts import Fact, Wording
from kbsync.ledger import Ledger
from kbsync.ledger.edits import start_batch
from kbsync.sync.edits import new_edit
from kbsync.sync.known import begins_with, prompt_of
from kbsync.sync.plan import Plan, known_facts, plan_for
from kbsync.sync.relations import relations_for
from kbsync.sync.status import overview_for
from tests.ledger.helpers import fact, finish, model, pull

Row = tuple[str, str, str | None, str | None]
"""sign, subject, object, previous object"""


@dataclass(frozen=True)
class Case:
    """Facts that were pulled and applied, what the sources say now, and the plan's rows; by source."""

    name: str
    applied: dict[str, list[Fact]]
    now: dict[str, list[Fact]]
    rows: list[Row]
    policy: Policy = "out"


PARIS, LYON = fact("Q142/France", "Q90/Paris"), fact("Q142/France", "Q456/Lyon")
BARE = fact("France", "Paris")

CASES = [
    Case("new", {}, {"s": [PARIS]}, [("+", "France", "Paris", None)]),
    Case("applied and unchanged", {"s": [PARIS]}, {"s": [PARIS]}, [("=", "France", "Paris", "Paris")]),
    Case("changed", {"s": [PARIS]}, {"s": [LYON]}, [("~", "France", "Lyon", "Paris")]),
    Case("withdrawn", {"s": [PARIS]}, {"s": []}, [("-", "France", None, "Paris")]),
    Case("withdrawn, never applied", {}, {"s": []}, []),
    Case(
        "the subject's label has changed",
        {"s": [PARIS]},
        {"s": [fact("Q142/French Republic", "Q90/Paris")]},
        [("~", "French Republic", "Paris", "Paris")],
    ),
    Case(
        "the object's label has changed",
        {"s": [PARIS]},
        {"s": [fact("Q142/France", "Q90/Lutetia")]},
        [("~", "France", "Lutetia", "Paris")],
    ),
    Case(
        "the object has got an id",
        {"s": [fact("Q142/France", "Paris")]},
        {"s": [PARIS]},
        [("=", "France", "Paris", "Paris")],
    ),
    Case(
        "the object is another one of the same label",
        {"s": [PARIS]},
        {"s": [fact("Q142/France", "Q830149/Paris")]},
        [("=", "France", "Paris", "Paris")],
    ),
    Case("in conflict", {}, {"s": [PARIS, LYON]}, [("!", "France", "Paris | Lyon", None)]),
    Case(
        "in conflict with what was applied",
        {"s": [PARIS]},
        {"s": [PARIS, LYON]},
        [("!", "France", "Paris | Lyon", "Paris")],
    ),
    Case("two sources in conflict", {}, {"s": [PARIS], "t": [LYON]}, [("!", "France", "Paris | Lyon", None)]),
    Case(
        "two ids that share a label",
        {},
        {"s": [PARIS, fact("Q70972/France", "Q456/Lyon")]},
        [("!", "France", "Paris | Lyon", None)],
    ),
    Case("two sources that agree", {}, {"s": [PARIS], "t": [PARIS]}, [("+", "France", "Paris", None)]),
    Case("bare label and id say the same", {}, {"s": [BARE], "t": [PARIS]}, [("+", "France", "Paris", None)]),
    Case(
        "applied by bare label, then an id",
        {"s": [BARE]},
        {"s": [BARE], "t": [PARIS]},
        [("=", "France", "Paris", "Paris")],
    ),
    Case(
        "applied by id, then a bare label",
        {"s": [PARIS]},
        {"s": [PARIS], "t": [BARE]},
        [("=", "France", "Paris", "Paris")],
    ),
    Case("first", {}, {"s": [PARIS, LYON]}, [("+", "France", "Paris", None)], "first"),
    Case(
        "latest",
        {},
        {
            "s": [
                fact("Q142/France", "Q90/Paris", since="1944-08-25"),
                fact("Q142/France", "Q456/Lyon", since="2025-01-01"),
            ]
        },
        [("+", "France", "Lyon", None)],
        "latest",
    ),
    Case("latest, but neither has a date", {}, {"s": [PARIS, LYON]}, [("!", "France", "Paris | Lyon", None)], "latest"),
    Case("first, applied before", {"s": [PARIS]}, {"s": [PARIS, LYON]}, [("=", "France", "Paris", "Paris")], "first"),
    Case(
        "latest, the other one was applied",
        {"s": [PARIS]},
        {"s": [PARIS], "t": [fact("Q142/France", "Q456/Lyon", since="2025-01-01")]},
        [("~", "France", "Lyon", "Paris")],
        "latest",
    ),
    Case(
        "latest, the other one was applied by its bare label",
        {"s": [BARE]},
        {"s": [BARE], "t": [fact("Q142/France", "Q456/Lyon", since="2025-01-01")]},
        [("~", "France", "Lyon", "Paris")],
        "latest",
    ),
    Case(
        "latest, and two ids that were applied now share a label",
        {"s": [PARIS, fact("Q70972/Isle of France", "Q456/Lyon")]},
        {"s": [PARIS, fact("Q70972/France", "Q456/Lyon", since="2025-01-01")]},
        [("~", "France", "Lyon", "Lyon"), ("-", "France", None, "Paris")],
        "latest",
    ),
    Case(
        "two ids that were applied now share a label",
        {"s": [PARIS, fact("Q70972/Isle of France", "Q456/Lyon")]},
        {"s": [PARIS, fact("Q70972/France", "Q456/Lyon")]},
        [("!", "France", "Paris | Lyon", "Paris")],
    ),
    Case(
        "what was applied by two names is one thing now",
        {"s": [BARE], "t": [fact("Q142/Gaul", "Q90/Paris")]},
        {"s": [BARE], "t": [PARIS]},
        [("-", "Gaul", None, "Paris"), ("=", "France", "Paris", "Paris")],
    ),
]


def pull_all(ledger: Ledger, sources: dict[str, list[Fact]]) -> None:
    for source, facts in sources.items():
        pull(ledger, *facts, source=source)


def apply_all(ledger: Ledger, plan: Plan) -> None:
    """Record the plan's new facts as edits of the model "practice", as an apply does."""
    key = model(ledger)
    with ledger.writer("apply"):
        added = plan.having("+")
        ledger.record_targets(key, "z.safetensors", [("target1:x", 0, 1, 0.1)])
        keys = {row.request.id: "target1:x" for row in added if row.request}
        finish(ledger, start_batch(ledger, key, "memit", {}, "cpu"), added=[new_edit(row, keys) for row in added])


def rows_of(plan: Plan) -> list[Row]:
    return [(row.sign, row.subject, row.object, row.previous) for row in plan.rows]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_signs(case: Case, home: Path) -> None:
    with Ledger.open(home) as ledger:
        pull_all(ledger, case.applied)
        if case.applied:
            apply_all(ledger, plan_for(home, "practice"))
        pull_all(ledger, case.now)
    plan = plan_for(home, "practice", on_conflict=case.policy)
    assert rows_of(plan) == case.rows
    assert plan.counts == {sign: sum(row[0] == sign for row in case.rows) for sign in "+~-=k!?x"}
    assert plan.in_sync == all(row[0] in "=k!?" for row in case.rows)
    assert all(row.reason for row in plan.rows)


def test_error_policy_refuses_and_names_the_conflict(home: Path) -> None:
    with Ledger.open(home) as ledger:
        pull(ledger, PARIS, LYON)
    with pytest.raises(ConflictError, match=r"1 conflict: P36: France has 2 objects for P36: Paris, Lyon"):
        plan_for(home, "practice", on_conflict="error")


def test_a_relation_without_template(home: Path) -> None:
    with Ledger.open(home) as ledger:
        pull(ledger, fact("Ada", "Babbage", "works_with"), relation="works_with")
    (row,) = plan_for(home, "practice").rows
    assert (row.sign, row.request) == ("?", None)
    assert "works_with has no template: write one into templates/" in row.reason


def test_a_changed_template_is_a_change(home: Path) -> None:
    with Ledger.open(home) as ledger:
        pull(ledger, PARIS)
        apply_all(ledger, plan_for(home, "practice"))
    (home / "templates").mkdir()
    wordings = "".join(f'    - "Wording {letter} of {{}}\'s seat is"\n' for letter in "ABCDE")
    (home / "templates" / "own.yaml").write_text(
        f"P36:\n  label: seat\n  prompt: The seat of {{}} is\n  paraphrases:\n{wordings}"
        "  question: Where is {}'s seat?\n"
    )
    (row,) = plan_for(home, "practice").rows
    assert (row.sign, row.reason) == ("~", "its template has changed")
    assert row.request is not None
    assert row.request.prompt == "The seat of {} is"


def test_a_relation_filter_leaves_others_alone(home: Path) -> None:
    with Ledger.open(home) as ledger:
        pull(ledger, PARIS)
        pull(ledger, fact("Q142/France", "Q46/Europe", "P30"), relation="P30")
        apply_all(ledger, plan_for(home, "practice"))
        pull(ledger, relation="P36")
        pull(ledger, relation="P30")
    assert rows_of(plan_for(home, "practice", ["P36"])) == [("-", "France", None, "Paris")]
    assert plan_for(home, "practice", ["P17"]).rows == ()
    assert len(plan_for(home, "practice").rows) == 2


def test_another_model_has_its_own_edits(home: Path) -> None:
    with Ledger.open(home) as ledger:
        pull(ledger, PARIS)
        apply_all(ledger, plan_for(home, "practice"))
    assert rows_of(plan_for(home, "gpt-j")) == [("+", "France", "Paris", None)]
    assert plan_for(home, None).model == "practice"


def said(plan: Plan, wordings: Sequence[str]) -> dict[str, str]:
    """Paris, as an answer to the edit prompt and to these paraphrases of the first row."""
    request = plan.rows[0].request
    assert request is not None
    return dict.fromkeys((prompt_of(request), *(text.format("France") for text in wordings)), "Paris")


def test_what_the_base_model_says_makes_a_fact_known(home: Path) -> None:
    with Ledger.open(home) as ledger:
        pull(ledger, PARIS)
        key = model(ledger)
        plan = plan_for(home, "practice")
        assert plan.rows[0].sign == "+"
        assert plan.rows[0].request is not None
        paraphrases = plan.rows[0].request.paraphrases
        half = len(paraphrases) // 2
        ledger.record_answers(key, said(plan, paraphrases[:half]))
        assert plan_for(home, "practice").rows[0].sign == "+"  # not most paraphrases
        ledger.record_answers(key, said(plan, paraphrases[: half + 1]))
        assert plan_for(home, "practice").rows[0].sign == "k"
        assert plan_for(home, "practice", include_known=True).rows[0].sign == "+"


def test_a_fact_whose_own_wording_has_no_paraphrase_is_known_by_its_prompt(home: Path) -> None:
    paris = replace(PARIS, wording=Wording("The town that governs {} is"))
    with Ledger.open(home) as ledger:
        pull(ledger, paris)
        key = model(ledger)
        plan = plan_for(home, "practice")
        assert plan.rows[0].request is not None
        ledger.record_answers(key, {prompt_of(plan.rows[0].request): "Lyon"})
        assert plan_for(home, "practice").rows[0].sign == "+"
        ledger.record_answers(key, said(plan, ()))
        assert plan_for(home, "practice").rows[0].sign == "k"
        assert overview_for(home, "practice").counts["k"] == 1
        (row,) = (row for row in relations_for(home)["relations"] if row["facts"])
        assert (row["asked"], row["known"]) == (1, 100)


def test_only_new_facts_can_be_known(home: Path) -> None:
    with Ledger.open(home) as ledger:
        pull(ledger, PARIS)
        apply_all(ledger, plan_for(home, "practice"))
    plan = plan_for(home, "practice")
    assert known_facts(plan, lambda prompts: dict.fromkeys(prompts, "Paris")).rows[0].sign == "="


@pytest.mark.parametrize(
    ("answer", "label", "wanted"),
    [
        ("Paris", "Paris", True),
        ("paris, of course", "Paris", True),
        ("Parisian", "Paris", False),
        ("The Hague", "Hague", False),
        ("", "Paris", False),
        ("New  York City", "New York", True),
    ],
)
def test_an_answer_begins_with_a_label_as_a_whole_word(answer: str, label: str, wanted: bool) -> None:
    assert begins_with(answer, label) is wanted


def test_what_cannot_be_planned(home: Path) -> None:
    with pytest.raises(LedgerError, match=r"no ledger in .*home: run `kbsync pull` first"):
        plan_for(home, "practice")
    assert not home.exists()
    with Ledger.open(home) as ledger:
        pull(ledger, PARIS)
    plan = plan_for(home, None)
    assert (plan.model, plan.counts["+"]) == ("", 1)
    with pytest.raises(SettingsError, match="is not a relation id"):
        plan_for(home, "practice", ["P17 } #"])
