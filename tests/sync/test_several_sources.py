"""Several sources of one project: witnesses, priorities, and a file that follows another one."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from kbsync.errors import SettingsError
from kbsync.project import read_project
from kbsync.sync.daily import pull_sources
from kbsync.sync.home import silent
from kbsync.sync.plan import PlanRow, plan_for
from tests.homes import done, kbsync, write_facts

TURTLE = """\
@prefix wd: <http://www.wikidata.org/entity/> . @prefix wdt: <http://www.wikidata.org/prop/direct/> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
wd:Q142 wdt:P36 wd:%s ; rdfs:label "France"@en . wd:%s rdfs:label "%s"@en .
"""


def project(folder: Path, *sources: Mapping[str, object]) -> Path:
    content = {"sources": [{"relations": ["P36"], **source} for source in sources]}
    (folder / "kbsync.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


def pulled(folder: Path, *sources: Mapping[str, object]) -> list[dict[str, int]]:
    """Pull a project of these sources; return what changed by source."""
    found = read_project(project(folder, *sources) / "kbsync.yaml")
    pulls = pull_sources(found, silent, accept_withdrawals=True)
    return [{"new": one.new, "changed": one.changed, "withdrawn": one.withdrawn} for one in pulls]


def row_of(folder: Path, subject: str) -> PlanRow:
    (row,) = [row for row in plan_for(folder / ".kbsync", None).rows if row.subject == subject]
    return row


def test_one_fact_with_two_witnesses(tmp_path: Path) -> None:
    write_facts(tmp_path / "a.yaml", P36={"France": "Paris", "Spain": "Madrid"})
    (tmp_path / "b.ttl").write_text(TURTLE % ("Q90", "Q90", "Paris"), encoding="utf-8")
    pulled(tmp_path, {"source": "a.yaml"}, {"source": "b.ttl"})
    row = row_of(tmp_path, "France")
    assert (row.sign, row.object, row.sources) == ("+", "Paris", ("a.yaml", "b.ttl"))
    assert row_of(tmp_path, "Spain").sources == ("a.yaml",)
    write_facts(tmp_path / "a.yaml", P36={"Spain": "Madrid"})
    pulled(tmp_path, {"source": "a.yaml"}, {"source": "b.ttl"})
    assert row_of(tmp_path, "France").sources == ("b.ttl",)  # the other witness still says so


def test_a_conflict_names_who_says_what(tmp_path: Path) -> None:
    write_facts(tmp_path / "a.yaml", P36={"France": "Paris"})
    write_facts(tmp_path / "b.yaml", P36={"France": "Lyon"})
    write_facts(tmp_path / "c.yaml", P36={"France": "Lyon"})
    pulled(tmp_path, {"source": "a.yaml"}, {"source": "b.yaml"}, {"source": "c.yaml"})
    row = row_of(tmp_path, "France")
    assert row.sign == "!"
    assert row.reason.endswith("Paris, Lyon (a.yaml: Paris; b.yaml: Lyon; c.yaml: Lyon)")
    assert row.sources == ("a.yaml", "b.yaml", "c.yaml")


def test_priorities_decide(tmp_path: Path) -> None:
    write_facts(tmp_path / "a.yaml", P36={"France": "Paris"})
    (tmp_path / "b.ttl").write_text(TURTLE % ("Q456", "Q456", "Lyon"), encoding="utf-8")
    write_facts(tmp_path / "c.yaml", P36={"France": "Nice"})
    plain, low = {"source": "a.yaml"}, {"source": "c.yaml", "priority": -1}
    pulled(tmp_path, plain, {"source": "b.ttl", "priority": 2}, low)
    row = row_of(tmp_path, "France")
    assert (row.sign, row.object, row.sources) == ("+", "Lyon", ("b.ttl",))
    (conflict,) = plan_for(tmp_path / ".kbsync", None).conflicts
    assert conflict.resolution == "priority of b.ttl: Lyon"
    pulled(tmp_path, plain, {"source": "b.ttl"}, low)  # those of one priority disagree; the lower one has no say
    assert row_of(tmp_path, "France").sign == "!"


def test_a_source_that_contradicts_itself_is_in_conflict_whatever_its_priority(tmp_path: Path) -> None:
    both = TURTLE % ("Q90", "Q90", "Paris") + TURTLE % ("Q33959", "Q33959", "Nice")
    (tmp_path / "a.ttl").write_text(both, encoding="utf-8")
    write_facts(tmp_path / "b.yaml", P36={"France": "Lyon"})
    pulled(tmp_path, {"source": "a.ttl", "priority": 1}, {"source": "b.yaml"})
    assert row_of(tmp_path, "France").sign == "!"


@pytest.mark.parametrize("kind", ["ttl", "nt"])
def test_a_file_follows_another_under_one_name(tmp_path: Path, kind: str) -> None:
    for name, thing in (("earlier", ("Q90", "Q90", "Paris")), ("later", ("Q456", "Q456", "Lyon"))):
        text = TURTLE % thing if kind == "ttl" else triples(*thing[1:])
        (tmp_path / f"{name}.{kind}").write_text(text, encoding="utf-8")
    assert pulled(tmp_path, {"name": "facts", "source": f"earlier.{kind}"})[0]["new"] == 1
    (counts,) = pulled(tmp_path, {"name": "facts", "source": f"later.{kind}"})
    assert counts == {"new": 0, "changed": 1, "withdrawn": 0}
    row = row_of(tmp_path, "France")
    assert (row.sign, row.object, row.sources) == ("+", "Lyon", ("facts",))


def triples(thing: str, label: str) -> str:
    """The same as N-Triples, of which only what changed is read again."""
    entity, name = "http://www.wikidata.org/entity/", "<http://www.w3.org/2000/01/rdf-schema#label>"
    return (
        f"<{entity}Q142> <http://www.wikidata.org/prop/direct/P36> <{entity}{thing}> .\n"
        f'<{entity}Q142> {name} "France"@en .\n<{entity}{thing}> {name} "{label}"@en .\n'
    )


def test_a_project_may_be_moved(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    write_facts(tmp_path / "here" / "a.yaml", P36={"France": "Paris"})
    pulled(tmp_path / "here", {"source": "a.yaml"})
    there = (tmp_path / "here").rename(tmp_path / "there")
    assert pulled(there, {"source": "a.yaml"}) == [{"new": 0, "changed": 0, "withdrawn": 0}]


def test_a_file_that_was_pulled_by_hand_is_the_same_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in README's first steps: `pull`, then `init` and `sync`, where the file has the name that is typed."""
    monkeypatch.chdir(tmp_path)
    write_facts(Path("facts.yaml"), P36={"France": "Paris", "Spain": "Madrid"})
    kbsync("pull", "--relation", "P36", "--source", "facts.yaml")
    assert pulled(Path(), {"source": "facts.yaml"}) == [{"new": 0, "changed": 0, "withdrawn": 0}]
    assert row_of(Path(), "France").sources == ("facts.yaml",)
    write_facts(Path("facts.yaml"), P36={"France": "Lyon"})
    assert pulled(Path(), {"source": "facts.yaml"}) == [{"new": 0, "changed": 1, "withdrawn": 1}]
    assert row_of(Path(), "France").object == "Lyon"


