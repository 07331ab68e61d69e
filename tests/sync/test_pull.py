"""A pull from source to ledger: all or nothing, and only what was asked for is withdrawn."""

import shutil
from pathlib import Path

import pytest

from kbsync.errors import KbsyncError, LedgerError, SourceError, WithdrawalsError
from kbsync.ledger import Ledger
from kbsync.sync.pull import Pulled, pull
from kbsync.sync.reading import make_asks
from tests.oxigraph_server import world

CAPITALS = {"France": "Paris", "Kazakhstan": "Astana", "Burundi": "Bujumbura"}


def write(tmp_path: Path, **relations: dict[str, str]) -> str:
    path = tmp_path / "facts.yaml"
    lines = [
        f"- {{subject: {subject}, relation: {relation}, object: {thing}}}"
        for relation, facts in relations.items()
        for subject, thing in facts.items()
    ]
    path.write_text("\n".join(lines) or "[]")
    return str(path)


def run(home: Path, source: str, *relations: str, **options: object) -> list[Pulled]:
    asks = make_asks(relations or ["P36"], source, **options)  # type: ignore[arg-type]
    return pull(home, asks, source, lambda phase, done, total: None)


def current(home: Path) -> dict[tuple[str, str], str]:
    with Ledger.open(home, create=False) as ledger:
        return {(row.relation, row.subject_label): row.object_label for row in ledger.facts(withdrawn=False)}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home that has the capitals of three countries."""
    run(tmp_path / "home", write(tmp_path, P36=CAPITALS))
    return tmp_path / "home"


def test_a_whole_pull_withdraws_what_is_gone(home: Path, tmp_path: Path) -> None:
    (pulled,) = run(home, write(tmp_path, P36={"France": "Paris", "Nauru": "Yaren"}))
    assert (pulled.new, pulled.unchanged, pulled.withdrawn, pulled.label) == (1, 1, 2, "capital")
    assert current(home) == {("P36", "France"): "Paris", ("P36", "Nauru"): "Yaren"}


def test_changes_that_are_held_are_there_when_the_home_is_gone(home: Path, tmp_path: Path) -> None:
    (pulled,) = run(home, write(tmp_path, P36={"France": "Lyon", "Nauru": "Yaren"}))
    expected = list(pulled.changes)
    pulled.changes.hold()
    shutil.rmtree(home)
    assert {change.sign for change in expected} == set("+~-")
    assert list(pulled.changes) == expected
    assert list(pulled.changes.of("-+")) == [one for sign in "-+" for one in expected if one.sign == sign]


def test_nothing_left_of_a_known_relation_is_withdrawn_too(home: Path, tmp_path: Path) -> None:
    source = write(tmp_path, P17={"Paris": "France"})
    asks = make_asks(["P36"], source)
    with pytest.raises(WithdrawalsError, match=r"P36 3 of 3\. Nothing was recorded"):
        pull(home, asks, source, lambda *_: None)
    (pulled,) = pull(home, asks, source, lambda *_: None, accept_withdrawals=True)
    assert pulled.withdrawn == 3
    assert current(home) == {}


def test_a_limit_withdraws_nothing(home: Path, tmp_path: Path) -> None:
    (pulled,) = run(home, write(tmp_path, P36={"France": "Lyon"}), limit=2)
    assert (pulled.changed, pulled.withdrawn) == (1, 0)
    assert len(current(home)) == 3


def test_subjects_withdraw_only_those_asked_for(home: Path, tmp_path: Path) -> None:
    (tmp_path / "subjects.txt").write_text("# two\nFrance\nKazakhstan\n")
    source = write(tmp_path, P36={"France": "Paris"})
    (pulled,) = run(home, source, subjects_file=tmp_path / "subjects.txt")
    assert (pulled.unchanged, pulled.withdrawn) == (1, 1)
    assert set(current(home)) == {("P36", "France"), ("P36", "Burundi")}
    (pulled,) = run(home, source, subjects_file=tmp_path / "subjects.txt", limit=1)
    assert pulled.withdrawn == 0


def test_relations_are_recorded_together_or_not_at_all(home: Path, tmp_path: Path) -> None:
    before = current(home)
    with pytest.raises(SourceError, match="no current statement of P999"):
        run(home, write(tmp_path, P36={"France": "Lyon"}), "P36", "P999")
    assert current(home) == before
    with Ledger.open(home, create=False) as ledger:
        assert len(ledger.pulls()) == 1


def test_another_source_withdraws_nothing_of_this_one(home: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    run(home, write(tmp_path / "other", P36={"Nauru": "Yaren"}))
    assert len(current(home)) == 4


def test_a_failed_pull_makes_no_home(tmp_path: Path) -> None:
    with pytest.raises(KbsyncError):
        run(tmp_path / "home", write(tmp_path, P17={"Paris": "France"}), "P36")
    assert not (tmp_path / "home").exists()


def test_a_ledger_that_cannot_be_used_shows_before_the_source_is_read(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "ledger.db").write_text("this is no database, but a text that is long enough to tell " * 3)
    with pytest.raises(LedgerError, match=r"ledger\.db"):
        run(tmp_path / "home", "http://127.0.0.1:9/no-endpoint")


def test_a_statement_whose_label_was_lost_still_stands(tmp_path: Path) -> None:
    capitals = {"france": "paris", "kazakhstan": "astana", "burundi": "bujumbura"}
    statements = [f"kb:{subject} wdt:P36 kb:{thing} ." for subject, thing in capitals.items()]
    labels = {name: f'kb:{name} rdfs:label "{name.title()}"@en .' for pair in capitals.items() for name in pair}
    home, file = tmp_path / "home", tmp_path / "world.ttl"
    run(home, str(world(file, "\n".join([*statements, *labels.values()]))))
    kept = [text for name, text in labels.items() if name not in ("paris", "kazakhstan")]
    (pulled,) = run(home, str(world(file, "\n".join([*statements, *kept]))))
    assert (pulled.unchanged, pulled.withdrawn, len(pulled.skipped)) == (3, 0, 2)
    assert current(home) == {("P36", name.title()): thing.title() for name, thing in capitals.items()}
    moved = [statements[0].replace("paris", "lyon"), *statements[1:]]
    (pulled,) = run(home, str(world(file, "\n".join([*moved, *kept]))))
    assert (pulled.unchanged, pulled.withdrawn) == (2, 1)  # what France has now has no name, and Paris it is not
