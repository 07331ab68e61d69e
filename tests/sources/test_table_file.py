"""CSV and TSV files of facts, and KGTK edge files."""

import datetime
import gzip
from pathlib import Path

import pytest

from kbsync.errors import SettingsError, SourceError
from kbsync.facts import Entity, Fact
from kbsync.sources import Ask, open_source

TABLE = """subject,relation,object,subject_id,object_id,since
France,P36,Paris,Q142,http://www.wikidata.org/entity/Q90,0987-07-03
"The ""Big""
 One",P36,"Paris, Texas",,,
Ada,works_with,Charles,,,

Bolivia,P36,Sucre,,,
Bolivia,P36,La Paz,,,
"""


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8", newline="")
    return str(path)


@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz"])
def test_a_table_of_facts(suffix: str, end: str, start: str, tmp_path: Path) -> None:
    text = start + TABLE.replace("\n", end)
    if suffix == ".tsv":
        text = text.replace("Paris, Texas", "Paris; Texas").replace(",", "\t").replace("Paris; Texas", "Paris, Texas")
    file = tmp_path / f"facts{suffix}"
    file.write_bytes(gzip.compress(text.encode()) if suffix.endswith(".gz") else text.encode())
    reading = open_source(str(file)).read(Ask("P36"))
    assert reading.facts == (
        Fact(Entity("Bolivia"), "P36", Entity("La Paz")),
        Fact(Entity("Bolivia"), "P36", Entity("Sucre")),
        Fact(Entity("France", "Q142"), "P36", Entity("Paris", "Q90"), since="0987-07-03"),
        Fact(Entity('The "Big" One'), "P36", Entity("Paris, Texas")),
    )
    assert (reading.source, reading.query, reading.aliases) == (str(file.resolve()), None, None)
    assert [fact.object.label for fact in open_source(str(file)).read(Ask("works_with")).facts] == ["Charles"]


def refuse(path: Path, text: str) -> list[str]:
    """Read a bad file; returns the error's lines without the path."""
    with pytest.raises(SourceError) as caught:
        open_source(write(path, text)).read(Ask("P36"))
    return [line.removeprefix(f"{path}:") for line in str(caught.value).splitlines()]


def test_columns_set_apart_by_semicolons_are_read_as_such(tmp_path: Path) -> None:
    text = 'Subject;"relation";object;since\n"A; B";P36;Paris, Texas;\n'
    (fact,) = open_source(write(tmp_path / "x.csv", text)).read(Ask("P36")).facts
    assert (fact.subject.label, fact.object.label) == ("A; B", "Paris, Texas")


def test_all_that_is_wrong_with_a_header_is_told(tmp_path: Path) -> None:
    told = refuse(tmp_path / "x.csv", "subject,objekt,color,relation,relation\nA,B,C,P36,P36\n")
    named = "columns are subject, relation, object and, if you like, subject_id, object_id, since"
    assert told == [
        "1: column 'relation' appears twice; keep one",
        f"1: no column 'object'; {named}",
    ]
    assert refuse(tmp_path / "x.csv", "")[0] == f"1: no column 'object'; {named}"


def test_other_columns_are_not_used_and_told_in_one_line(tmp_path: Path) -> None:
    text = "id,subject,relation,object,Population\n1,France,P36,Paris,68\n2,Japan,P36,Tokyo,124\n"
    reading = open_source(write(tmp_path / "x.csv", text)).read(Ask("P36"))
    assert [fact.object.label for fact in reading.facts] == ["Paris", "Tokyo"]
    assert reading.skipped == ("column that is not used: 2 ('id', 'population')",)


def test_all_bad_rows_are_told_with_their_lines(tmp_path: Path) -> None:
    rows = [
        "A,P36,B,2020-01-01",
        "A,P36",
        'A,P 36,"B\n C",',
        "A,P36, ,2020-13-01",
        "A,P36,\x07,",
        "A,works_with,B,today",
        'A,P36,"B" C,',
    ]
    told = refuse(tmp_path / "x.csv", "\n".join(["subject,relation,object,since", *rows, ""]))
    assert [line[:40] for line in told] == [
        "3: 2 fields where the header has 4 colum",
        "4: 'P 36' is not a relation id: use a Wi",
        "6: since is not a day (2020-13-01): writ",
        "6: the object is empty; write text",
        "7: the object is empty; write text",
        "8: since is not a day (today): write YYY",
        "9: not a table's row (',' expected after",
    ]


