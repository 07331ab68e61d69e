"""YAML files: the two forms, and everything that can be wrong with one."""

import datetime
from pathlib import Path

import pytest

from kbsync.errors import SettingsError, SourceError
from kbsync.facts import Entity, Fact
from kbsync.sources import Ask, open_source


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "facts.yaml"


def refuse(file: Path, text: str) -> list[str]:
    """Read a bad file; returns the error's lines without the path."""
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SourceError) as caught:
        open_source(str(file)).read(Ask("P36"))
    return [line.removeprefix(f"{file}:") for line in str(caught.value).splitlines()]


def test_a_list_of_facts(file: Path) -> None:
    file.write_text(
        "- {subject: Japan, relation: P36, object: Tokyo}\n"
        "- {subject: Ada, relation: works_with, object: Charles}\n"
        "- subject:   The United\n    Kingdom\n  subject_id: http://www.wikidata.org/entity/Q145\n  relation: P36\n"
        "  object: London\n  object_id: Q84\n  since: 1707-05-01\n"
        "- {subject: Japan, relation: P36, object: tokyo}\n"
        "- {subject: Bolivia, relation: P36, object: Sucre}\n- {subject: Bolivia, relation: P36, object: La Paz}\n"
    )
    reading = open_source(str(file)).read(Ask("P36"))
    assert [(fact.subject.label, fact.object.label) for fact in reading.facts] == [
        ("Bolivia", "La Paz"),
        ("Bolivia", "Sucre"),
        ("Japan", "tokyo"),
        ("The United Kingdom", "London"),
    ]
    assert [*reading.facts][3] == Fact(
        Entity("The United Kingdom", "Q145"), "P36", Entity("London", "Q84"), since="1707-05-01"
    )
    assert (reading.source, reading.query, reading.skipped) == (str(file.resolve()), None, ())
    assert [fact.object.label for fact in open_source(str(file)).read(Ask("works_with")).facts] == ["Charles"]


def test_escapes_in_pairs_are_the_character_that_they_stand_for(file: Path) -> None:
    file.write_text('P36:\n  "\\ud842\\udfb7\\u91ce\\u5bb6": "\\ud83e\\udd8a x"\n')
    assert open_source(str(file)).read(Ask("P36")).facts == (Fact(Entity("\U00020bb7野家"), "P36", Entity("🦊 x")),)


def test_relation_to_subject_to_object(file: Path) -> None:
    file.write_text("P36:\n  France: Paris\n  '1984': \"451\"\nworks_with:\n  Ada: Charles\nP17: {}\n")
    source = open_source(str(file))
    assert source.read(Ask("P36")).facts == (
        Fact(Entity("1984"), "P36", Entity("451")),
        Fact(Entity("France"), "P36", Entity("Paris")),
    )
    assert source.read(Ask("works_with")).facts == (Fact(Entity("Ada"), "works_with", Entity("Charles")),)
    assert source.read(Ask("P17")).facts == source.read(Ask("P999")).facts == ()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("P36:\n  France: Paris\n  Japan: [Tokyo", "3:16: not YAML: expected ',' or ']', but got '<stream end>'"),
        ("P36:\n\tFrance: Paris\n", "2:1: not YAML: found character '\\t' that cannot start any token"),
        ("- {subject: A, relation: P36}\n", "1:3: no object: a fact needs subject, relation, object"),
        ("- {object: A}\n", "1:3: no subject and no relation: a fact needs"),
        ("- {subject: A, relation: P36, object: B, color: red}\n", "1:49: unknown field 'color'; a fact has subject,"),
        ("- subject: A\n  relation: P36\n  object: 1984\n", "3:11: object 1984 is a number: put it in quotes"),
        ("P36:\n  France: 3.5\n", "2:11: object 3.5 is a number: put it in quotes"),
        ("P36:\n  Norway: NO\n", "2:11: object NO is a truth value: put it in quotes"),
        ("P36:\n  no: Oslo\n", "2:3: subject no is a truth value: put it in quotes"),
        ("P36:\n  1984: Orwell\n", "2:3: subject 1984 is a number: put it in quotes"),
        ("P36:\n  France: 2020-01-01\n", "2:11: object 2020-01-01 is a date: put it in quotes"),
        ("P36:\n  France: null\n", "2:11: object null is null: put it in quotes"),
        ("P36:\n  France: ~\n", "2:11: object ~ is null"),
        ("P36:\n  France:\n", "2:10: the object is empty; write text"),
        ("P36:\n  France: ' '\n", "2:11: the object is empty"),
        ("P36:\n  '': Paris\n", "2:3: the subject is empty"),
        ("P36:\n  Bolivia: [Sucre, La Paz]\n", "2:12: a list of objects: give each subject one object"),
        ("P36:\n  Bolivia:\n  - Sucre\n", "3:3: a list of objects: give each subject one object"),
        ("- {subject: [A], relation: P36, object: B}\n", "1:13: a list or mapping where the subject should be"),
        ("P36:\n  France: {capital: Paris}\n", "2:11: a list or mapping where the object should be"),
        ("P36:\n  France: !!python/object/apply:os.system [ls]\n", "2:11: tag !!python/object/apply:os.system is not"),
        ("P36:\n  France: !!python/name:os.system\n", "2:11: tag !!python/name:os.system is not allowed"),
        ("P36:\n  France: !secret Paris\n", "2:11: tag !secret is not allowed; write plain text"),
        ("P36:\n  France: !!binary UGFyaXM=\n", "2:11: object UGFyaXM= is not text"),
        (
            "P36:\n  France: Paris\n  Japan: Tokyo\n  France: Lyon\n",
            "4:3: subject 'France' appears twice (first in",
        ),
        ("P36:\n  A: B\nP36:\n  C: D\n", "3:1: relation 'P36' appears twice (first in line 1)"),
        ("- {subject: A, subject: B, relation: P36, object: C}\n", "1:16: field 'subject' appears twice"),
        ("'P17 } #':\n  A: B\n", "1:1: 'P17 } #' is not a relation id"),
        ("- {subject: A, relation: P 36, object: B}\n", "1:26: 'P 36' is not a relation id"),
        ("- {subject: A, relation: P36, object: B, since: 2020}\n", "1:49: since is not a day: write YYYY-MM-DD"),
        ("- {subject: A, relation: P36, object: B, since: 2020-02-30}\n", "1:49: since is not a day"),
        ("P36: Paris\n", "1:6: relation 'P36' takes lines of the form subject: object"),
        ("P36:\n- France\n", "2:1: relation 'P36' takes lines of the form subject: object"),
        ("- France\n", "1:3: not a fact: write {subject: ..., relation: ..., object: ...}"),
        ("just text\n", "1:1: text instead of a list of facts"),
        ("", " is empty; write a list of facts"),
        ("# nothing\n", " is empty"),
        ("P36: {A: B}\n---\nP17: {A: B}\n", "2:1: not YAML: but found another document"),
        ("P36:\n  A: *nowhere\n", "2:6: not YAML: found undefined alias 'nowhere'"),
        ("P36: {A: B\x07}\n", "1:11: not YAML: special characters are not allowed (U+0007)"),
        ("[" * 600, "1:102: nested too deeply (at most 100 levels; KBSYNC_MOST_DEPTH sets another bound)"),
        ('P36:\n  "\\ud842x": A\n', "2:3: the subject has half of a pair of \\u escapes; write the character itself"),
        ('P36:\n  A: "\\U00110000"\n', "2:"),
        (
            "- &all [a]\n- {subject: A, relation: P36, object: *all}\n",
            "2:39: not YAML: found undefined alias 'all', or",
        ),
    ],
)
def test_each_problem_is_told_with_its_line(text: str, line: str, file: Path) -> None:
    (told,) = refuse(file, text)
    assert told.startswith(line)


