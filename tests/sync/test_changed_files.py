"""A file pulled again is read in part, and the ledger is as if it had been read whole."""

import random
from pathlib import Path

import pytest

from kbsync.errors import SourceError
from kbsync.ledger import Ledger
from kbsync.sources import Ask, open_source
from kbsync.sync import reading as changed_files
from kbsync.sync.pull import Pulled, pull
from kbsync.sync.reading import FileState, look_at, make_asks

E, P = "http://www.wikidata.org/entity/", "http://www.wikidata.org/prop/"
LABEL = "<http://www.w3.org/2000/01/rdf-schema#label>"
RELATIONS = ("P36", "P17")
Lines = dict[str, list[str]]


def node(number: int, relation: str, thing: int, *more: str) -> list[str]:
    name = f"<{E}statement/S{number}{relation}>"
    lines = [f"<{E}Q{number}> <{P}{relation}> {name} .", f"{name} <{P}statement/{relation}> <{E}Q{thing}> ."]
    return lines + [f"{name} {part} ." for part in more]


def world(rng: random.Random) -> Lines:
    """Lines by subject: plain triples and statement nodes, some without a label, some with two objects."""
    things = {f"t{n}": [f'<{E}Q{n}> {LABEL} "Thing {n}"@en .'] for n in range(1, 10)}
    made: Lines = dict(things)
    for number in range(100, 220):
        lines = [f'<{E}Q{number}> {LABEL} "Place {number}"@{rng.choice(["en", "en", "en", "fr"])} .']
        for relation in RELATIONS:
            for _ in range(rng.choice([0, 1, 1, 1, 2])):
                lines.append(f"<{E}Q{number}> <{P}direct/{relation}> <{E}Q{rng.randint(1, 11)}> .")
            if rng.random() < 0.3:
                rank = rng.choice(["Preferred", "Normal", "Deprecated"])
                more = f"<http://wikiba.se/ontology#rank> <http://wikiba.se/ontology#{rank}Rank>"
                lines += node(number, relation, rng.randint(1, 9), more)
        made[f"s{number}"] = lines
    return made


def change(lines: Lines, rng: random.Random) -> None:
    """Change a few subjects anyhow, and a label that others show."""
    made = world(rng)
    for subject in rng.sample(sorted(made), 5):
        lines[subject] = made[subject]
    for subject in rng.sample(sorted(lines), 2):
        lines.pop(subject)
    thing = rng.randint(1, 9)
    lines[f"t{thing}"] = [f'<{E}Q{thing}> {LABEL} "Renamed {rng.randint(1, 99)}"@{rng.choice(["en", "fr"])} .']


def write(path: Path, lines: Lines) -> None:
    path.write_text("".join(f"{line}\n" for group in lines.values() for line in group))


def run(home: Path, path: Path, *relations: str, **options: object) -> list[Pulled]:
    asks = make_asks(relations or RELATIONS, str(path), **options)  # type: ignore[arg-type]
    return pull(home, asks, str(path), lambda *_: None)


def content(home: Path) -> list[list[tuple[object, ...]]]:
    """All that pulls record, but for times and row ids (a part is read in another order)."""
    with Ledger.open(home, create=False) as ledger:
        queries = (
            """SELECT source, relation, subject_key, subject_label, subject_id, object_key, object_label, object_id,
            rank, since, first_seen, last_seen, withdrawn, subject_name FROM facts""",
            "SELECT relation, query, new, changed, withdrawn, unchanged, conflicting FROM pulls",
            "SELECT pull, relation, subject_key, subject, objects, resolution FROM conflicts",
            "SELECT object_key, object_label, rank, ended, ended_by, restated_by FROM fact_history",
        )
        return [sorted(ledger.db.execute(query).fetchall(), key=repr) for query in queries]


def in_part(home: Path, path: Path, *relations: str) -> bool:
    asks = [Ask(relation) for relation in relations or RELATIONS]
    return look_at(home, open_source(str(path)), asks).part is not None


@pytest.mark.parametrize("seed", range(5))
def test_the_ledger_is_as_if_the_file_had_been_read_whole(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    lines, path = world(rng), tmp_path / "facts.nt"
    monkeypatch.setattr("kbsync.sources.rdf_changes.MOST_AGAIN", 1.0)  # the world is small
    for _ in range(4):
        write(path, lines)
        assert in_part(tmp_path / "part", path) == (tmp_path / "part").exists()
        counted = run(tmp_path / "part", path)
        with monkeypatch.context() as plain:
            plain.setattr("kbsync.sync.pull.look_at", lambda *_: FileState())
            wanted = run(tmp_path / "whole", path)
        assert [(p.new, p.changed, p.withdrawn, p.unchanged, p.conflicting) for p in counted] == [
            (p.new, p.changed, p.withdrawn, p.unchanged, p.conflicting) for p in wanted
        ]
        assert [set(p.changes) for p in counted] == [set(p.changes) for p in wanted]
        assert content(tmp_path / "part") == content(tmp_path / "whole")
        change(lines, rng)


@pytest.fixture
def pulled(tmp_path: Path) -> tuple[Path, Path]:
    """A home, and the file that was pulled into it."""
    path = tmp_path / "facts.nt"
    write(path, world(random.Random(0)))
    run(tmp_path / "home", path)
    return tmp_path / "home", path


def test_an_unchanged_file_is_not_read_again_and_its_notes_stay(pulled: tuple[Path, Path]) -> None:
    home, path = pulled
    assert in_part(home, path)
    for _ in range(2):
        (capitals, _) = run(home, path)
        assert (capitals.new, capitals.changed, capitals.withdrawn) == (0, 0, 0)
        assert any(note.startswith("object without a label") and "as of pull 1" in note for note in capitals.skipped)


def test_what_makes_the_file_be_read_whole(pulled: tuple[Path, Path]) -> None:
    home, path = pulled
    assert in_part(home, path, "P36")
    assert not in_part(home, path, "P36", "P30")
    source = open_source(str(path))
    for ask in (Ask("P36", language="de"), Ask("P36", limit=3), Ask("P36", aliases=True)):
        assert look_at(home, source, [ask]).part is None
    run(home, path, "P36", limit=3)
    assert not in_part(home, path, "P36")
    assert in_part(home, path, "P17")
    path.write_text(path.read_text().replace("> <", ">\t<"))  # written in another form
    assert look_at(home, open_source(str(path)), [Ask("P17")]) == FileState()


def test_what_depends_on_the_day_is_read_whole_on_another(pulled: tuple[Path, Path]) -> None:
    home, path = pulled
    ends = '"2030-01-01T00:00:00Z"^^<http://www.w3.org/2001/XMLSchema#dateTime>'
    with path.open("a") as file:
        file.write("\n".join(node(100, "P17", 3, f"<{P}qualifier/P582> {ends}")) + "\n")
    run(home, path)
    source, day = open_source(str(path)), Ask("P17").day
    assert look_at(home, source, [Ask("P17", as_of=day)]).part is not None
    assert look_at(home, source, [Ask("P17", as_of=day.replace(year=2031))]).part is None


def test_a_file_cut_since_is_refused_with_its_line(pulled: tuple[Path, Path]) -> None:
    home, path = pulled
    before = content(home)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SourceError, match=r"facts\.nt:\d+.*cut off"):
        run(home, path)
    assert content(home) == before
    assert changed_files.look_at(home, open_source(str(path)), [Ask("P17")]).digest is None
