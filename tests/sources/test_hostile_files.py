"""Files that are too large, too deep, change while they are read, or are bad in a line: told, and in little memory."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pyoxigraph import DefaultGraph, RdfFormat, Store

from kbsync.errors import KbsyncError, SettingsError, SourceError
from kbsync.files import Unchanged, lines_of
from kbsync.sources import Ask, open_source, rdf_file

FORMS = {".ttl": RdfFormat.TURTLE, ".nt": RdfFormat.N_TRIPLES, ".nq": RdfFormat.N_QUADS, ".trig": RdfFormat.TRIG}
WDT, WD = "http://www.wikidata.org/prop/direct/", "http://www.wikidata.org/entity/"
GOOD = (
    f"<{WD}Q142> <{WDT}P36> <{WD}Q90> .\n"
    f'<{WD}Q142> <http://www.w3.org/2000/01/rdf-schema#label> "France"@en .\n'
    f'<{WD}Q90> <http://www.w3.org/2000/01/rdf-schema#label> "Paris"@en .\n'
)
BAD_IRI = "<https://x.example/a#b?c=1#d>"


@pytest.fixture(params=[False, True], ids=["small", "large"])
def size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file counts as small, or as large."""
    if request.param:
        monkeypatch.setattr(rdf_file, "LARGE", 0)


