"""Which statements contradict each other (Eqn. 5), and what each policy does about it: `CASES` is the spec."""

import dataclasses
import random

import pytest

from kbsync.conflicts import Policy, Statement, settle
from kbsync.errors import ConflictError
from kbsync.facts import Entity, Fact

# "Q1/Label" has an id, "Label" has none.


def entity(text: str) -> Entity:
    id_, slash, label = text.partition("/")
    return Entity(label, id_) if slash else Entity(text)


def statements(*rows: tuple[str, ...], prompts: bool = True) -> list[Statement]:
    """(subject, relation, object[, since]) in order; the prompt is the relation and the subject's label."""
    made = []
    for place, (subject, relation, object_, *since) in enumerate(rows):
        fact = Fact(entity(subject), relation, entity(object_), since=since[0] if since else None)
        prompt = f"The {relation} of {fact.subject.label} is" if prompts else None
        made.append(Statement(fact, prompt, place, 100 + place))
    return made


# name: (statements, kept by place, kind of each conflict)
CASES: dict[str, tuple[list[Statement], list[int], list[str]]] = {
    "nothing": ([], [], []),
    "one": (statements(("Q142/France", "P36", "Q90/Paris")), [0], []),
    "two subjects": (statements(("Q142/France", "P36", "Q90/Paris"), ("Q38/Italy", "P36", "Q220/Rome")), [0, 1], []),
    "two relations": (
        statements(("Q142/France", "P36", "Q90/Paris"), ("Q142/France", "P37", "Q150/French")),
        [0, 1],
        [],
    ),
    "two objects": (
        statements(
            ("Q142/France", "P36", "Q90/Paris"), ("Q142/France", "P36", "Q456/Lyon"), ("Q38/Italy", "P36", "Rome")
        ),
        [2],
        ["objects"],
    ),
    "three objects": (statements(("A", "P36", "x"), ("A", "P36", "y"), ("A", "P36", "z")), [], ["objects"]),
    "labels decide without ids": (statements(("France", "P36", "Paris"), ("France", "P36", "Lyon")), [], ["objects"]),
    "labels fold case and spaces": (
        statements(("france ", "P36", "Paris"), ("FRANCE", "P36", "Lyon")),
        [],
        ["objects"],
    ),
    "labels fold Unicode form": (statements(("Sa\u0303o", "P36", "x"), ("S\u00e3o", "P36", "y")), [], ["objects"]),
    "invisible marks make no other subject": (
        statements(("Bern", "P6", "x"), ("Bern\u200e", "P6", "y")),
        [],
        ["objects"],
    ),
    "invisible marks make no other object": (statements(("Bern", "P6", "x"), ("Bern\u200e", "P6", "\u2060x")), [0], []),
    "same object of two sources": (statements(("Q1/A", "P36", "Q2/x"), ("Q1/A", "P36", "Q2/x")), [0], []),
    "same object, two labels": (statements(("Q1/A", "P36", "Q2/x"), ("Q1/A", "P36", "Q2/ex")), [0], []),
    "same object with and without an id": (statements(("Q1/A", "P36", "Q2/x"), ("Q1/A", "P36", "X")), [0], []),
    "two ids of objects, one label": (statements(("Q1/A", "P36", "Q2/x"), ("Q1/A", "P36", "Q3/x")), [], ["objects"]),
    "two ids share a label": (
        statements(("Q1/Springfield", "P131", "Q5/Illinois"), ("Q2/Springfield", "P131", "Q6/Ohio")),
        [],
        ["prompt"],
    ),
    "two ids share a label and the target": (statements(("Q1/A", "P17", "Q3/x"), ("Q2/A", "P17", "Q3/x")), [0], []),
    "two ids share a label, the target's label differs": (
        statements(("Q1/A", "P17", "Q3/x"), ("Q2/A", "P17", "Q3/ex")),
        [],
        ["prompt"],
    ),
    "two ids share a label, the target's id differs": (
        statements(("Q1/A", "P17", "Q3/x"), ("Q2/A", "P17", "Q4/x")),
        [],
        ["prompt"],
    ),
    "an id and a bare label agree": (
        statements(("Q1/France", "P36", "Q90/Paris"), ("france", "P36", "paris")),
        [0],
        [],
    ),
    "an id and a bare label differ": (
        statements(("Q1/France", "P36", "Q90/Paris"), ("france", "P36", "Lyon")),
        [],
        ["prompt"],
    ),
    "three say the same, in two ways": (
        statements(("Q1/France", "P36", "Q90/Paris"), ("France", "P36", "Paris"), ("France", "P36", "Paris")),
        [0],
        [],
    ),
    "no prompt, no shared prompt": (
        statements(("Q1/A", "P17", "x"), ("Q2/A", "P17", "y"), prompts=False),
        [0, 1],
        [],
    ),
    "no prompt, two objects": (statements(("Q1/A", "P17", "x"), ("Q1/A", "P17", "y"), prompts=False), [], ["objects"]),
    "a group is kept out whole": (
        statements(("Q1/A", "P17", "x"), ("Q1/A", "P17", "y"), ("Q2/A", "P17", "x"), ("Q3/B", "P17", "x")),
        [3],
        ["prompt"],
    ),
    "two groups": (
        statements(("A", "P17", "x"), ("B", "P17", "x"), ("A", "P17", "y"), ("B", "P17", "y")),
        [],
        ["objects", "objects"],
    ),
}


