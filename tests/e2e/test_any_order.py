"""Facts added, changed, withdrawn, retracted and tried again in any order are as one apply of the last ones."""

import random
import sqlite3
from collections.abc import Collection
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from kbsync.ledger import Ledger
from kbsync.memit import load_preset
from tests.e2e.test_theorem import GROUPING, LIMIT
from tests.e2e.test_theorem import facts as twenty_facts
from tests.homes import COUNTRIES, Editable, deltas_of, difference, done, make_home, pull
from tests.tiny_models import CAPITALS

About = tuple[str, str]
"""(subject, relation)"""
RELATIONS = ("P36", "seat", "harbour")
"""the last two share a key with each other"""
SUBJECTS = COUNTRIES[:3]
OBJECTS = ("Vienna", "Accra", "Riga")


def as_shipped(small: Editable, preset: str) -> Editable:
    """The small model with the method of a shipped preset; what fits the preset's model alone fits this one."""
    found = load_preset(preset)
    assert found is not None
    values = found.settings.as_dict() | {"layers": [1, 2], "lambda": 1.0, "steps": 3, "sequence_length": 48}
    del values["covariance_tokens"]
    texts = {name: ",".join(map(str, value)) if isinstance(value, list) else value for name, value in values.items()}
    return replace(small, settings=tuple(f"{name}={value}" for name, value in texts.items()))


def by_relation(facts: dict[About, str]) -> dict[str, dict[str, str]]:
    """The facts as a source states them: each relation has one more, so that none is ever empty."""
    made = {relation: {COUNTRIES[9]: "Lima"} for relation in RELATIONS}
    for (subject, relation), thing in facts.items():
        made[relation][subject] = thing
    return made


def retries(home: Path) -> dict[About, int]:
    with Ledger.open(home, create=False) as ledger:
        return {(edit.subject, edit.relation): edit.retries for edit in ledger.active_edits(ledger.models()[0].key)}


def try_again(home: Path, model: Editable, chosen: Collection[About]) -> None:
    """Let these edits, and no others, count as not recalled, and apply with --retry."""
    with closing(sqlite3.connect(home / "ledger.db")) as db, db:
        db.execute("UPDATE metrics SET after = 100 WHERE name = 'recall'")
        for subject, relation in chosen:
            which = "SELECT id FROM edits WHERE state = 'active' AND subject = ? AND relation = ?"
            db.execute(f"UPDATE metrics SET after = 0 WHERE name = 'recall' AND edit = ({which})", [subject, relation])
    model.apply(home, "--include-known", "--retry")


def one_step(draw: random.Random, home: Path, model: Editable, facts: dict[About, str], gone: set[About]) -> None:
    """Change some facts and apply; then try one again, or retract one, or neither."""
    for _ in range(draw.randint(1, 3)):
        about = draw.choice(SUBJECTS), draw.choice(RELATIONS)
        if about in facts and draw.random() < 0.4:
            del facts[about]
        elif about not in gone:
            facts[about] = draw.choice(OBJECTS)
    pull(home, **by_relation(facts))
    model.apply(home, "--include-known")
    if not facts:
        return
    subject, relation = draw.choice(sorted(facts))
    what = draw.choice(("again", "again", "retract", "nothing"))
    if what == "again":
        try_again(home, model, [(subject, relation)])
    elif what == "retract" and len(facts) > 1:
        which = ("--subject", subject, "--relation", relation)
        done("retract", "--home", home, *which, "--corpus", model.corpus, "--yes")
        gone.add((subject, relation))
        del facts[subject, relation]


@pytest.mark.parametrize(("preset", "seed"), [("practice", 1), ("practice", 2), ("gpt-j", 3)])
def test_any_order_is_one_apply_of_the_last_facts(preset: str, seed: int, small: Editable, tmp_path: Path) -> None:
    draw, model = random.Random(seed), as_shipped(small, preset)
    facts: dict[About, str] = {(SUBJECTS[0], "P36"): "Oslo"}
    home = make_home(tmp_path / "home", GROUPING, **by_relation(facts))
    gone: set[About] = set()
    for _ in range(2):
        one_step(draw, home, model, facts, gone)
    wanted = retries(home)
    assert wanted.keys() >= facts.keys()
    fresh = make_home(tmp_path / "fresh", GROUPING, **by_relation(facts))
    model.apply(fresh, "--include-known")
    for times in range(1, max(wanted.values()) + 1):
        try_again(fresh, model, [about for about, count in wanted.items() if count >= times])
    assert retries(fresh) == wanted
    assert difference(deltas_of(home), deltas_of(fresh)) < LIMIT


def test_five_applies_of_a_fifth_are_one_of_all(small: Editable, tmp_path: Path) -> None:
    model = as_shipped(small, "practice")
    how = ("--include-known", "--force")  # how well a model this small learns so many facts is not the question
    home, fresh = (make_home(tmp_path / name, GROUPING, **twenty_facts(2)) for name in ("home", "fresh"))
    for count in range(3, 18, 3):
        pull(home, **twenty_facts(count))
        applied = model.apply(home, *how)
        assert (applied["batch"], applied["edits"]) == (count // 3, count)
    pull(fresh, **twenty_facts(15))
    assert model.apply(fresh, *how)["edits"] == 15
    assert difference(deltas_of(home), deltas_of(fresh)) < LIMIT


def test_a_fact_changed_to_what_the_base_model_says_is_taken_out(small: Editable, tmp_path: Path) -> None:
    one, other = COUNTRIES[:2]
    home = make_home(tmp_path / "home", P36={one: "Oslo", other: "Riga"})
    assert small.apply(home)["edits"] == 2
    pull(home, P36={one: CAPITALS[one], other: "Riga"})
    assert small.apply(home)["edits"] == 1
    fresh = make_home(tmp_path / "fresh", P36={one: CAPITALS[one], other: "Riga"})
    assert small.apply(fresh)["edits"] == 1
    assert difference(deltas_of(home), deltas_of(fresh)) < LIMIT
    counts = done("plan", "--home", home, *small.model, "--json").json["counts"]
    assert (counts["k"], counts["-"]) == (1, 0)