def test_bad_rows_beyond_twenty_are_counted(tmp_path: Path) -> None:
    told = refuse(tmp_path / "x.csv", "subject,relation,object\n" + "A,P36\n" * 33)
    assert (len(told), told[0][:2], told[-1]) == (21, "2:", "and 13 more")


def test_bytes_that_are_no_utf8_are_told_with_their_line(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_bytes("subject,relation,object\nNorge,P36,Tromsø\n".encode("latin-1"))
    with pytest.raises(SourceError, match=r"x\.csv:2: not UTF-8 text"):
        open_source(str(file)).read(Ask("P36"))


def test_an_open_quote_at_the_end_is_told_with_the_row_that_it_begins(tmp_path: Path) -> None:
    (told,) = refuse(tmp_path / "x.csv", 'subject,relation,object\nA,P36,B\nA,P36,"C\nD,P36,E\n')
    assert told.startswith("3: not a table's row (unexpected end of data); correct the quotes")


def test_a_table_has_no_classes(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"--class does not go with .*a table has no classes or sitelinks"):
        open_source(write(tmp_path / "x.csv", TABLE)).read(Ask("P36", class_id="Q515"))


EDGES = """id\tnode1\tlabel\tnode2\trank\tnode1;label
e1\tQ142\tP36\tQ90\tnormal\t'France'@en|'Frankreich'@de
e2\tQ142\tP36\tQ456\tdeprecated\t
e3\tQ750\tP36\tQ2907\tnormal\t"Bolivia"
e4\te3\tP580\t^1839-07-12T00:00:00Z/11\t\t
e5\tQ750\tP36\tQ1491\tpreferred\t
e6\te5\tP582\t^1899-01-01T00:00:00Z/9\t\t
e7\te3\tP582\tnovalue\t\t
e8\tQ90\tlabel\t'Paris \\'la\\' \\| ville'@en\t\t
e9\tQ90\tlabel\t'Paris'@de\t\t
e10\tQ2907\tlabel\t'Sucre'@en\t\t
e11\tQ2907\talias\t'Chuquisaca'@en\t\t
e12\tQ142\tP31\tQ6256\t\t
e13\tmine\tP36\tQ90\t\t'My place'@en
e14\tQ1\tP36\tnovalue\t\t'Universe'@en
e15\tQ2\tP36\tsomevalue\t\t'Earth'@en
e16\tQ3\tP36\t+12Q11573\t\t'life'@en
# a comment

"""


@pytest.mark.parametrize("suffix", [".tsv", ".tsv.gz"])
def test_kgtk_edges(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"edges{suffix}"
    file.write_bytes(gzip.compress(EDGES.encode()) if suffix.endswith(".gz") else EDGES.encode())
    source = open_source(str(file))
    reading = source.read(Ask("P36", aliases=True))
    paris = Entity("Paris 'la' | ville", "Q90")
    assert reading.facts == (
        Fact(Entity("Bolivia", "Q750"), "P36", Entity("Sucre", "Q2907"), since="1839-07-12"),
        Fact(Entity("France", "Q142"), "P36", paris),
        Fact(Entity("My place", "urn:kgtk:mine"), "P36", paris),
    )
    assert reading.aliases is not None
    assert reading.aliases["Q2907"] == ("Chuquisaca",)
    assert reading.skipped == (
        "statement of deprecated rank: 1 (Q142 -> Q456)",
        f"statement that has ended by {datetime.date.today()}: 1 (Q750 -> Q1491)",
        '"no value" stated: 1 (Q1)',
        "unknown value: 1 (Q2)",
        "quantity in place of an entity: 1 (Q3 -> '+12Q11573')",
    )
    for day, over in ((datetime.date(1899, 12, 30), False), (datetime.date(1900, 1, 1), True)):  # it ends "in 1899"
        notes = source.read(Ask("P36", as_of=day)).skipped
        assert any("has ended" in note for note in notes) is over
    (german,) = source.read(Ask("P36", class_id="Q6256", language="de")).facts
    assert (german.subject.label, german.object.label) == ("Frankreich", "Paris")


def test_bad_edges_are_told_with_their_lines(tmp_path: Path) -> None:
    text = "node1\tlabel\tnode2\nQ142\tP36\tQ90\nQ142\tP36\nQ142\t\tQ90\n"
    assert refuse(tmp_path / "x.tsv", text) == [
        "3: 2 fields where the header has 3 columns",
        "4: label empty: an edge needs node1, label and node2",
    ]