@pytest.mark.parametrize(("given", "kept", "kinds"), CASES.values(), ids=CASES.keys())
def test_kept_out_by_default(given: list[Statement], kept: list[int], kinds: list[str]) -> None:
    settled = settle(given, "out")
    assert [statement.order for statement in settled.kept] == kept
    assert [conflict.kind for conflict in settled.conflicts] == kinds
    assert {conflict.resolution for conflict in settled.conflicts} <= {"kept out"}


@pytest.mark.parametrize("given", [case[0] for case in CASES.values()], ids=CASES.keys())
def test_nothing_vanishes_and_order_of_input_does_not_matter(given: list[Statement]) -> None:
    settled = settle(given, "out")
    contested = [statement for conflict in settled.conflicts for statement in conflict.statements]
    seen = [*settled.kept, *contested, *(out for out, _ in settled.merged)]
    assert sorted(statement.ref for statement in seen) == [statement.ref for statement in given]
    assert {stand.ref for _, stand in settled.merged} <= {statement.ref for statement in (*settled.kept, *contested)}
    shuffled = random.Random(0).sample(given, len(given))
    assert settle(shuffled, "out") == settled


FRANCE = [("Q142/France", "P6", "Q1/Ann", "2020-01-02"), ("Q142/France", "P6", "Q2/Bob", "2024"), ("X", "P6", "Cy")]
SINCE: dict[str, tuple[list[str | None], str | None]] = {
    "the later date": (["2020-01-02", "2024-05-01"], "Bob"),
    "the earlier one is later in order": (["2024-05-01", "2020"], "Ann"),
    "a year against a day": (["2024", "2024-05-01"], "Bob"),
    "no date is the earliest": ([None, "1999"], "Bob"),
    "the same date": (["2024", "2024"], None),
    "no dates": ([None, None], None),
}


@pytest.mark.parametrize(("since", "chosen"), SINCE.values(), ids=SINCE.keys())
def test_latest_keeps_the_latest_start_or_none(since: list[str | None], chosen: str | None) -> None:
    given = [
        dataclasses.replace(statement, fact=dataclasses.replace(statement.fact, since=date))
        for statement, date in zip(statements(*FRANCE), [*since, None], strict=True)
    ]
    settled = settle(given, "latest")
    (conflict,) = settled.conflicts
    assert [kept.fact.object.label for kept in settled.kept] == ([chosen] if chosen else []) + ["Cy"]
    assert conflict.resolution == (f"latest: {chosen}" if chosen else "kept out")
    assert ("no latest one" in conflict.reason) is (chosen is None)


def test_latest_of_two_that_say_the_same() -> None:
    rows = [("Q1/A", "P6", "Q2/x", "2024"), ("A", "P6", "x", "2024"), ("Q1/A", "P6", "Q3/y", "2020")]
    settled = settle(statements(*rows), "latest")
    assert [kept.order for kept in settled.kept] == [0]


def test_first_keeps_the_lowest_order_of_each_group() -> None:
    given = [dataclasses.replace(statement, order=-place) for place, statement in enumerate(statements(*FRANCE))]
    settled = settle(given, "first")
    assert [kept.fact.object.label for kept in settled.kept] == ["Cy", "Bob"]
    (conflict,) = settled.conflicts
    assert conflict.resolution == "first: Bob"
    assert [entity.label for entity in conflict.objects] == ["Bob", "Ann"]


def test_error_names_up_to_five_groups_and_the_remedy() -> None:
    rows = [(f"S{place // 2}", "P36", f"o{place}") for place in range(14)]
    with pytest.raises(ConflictError) as caught:
        settle(statements(*rows), "error")
    message = str(caught.value)
    assert message.startswith("7 conflicts: P36: S0 has 2 objects for P36: o0, o1; P36: S1 has")
    assert "S4 has" in message
    assert "S5 has" not in message
    assert "and 2 more" in message
    assert "--on-conflict" in message


def test_error_without_conflicts_keeps_all() -> None:
    given = statements(("A", "P36", "x"), ("B", "P36", "x"))
    assert settle(given, "error").kept == tuple(given)


REASONS: dict[str, tuple[list[Statement], str]] = {
    "objects": (statements(("Q1/A", "P36", "Q2/x"), ("Q1/A", "P36", "y")), "A has 2 objects for P36: x, y"),
    "objects of one label": (
        statements(("Q1/A", "P36", "Q2/x"), ("Q1/A", "P36", "Q3/x")),
        "A has 2 objects for P36: x (Q2), x (Q3)",
    ),
    "two ids": (
        statements(("Q1/Springfield", "P131", "x"), ("Q2/Springfield", "P131", "y")),
        "Q1 and Q2 share the label 'Springfield' and would give the same prompt",
    ),
    "three ids": (
        statements(("Q1/A", "P131", "x"), ("Q2/A", "P131", "y"), ("Q3/A", "P131", "z")),
        "Q1, Q2 and Q3 share the label 'A' and would give the same prompt",
    ),
    "a bare label": (
        statements(("Q1/France", "P36", "x"), ("france", "P36", "y")),
        "Q1 and 'france' without an id share the label 'France' and would give the same prompt",
    ),
}


@pytest.mark.parametrize(("given", "reason"), REASONS.values(), ids=REASONS.keys())
@pytest.mark.parametrize("policy", ["out", "first"])
def test_the_reason_tells_what_clashes(given: list[Statement], reason: str, policy: Policy) -> None:
    (conflict,) = settle(given, policy).conflicts
    assert conflict.reason == reason
    assert conflict.subject == given[0].fact.subject.label
    assert conflict.relation == given[0].fact.relation
