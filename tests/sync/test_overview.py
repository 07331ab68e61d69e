"""A plan at a glance, or row by row, is the plan: the same counts, the same rows, whatever the ledger holds."""

import random
from pathlib import Path
from typing import get_args

import pytest

from kbsync.conflicts import Policy
from kbsync.errors import ConflictError, LedgerError, SettingsError
from kbsync.facts import Entity, Fact
from kbsync.ledger import Ledger
from kbsync.ledger.facts import record_vetoes
from kbsync.sync.known import prompt_of
from kbsync.sync.plan import PlanRow, plan_for
from kbsync.sync.status import QUIET, SHOWN, diff_for, overview_for
from tests.ledger.helpers import apply, fact, model, new_edit, pull

# Prompts that become those of P36 ("The capital of {} is") with labels such as "capital of X".
ENTANGLED = "".join(
    f"P{number}:\n  label: l\n  prompt: '{prompt}'\n  question: 'Which {{}}?'\n  paraphrases:\n"
    + "".join(f"    - 'Way {number}{way} of {{}} is'\n" for way in range(4))
    for number, prompt in ((901, "The {} is"), (903, "The {} land is"))
)


def check(home: Path, *relations: str, policy: Policy = "out", include_known: bool = False) -> None:
    asked = (home, "practice", relations or None, policy, include_known)
    plan, glance = plan_for(*asked), overview_for(*asked)
    assert glance.model == plan.model
    assert glance.counts == plan.counts
    assert glance.in_sync == plan.in_sync
    assert glance.rows == tuple(row for row in plan.rows if row.sign not in QUIET)[:SHOWN]
    with diff_for(*asked, whole=True) as long:
        assert (long.model, long.counts, long.in_sync) == (plan.model, plan.counts, plan.in_sync)
        assert list(map(told, long.rows)) == list(map(told, plan.rows))


def told(row: PlanRow) -> tuple[str | None, ...]:
    return row.sign, row.subject, row.relation, row.object, row.previous, row.reason


def drawn_facts(relation: str, rng: random.Random, count: int) -> list[Fact]:
    """Facts with labels in common, several objects, other letter case, and entities without ids."""
    made = []
    for _ in range(count):
        number = rng.randrange(count)
        label = rng.choice([f"Place {number}", f"PLACE {number // 2}", f"Place  {number}"])
        subject = Entity(label, rng.choice([f"Q{number}", None]))
        thing = rng.randrange(9)
        made.append(Fact(subject, relation, Entity(f"Thing {thing}", rng.choice([f"Q9{thing}", None]))))
    return made


@pytest.mark.parametrize("seed", range(4))
def test_any_ledger(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    home = tmp_path / "home"
    with Ledger.open(home) as ledger:
        for relation in ("P36", "P17", "P999"):
            for source in ("s", "t"):
                pull(ledger, *drawn_facts(relation, rng, 60), relation=relation, source=source)
        key = model(ledger)
        rows = [row for row in plan_for(home, "practice").rows if row.sign == "+" and row.fact]
        apply(ledger, key, added=[new_edit(row.fact) for row in rng.sample(rows, 12) if row.fact])
        pull(ledger, *drawn_facts("P36", rng, 60))
        held = rng.sample(ledger.facts(["P36", "P17"], withdrawn=False), 6)
        record_vetoes(ledger, held[:3], any_object=True, reason=None)
        record_vetoes(ledger, held[3:], any_object=False, reason="mine")
        for row in rng.sample(rows, 8):
            if row.request:
                texts = [prompt_of(row.request), *(one.format(row.subject) for one in row.request.paraphrases)]
                ledger.record_answers(key, dict.fromkeys(texts, row.request.target))
    assert {"+", "k", "!", "?"} <= {row.sign for row in plan_for(home, "practice").rows}
    check(home)
    check(home, "P36")
    check(home, "P36", "P999")
    check(home, include_known=True)
    for policy in set(get_args(Policy)) - {"error"}:
        check(home, policy=policy)
    for read in (plan_for, overview_for):
        with pytest.raises(ConflictError):
            read(home, "practice", on_conflict="error")


def test_facts_of_two_relations_that_make_the_same_prompt(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "templates").mkdir(parents=True)
    (home / "templates" / "own.yaml").write_text(ENTANGLED)
    with Ledger.open(home) as ledger:
        pull(ledger, fact("Capital of Peru", "x", "P901"), fact("Sun", "y", "P901"), relation="P901")
        pull(ledger, fact("Peru", "z"), fact("Chad land", "z"), fact("Mali", "z"))
        pull(ledger, fact("capital of CHAD", "w", "P903"), fact("Moon", "w", "P903"), relation="P903")
    assert plan_for(home, "practice").counts["!"] == 2
    check(home)


def test_no_facts_and_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="run `kbsync pull` first"):
        overview_for(tmp_path / "home", "practice")
    with Ledger.open(tmp_path / "home"):
        pass
    check(tmp_path / "home")
    assert overview_for(tmp_path / "home", None).model == ""
    with pytest.raises(SettingsError, match="is not a relation id"):
        overview_for(tmp_path / "home", "practice", ["P17 } #"])