def written(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("suffix", FORMS)
@pytest.mark.parametrize(
    ("bad", "notes"),
    [
        (f"<{WD}Q1> <http://a/homepage> {BAD_IRI} .\n", []),
        (f'<{WD}Q1> <http://www.w3.org/2000/01/rdf-schema#label> "x"@en-toolongsubtag .\n', []),
        (f"<{WD}Q1> <{WDT}P37> {BAD_IRI} .\n", []),
        (
            f"<{WD}Q1> <{WDT}P36> {BAD_IRI} .\n",
            ["statement with a bad IRI or language tag: 1 (Q1 -> https://x.example/a#b?c=1#d)"],
        ),
        (
            f'<{WD}Q1> <{WDT}P36> "x"@en-toolongsubtag .\n',
            ["statement with a bad IRI or language tag: 1 (Q1 -> x)"],
        ),
        (f'<{WD}Q1> <{WDT}P36> "x"@en_US .\n', ["line that cannot be read: 1 (4: "]),
        (f'<{WD}Q1> <{WDT}P36> "\\k" .\n', ["line that cannot be read: 1 (4: "]),
    ],
)
def test_a_bad_line_spoils_itself_alone(bad: str, notes: list[str], suffix: str, packed: str, tmp_path: Path) -> None:
    file = written(tmp_path / f"x{suffix}{packed}", f"{GOOD}{bad}{GOOD.replace('Q142', 'Q750').replace('France', 'B')}")
    reading = open_source(str(file)).read(Ask("P36"))
    assert [(fact.subject.label, fact.object.label) for fact in reading.facts] == [("B", "Paris"), ("France", "Paris")]
    assert len(reading.skipped) == len(notes)
    assert all(told.startswith(note) for told, note in zip(reading.skipped, notes, strict=True))


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize("suffix", FORMS)
@pytest.mark.parametrize(
    "rest", [f"<{WD}Q1> <{WDT}P36> <http://a/", f"<{WD}Q1> <{WDT}P36> <{WD}Q2>", f'<{WD}Q1> <{WDT}P36> "P']
)
def test_the_end_tells_a_cut_file_from_a_bad_line(rest: str, suffix: str, tmp_path: Path) -> None:
    bad = f"<{WD}Q1> <http://a/homepage> {BAD_IRI} .\n"
    file = written(tmp_path / f"x{suffix}", GOOD + bad + rest)
    with pytest.raises(SourceError, match=rf"x\{suffix}:5: not whole RDF .*cut off.*nothing was taken"):
        open_source(str(file)).read(Ask("P36"))


@pytest.mark.parametrize("suffix", [*FORMS, ".rdf", ".jsonld", ".nt.gz"])
def test_a_byte_order_mark_is_no_part_of_a_file(suffix: str, tmp_path: Path) -> None:
    store = Store()
    store.load(GOOD.encode(), format=RdfFormat.N_TRIPLES)
    form = RdfFormat.from_extension(suffix.removesuffix(".gz")[1:])
    assert form is not None
    graph = None if form.supports_datasets else DefaultGraph()
    data = b"\xef\xbb\xbf" + (store.dump(format=form, from_graph=graph) or b"")
    file = tmp_path / f"x{suffix}"
    file.write_bytes(gzip.compress(data) if suffix.endswith(".gz") else data)
    (fact,) = open_source(str(file)).read(Ask("P36")).facts
    assert (fact.subject.id, fact.object.label) == ("Q142", "Paris")


TABLE = "subject,relation,object\n" + "".join(f"S{n},P36,O{n}\n" for n in range(9))
LISTED = {
    "x.csv": TABLE,
    "x.tsv": TABLE.replace(",", "\t"),
    "x.yaml": "".join(f"- {{subject: S{n}, relation: P36, object: O{n}}}\n" for n in range(9)),
    "x.nt": GOOD,
    "x.ttl": GOOD,
}


@pytest.mark.parametrize("name", LISTED)
@pytest.mark.parametrize("change", ["cut", "grown", "replaced"])
def test_a_file_that_changes_between_two_readings_of_a_pull_is_refused(name: str, change: str, tmp_path: Path) -> None:
    file = written(tmp_path / name, LISTED[name])
    source = open_source(str(file))
    assert source.read(Ask("P36")).facts
    if change == "cut":
        os.truncate(file, len(LISTED[name]) // 2)
    elif change == "grown":
        file.write_text(LISTED[name] + "\n")
    else:
        os.replace(written(tmp_path / "other", LISTED[name]), file)
    if name == "x.yaml":
        source = open_source(str(file))  # read once and held: it cannot change under a pull
        return
    with pytest.raises(SourceError, match=rf"{name}: changed during reading; nothing was taken"):
        source.read(Ask("P36"))


def test_a_file_that_is_cut_while_its_lines_are_read_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path / "x.csv", TABLE)

    def read() -> None:
        with Unchanged(file).reading():
            for _ in lines_of(file):
                os.truncate(file, 40)

    with pytest.raises(SourceError, match=r"x\.csv: changed during reading"):
        read()


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.yaml"])
def test_a_last_line_without_its_end_is_told(name: str, tmp_path: Path) -> None:
    reading = open_source(str(written(tmp_path / name, LISTED[name].removesuffix("\n")))).read(Ask("P36"))
    number = LISTED[name].count("\n")
    assert len(reading.facts) == 9
    assert reading.skipped == (f"last line without a line end, as in a file that was cut off: 1 (line {number})",)
    assert open_source(str(written(tmp_path / name, LISTED[name]))).read(Ask("P36")).skipped == ()


LARGE: dict[str, tuple[Callable[[], str], str]] = {
    "line.csv": (lambda: "subject,relation,object\nA,P36," + "x" * 2_000_000, r"line\.csv:2: line too long"),
    "line.tsv.gz": (lambda: "subject\trelation\tobject\nA\tP36\t" + "x" * 2_000_000, r"line\.tsv\.gz:2: line too long"),
    "line.nt.gz": (lambda: GOOD + "x" * 2_500_000, r"line\.nt\.gz:4: line too long"),
    "line.ttl.gz": (lambda: GOOD + "x" * 3_500_000, r"line\.ttl\.gz:4: line too long"),
    "first.nt.gz": (lambda: "x" * 2_500_000 + "\n" + GOOD, r"first\.nt\.gz:1: line too long"),
    "all.yaml": (lambda: "P36:\n" + "  A: B\n" * 400_000, r"all\.yaml: too large to read at once"),
    "all.rdf": (lambda: "<a>" + "x" * 2_500_000 + "</a>", r"all\.rdf: too large"),
    "all.jsonld": (lambda: "[" + " " * 2_500_000 + "]", r"all\.jsonld: too large"),
    "one.json": (lambda: '[{"requested_rewrite": "' + "x" * 2_500_000 + '"}]', r"one\.json: one record is too long"),
}


@pytest.mark.parametrize("name", LARGE)
def test_lines_values_and_documents_have_bounds(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("LINE", "DOCUMENT"):
        monkeypatch.setenv(f"KBSYNC_MOST_{variable}", "2")
    text, message = LARGE[name]
    file = written(tmp_path / name, text())
    with pytest.raises(
        KbsyncError, match=rf"{message} .*\(at most \d+ MB; KBSYNC_MOST_\w+ sets|{message} \(at most"
    ) as caught:
        open_source(str(file)).read(Ask("P36"))
    assert "KBSYNC_MOST_" in str(caught.value)


DEEP = {
    "x.yaml": "[" * 100_000,
    "y.yaml": "P36: " + "{a: " * 100_000,
    "x.json": "[" * 100_000,
    "y.json": '[{"requested_rewrite": ' * 100_000,
    "x.ttl": "<http://a/x> <http://a/p> " + "[ <http://a/p> " * 100_000,
    "y.ttl": "<http://a/x> <http://a/p> " + "(" * 100_000,
    "x.trig": "<http://a/x> <http://a/p> " + "<<" * 100_000,
    "x.jsonld": "[" * 100_000,
    "x.rdf": "<a>" * 100_000,
    "x.nt": "<<" * 100_000,
}


@pytest.mark.parametrize("name", DEEP)
def test_what_is_nested_without_an_end_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(KbsyncError, match=name):
        open_source(str(written(tmp_path / name, DEEP[name]))).read(Ask("P36"))


def test_entities_that_stand_for_other_entities_are_refused(tmp_path: Path) -> None:
    entities = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10 if n else "lol"}">' for n in range(9))
    head = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:e="http://e/"'
    text = f"<!DOCTYPE r [{entities}]><rdf:RDF {head}><rdf:Description><e:p>&a8;</e:p></rdf:Description></rdf:RDF>"
    with pytest.raises(SourceError, match=r"x\.rdf:1: entity 'a1' stands for a file or for other entities"):
        open_source(str(written(tmp_path / "x.rdf", text))).read(Ask("P36"))


def test_an_alias_of_a_list_is_refused_and_one_of_a_text_is_not(tmp_path: Path) -> None:
    many = "- &many [a, b]\n" + "- {subject: A, relation: P36, object: B, subject_aliases: *many}\n" * 3000
    with pytest.raises(SourceError, match=r"x\.yaml:2:\d+: .*alias 'many', or one of a list or mapping"):
        open_source(str(written(tmp_path / "x.yaml", many))).read(Ask("P36"))
    text = "- {subject: &who France, relation: P36, object: Paris}\n- {subject: *who, relation: P37, object: French}\n"
    (fact,) = open_source(str(written(tmp_path / "x.yaml", text))).read(Ask("P37")).facts
    assert fact.subject.label == "France"


def test_a_bound_that_is_no_number_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KBSYNC_MOST_ROW", "a lot")
    with pytest.raises(SettingsError, match="KBSYNC_MOST_ROW='a lot': write a whole number of MB above 0"):
        open_source(str(written(tmp_path / "x.csv", TABLE)))
