"""What a source gives is the same whether it lies in memory or on disk: each fact once, sorted, the latest start."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbsync.errors import WriteError
from kbsync.facts import Entity, Fact, Wording
from kbsync.sources import file_facts as gathered
from kbsync.sources.file_facts import Gathered
from tests.fuzz import EACH

LABELS = st.sampled_from(["A", "a", "Ž", "\u91ce", "\U0001f600", "B\uffff", "B"])
ENTITIES = st.builds(Entity, LABELS, st.none() | st.sampled_from(["Q1", "Q2", "http://kb.example/1"]))
WORDINGS = st.none() | st.builds(Wording, st.just("{} is"), st.sampled_from([(), ("a {}", "b {}")]))
FACTS = st.builds(
    Fact, ENTITIES, st.just("P36"), ENTITIES, st.just("normal"), st.none() | st.just("2020-01-01"), WORDINGS
)


@EACH
@given(facts=st.lists(FACTS, max_size=30), most=st.integers(0, 4))
def test_on_disk_as_in_memory(facts: list[Fact], most: int) -> None:
    held = Gathered(facts)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(gathered, "MOST", most)
        spilled = Gathered()
        for fact in facts:
            spilled.add([fact])
        assert list(spilled) == list(held)
        assert len(spilled) == len(held) == len({(fact.subject.key, fact.object.key) for fact in facts})
        assert bool(spilled) == bool(held) == bool(facts)
        assert list(spilled) == list(held)  # again
    keys = [(fact.subject.label, fact.subject.id or "", fact.object.label, fact.object.id or "") for fact in held]
    assert keys == sorted(keys)
    for fact in held:
        same = [one for one in facts if (one.subject.key, one.object.key) == (fact.subject.key, fact.object.key)]
        assert fact == max(reversed(same), key=lambda one: one.since or "")  # the last of those with the latest start


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gathered, "MOST", 0)
    fact = Fact(Entity("A" * 200), "P36", Entity("B"))
    spilled = Gathered([fact])
    assert spilled._rest is not None
    spilled._rest.execute("PRAGMA max_page_count = 3")
    with pytest.raises(WriteError, match="full"):
        spilled.add(replace(fact, object=Entity(str(number))) for number in range(500))