def test_all_problems_come_in_one_error_in_order(file: Path) -> None:
    text = "P36:\n  A: 1\n  B: [x]\nbad relation:\n  C: D\nP17:\n  E: ''\n"
    assert [line.split(":")[0] for line in refuse(file, text)] == ["2", "3", "4", "7"]


def test_more_than_twenty_problems_are_counted(file: Path) -> None:
    told = refuse(file, "P36:\n" + "".join(f"  A{n}: {n}\n" for n in range(25)))
    assert len(told) == 21
    assert told[0].startswith("2:7: ")
    assert told[-1] == "and 5 more"


def test_a_problem_in_another_relation_spoils_the_file(file: Path) -> None:
    assert refuse(file, "P36: {France: Paris}\nP17: {Paris: 1}\n") == ["2:14: object 1 is a number: put it in quotes"]


def test_bytes_that_are_no_utf8_are_told_with_their_line(file: Path) -> None:
    file.write_bytes("P36:\n  France: Paris\n  Norge: Tromsø\n".encode("latin-1"))
    with pytest.raises(SourceError, match=r"facts\.yaml:3: not UTF-8 text; save the file as UTF-8"):
        open_source(str(file)).read(Ask("P36"))


def test_a_byte_order_mark_is_no_part_of_the_text(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbfP36: {France: Paris}\n")
    assert len(open_source(str(file)).read(Ask("P36")).facts) == 1


@pytest.mark.parametrize(
    ("ask", "option"),
    [(Ask("P36", class_id="Q515"), "--class"), (Ask("P36", min_sitelinks=0), "--min-sitelinks")],
)
def test_what_a_file_does_not_have_cannot_be_asked_for(ask: Ask, option: str, file: Path) -> None:
    file.write_text("P36: {France: Paris}\n")
    with pytest.raises(SettingsError, match=rf"{option} does not go with .*facts\.yaml"):
        open_source(str(file)).read(ask)


def test_subjects_are_matched_by_id_and_by_folded_label(file: Path) -> None:
    file.write_text(
        "- {subject: France, subject_id: Q142, relation: P36, object: Paris}\n"
        "- {subject: Café  Noir, relation: P36, object: X}\n"
        "- {subject: Mine, subject_id: mine-1, relation: P36, object: Y}\n"
        "- {subject: Other, relation: P36, object: Z}\n"
    )
    source = open_source(str(file))
    names = ("http://www.wikidata.org/entity/Q142", "cafe\u0301 NOIR", "mine-1", "Atlantis")
    reading = source.read(Ask("P36", subjects=names))
    assert [fact.object.label for fact in reading.facts] == ["X", "Paris", "Y"]
    assert reading.skipped == ("subject asked for that has no P36 here: 1 (Atlantis)",)


def test_a_limit_takes_whole_subjects(file: Path) -> None:
    file.write_text("".join(f"- {{subject: {s}, relation: P36, object: {o}}}\n" for s, o in ("BX", "AY", "BZ", "CW")))
    facts = open_source(str(file)).read(Ask("P36", limit=2)).facts
    assert [fact.subject.label + fact.object.label for fact in facts] == ["AY", "BX", "BZ"]


def test_a_fact_that_begins_later_is_left_out(file: Path) -> None:
    file.write_text("- {subject: A, relation: P36, object: B, since: '2030-01-01'}\n")
    source = open_source(str(file))
    reading = source.read(Ask("P36", as_of=datetime.date(2029, 12, 31)))
    assert (reading.facts, reading.skipped) == ((), ("begins after 2029-12-31: 1 (A)",))
    assert len(source.read(Ask("P36", as_of=datetime.date(2030, 1, 1))).facts) == 1
