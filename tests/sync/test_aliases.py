"""``pull --aliases``, from the source to an answer that counts."""

from pathlib import Path

from kbsync.ledger import Ledger
from kbsync.ledger.facts import aliases
from kbsync.sync.answers import probed_plan
from kbsync.sync.plan import plan_for
from tests.homes import COUNTRIES, Editable, done, make_home
from tests.tiny_models import CAPITALS

A, B = COUNTRIES[:2]
FACTS = f"""
- {{subject: {A}, relation: P36, object: The First City, object_id: "urn:first", object_aliases: [{CAPITALS[A]}]}}
- {{subject: {B}, relation: P36, object: The Second City, object_id: "urn:second", object_aliases: [Nowhere]}}
"""


def test_what_the_model_calls_by_an_alias_is_known(small: Editable, tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", P36={A: "x"})
    source = home / "facts.yaml"
    source.write_text(FACTS)
    (read,) = done("pull", "--home", home, "--source", source, "--relation", "P36", "--json").json["pulls"]
    assert read["aliases"] == 0
    assert {row.sign for row in probed_plan(home, small.name).rows} == {"+"}
    ran = done("pull", "--home", home, "--source", source, "--relation", "P36", "--aliases")
    assert "2 aliases read" in ran.out
    with Ledger.open(home) as ledger:
        assert aliases(ledger, ["urn:first", "urn:second"]) == {"urn:first": (CAPITALS[A],), "urn:second": ("Nowhere",)}
    # From what the ledger has already: the base model's answer was kept.
    assert {row.subject: row.sign for row in plan_for(home, small.name).rows} == {A: "+", B: "+"}
    assert {row.subject: row.sign for row in probed_plan(home, small.name).rows} == {A: "k", B: "+"}
    assert {row.subject: row.sign for row in plan_for(home, small.name).rows} == {A: "k", B: "+"}
    done("pull", "--home", home, "--source", source, "--relation", "P36")  # unasked, they stay
    assert {row.subject: row.sign for row in plan_for(home, small.name).rows} == {A: "k", B: "+"}
    applied = small.apply(home, "--include-known", "--set", "steps=1")
    assert applied["edits"] == 2
    assert {row["subject"] for row in applied["failed"]} <= {B}  # an alias is recalled
