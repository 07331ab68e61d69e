"""Several edits for each subject, and as many single ones."""

from collections import Counter
from collections.abc import Sequence

from kbsync.benchmarks.bench import Pool
from kbsync.benchmarks.groups import group_edits, new_relations, single_edits
from kbsync.facts import EditRequest
from kbsync.metrics import Case

RELATIONS = ("P1", "P2", "P3", "P4")
SUBJECTS = tuple("ABCDEFGH")
KNOWN = [
    EditRequest(relation, subject, f"The {relation} of {{}} is", f"{relation} {number % 3}")
    for number, subject in enumerate(SUBJECTS)
    for relation in RELATIONS[: 3 if subject < "E" else 1]
] + [EditRequest("P4", "Z", "The P4 of {} is", "P4 0"), EditRequest("P4", "Y", "The P4 of {} is", "P4 1")]

POOL = Pool("tests", KNOWN)


def answers(prompts: Sequence[str]) -> list[str]:
    """What a base model might say."""
    return ["P4 0" if "P4" in prompt else "nothing" for prompt in prompts]


def draw(objects: int, subjects: int, seed: int = 0) -> list[Case]:
    return group_edits(POOL, objects, subjects, answers, seed)


def per_subject(edits: Sequence[Case]) -> Counter[str]:
    return Counter(edit.request.subject for edit in edits)


def test_each_subject_gets_as_many_new_objects_of_its_own_relations() -> None:
    old = {(fact.relation, fact.subject): fact.target for fact in KNOWN}
    for objects in (1, 2, 3):
        edits = draw(objects, 3)
        assert list(per_subject(edits).values()) == [objects] * 3
        assert new_relations(POOL, edits) == 0
        assert len({(edit.request.relation, edit.request.subject) for edit in edits}) == len(edits)
        assert all(edit.old == old[edit.request.relation, edit.request.subject] for edit in edits)
        assert all(edit.request.target != edit.old for edit in edits)


def test_the_seed_decides_and_the_order_of_facts_does_not() -> None:
    assert draw(2, 3) == group_edits(Pool("tests", KNOWN[::-1]), 2, 3, answers)
    assert draw(2, 3) != draw(2, 3, seed=1)


def test_where_no_subject_has_enough_those_with_the_most_get_relations_new_to_them() -> None:
    edits = draw(4, 3)
    assert list(per_subject(edits).values()) == [4] * 3
    assert per_subject(edits).keys() < set("ABCD")  # E to H have one fact only
    added = [edit for edit in edits if edit.request.relation == "P4"]
    assert new_relations(POOL, edits) == len(added) == 3
    for edit in added:
        assert (edit.old, edit.request.target) == ("P4 0", "P4 1")  # not what the base says already
        assert edit.request.prompt == "The P4 of {} is"


def test_single_edits_are_of_the_same_relations_and_of_a_subject_each() -> None:
    like = draw(2, 4)
    single = single_edits(POOL, like)
    assert set(per_subject(single).values()) == {1}
    assert len(single) == len(like) == 8
    few = draw(1, 4)
    wanted = Counter(edit.request.relation for edit in few)
    assert Counter(edit.request.relation for edit in single_edits(POOL, few)) == wanted
    assert len(single_edits(POOL, draw(3, 8))) == len({fact.subject for fact in KNOWN})
