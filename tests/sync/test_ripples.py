"""What follows from an edit, asked from the knowledge base."""

from pathlib import Path

import pytest

from kbsync.ledger import EditRow, Ledger
from kbsync.metrics import Ripple
from kbsync.sync.eval_cases import Around
from kbsync.sync.home import templates_for
from tests.homes import done, kbsync

SOURCE = """
- {subject: France, relation: P36, object: Lyon, subject_id: Q142, object_id: Q456, subject_aliases: [Gaul], object_aliases: [Lugdunum]}
- {subject: Monaco, relation: P36, object: Lyon, object_id: Q456}
- {subject: Lyon, relation: P131, object: Metropolis of Lyon, subject_id: Q456}
- {subject: Louvre, relation: P17, object: France, object_id: Q142}
- {subject: France, relation: P30, object: Europe, subject_id: Q142}
- {subject: France, relation: P30, object: Africa, subject_id: Q142}
- {subject: Peru, relation: P30, object: South America}
"""  # noqa: E501


@pytest.fixture
def asked(tmp_path: Path) -> tuple[Ripple, ...]:
    """The questions on the capital of France."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "facts.yaml").write_text(SOURCE, encoding="utf-8")
    relations = [part for relation in ("P36", "P131", "P17", "P30") for part in ("--relation", relation)]
    done("pull", "--home", home, "--source", home / "facts.yaml", *relations, "--aliases")
    templates = templates_for(home)
    request = templates.request("France", "P36", "Lyon", ("Lugdunum",))
    edit = EditRow(
        *(1, 1, "m", 1, "P36", "Q142", "France", "Q456", "Lyon", request.prompt, request.id, None, "active", None)
    )
    with Ledger.open(home, create=False) as ledger:
        return tuple(Around(ledger, templates, [edit], ledger.facts()).questions(edit, request, "Paris"))


def test_every_kind(asked: tuple[Ripple, ...]) -> None:
    by_kind: dict[str, list[tuple[str, ...]]] = {}
    for one in asked:
        by_kind.setdefault(one.kind, []).append((one.prompt, *one.names, *([one.wrong] if one.wrong else [])))
    true, false = ("The capital of France is Lyon.", "The capital of France is Paris.")
    assert by_kind == {
        "inverse": [("Lyon is the capital of", "France", "Gaul", "Monaco")],
        "alias": [("The capital of Gaul is", "Lyon", "Lugdunum")],
        "two_hops": [
            (templates_for(Path()).require("P131").prompt.format("the capital of France"), "Metropolis of Lyon"),
            ("The capital of the country of Louvre is", "Lyon", "Lugdunum"),
        ],
        "same_subject": [("The continent that France is part of is", "Africa", "Europe")],
        "true_false": [
            (f'True or false: "{true}" Answer:', "True", "False"),
            (f'True or false: "{false}" Answer:', "False", "True"),
        ],
        "negation": [
            (f'True or false: it is wrong that "{true}" Answer:', "False", "True"),
            (f'True or false: it is wrong that "{false}" Answer:', "True", "False"),
        ],
    }


def test_an_inverse_is_a_prompt(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "templates").mkdir(parents=True)
    (home / "templates" / "own.yaml").write_text(
        "likes:\n  label: likes\n  prompt: The favourite of {} is\n  inverse: It is the favourite of\n"
        '  paraphrases: ["{} likes", "What {} likes is", "{} is fond of", "{} prefers"]\n'
        "  question: What does {} like?\n"
    )
    ran = kbsync("templates", "list", "--home", home)
    assert "own.yaml:4: likes: the inverse has no {}" in ran.err