def test_one_name_for_two_files_is_refused(tmp_path: Path) -> None:
    sources = [{"name": "facts", "source": "a.yaml"}, {"name": "facts", "source": "b.yaml"}]
    with pytest.raises(SettingsError, match=r"kbsync.yaml:\d+: the name facts is taken by another source"):
        read_project(project(tmp_path, *sources) / "kbsync.yaml")


def test_a_source_that_is_taken_out_withdraws_what_it_alone_stated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_facts(tmp_path / "a.yaml", P36={"France": "Paris"}, P6={"France": "Ada"})
    write_facts(tmp_path / "b.yaml", P36={"France": "Paris", "Peru": "Lima"})
    write_facts(tmp_path / "c.yaml", P36={"France": "Paris"})
    all_three: list[dict[str, object]] = [
        {"source": "a.yaml", "relations": ["P36", "P6"]},
        {"source": "b.yaml"},
        {"source": "c.yaml"},
    ]
    project(tmp_path, *all_three)
    done("pull")
    project(tmp_path, {"source": "a.yaml"})
    ran = kbsync("pull")
    assert ran.code == 3
    # b.yaml alone stated one fact, which is too few to ask about; c.yaml nothing.
    assert "no longer among the sources: a.yaml (P6 1 of 1); " in ran.err
    assert {row.subject: row.sources for row in plan_for(tmp_path / ".kbsync", None, ["P36"]).rows} == {
        "France": ("a.yaml", "b.yaml", "c.yaml"),
        "Peru": ("b.yaml",),
    }
    done("pull", "--accept-withdrawals")
    (row,) = plan_for(tmp_path / ".kbsync", None).rows
    assert (row.subject, row.relation, row.sources) == ("France", "P36", ("a.yaml",))
    assert kbsync("pull").code == 0
    project(tmp_path, *all_three)
    done("pull")
    assert row_of(tmp_path, "Peru").sources == ("b.yaml",)  # named again, it counts again


def test_a_source_that_others_state_is_taken_out_without_a_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is where the very file was pulled by its path before there was a project."""
    monkeypatch.chdir(tmp_path)
    facts = write_facts(tmp_path / "a.yaml", P36={"France": "Paris"})
    done("pull", "--source", facts, "--relation", "P36")
    project(tmp_path, {"source": "a.yaml"})
    done("pull")
    assert row_of(tmp_path, "France").sources == ("a.yaml",)
