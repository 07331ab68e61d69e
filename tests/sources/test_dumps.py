"""Dumps: compressed files, and what is sifted from large ones in lines."""

import bz2
import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
from backports import zstd
from pyoxigraph import RdfFormat, Store

from kbsync.errors import SourceError
from kbsync.facts import Entity, Fact
from kbsync.sources import Ask, dump_lines, open_source, rdf_file
from tests.oxigraph_server import world

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": lambda data: bytes(zstd.compress(data)),
}
ASKS = (
    Ask("P36"),
    Ask("P36", language="de,fr", aliases=True),
    Ask("P36", class_id="Q6256", limit=1),
    Ask("P36", min_sitelinks=200),
    Ask("P36", subjects=("Bolivia", "Q142", "nobody")),
)


@pytest.fixture(scope="module")
def lines(world_file: Path) -> bytes:
    """The world as N-Triples, in an order that has nothing to do with its subjects."""
    store = Store()
    store.load(path=world_file)
    dumped = store.dump(format=RdfFormat.N_QUADS) or b""
    mixed = sorted(line[::-1] for line in dumped.splitlines())
    return b"# a comment\n\n" + b"".join(line[::-1] + b"\n" for line in mixed)


@pytest.fixture
def sifting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file counts as large."""
    monkeypatch.setattr(rdf_file, "LARGE", 0)


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("form", [".nt", ".ttl"])
def test_a_compressed_file_gives_the_same_facts(
    form: str, compression: str, lines: bytes, world_file: Path, tmp_path: Path
) -> None:
    file = tmp_path / f"world{form}{compression}"
    file.write_bytes(COMPRESS[compression](lines if form == ".nt" else world_file.read_bytes()))
    read, wanted = (open_source(str(path)).read(Ask("P36", aliases=True)) for path in (file, world_file))
    assert (read.facts, read.aliases) == (wanted.facts, wanted.aliases)


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("form", [".nt", ".ttl"])
@pytest.mark.parametrize("damage", ["cut", "garbage"])
def test_a_damaged_compressed_file_is_refused(
    damage: str, form: str, compression: str, lines: bytes, tmp_path: Path
) -> None:
    packed = COMPRESS[compression](lines)
    file = tmp_path / f"world{form}{compression}"
    file.write_bytes(packed[: len(packed) // 2] if damage == "cut" else b"no such bytes" * 9)
    with pytest.raises(SourceError, match=r"world.*: cut off or damaged \(.*get it again: nothing was taken") as caught:
        open_source(str(file)).read(Ask("P36"))
    assert str(caught.value).count(file.name) == 1


@pytest.mark.usefixtures("sifting")
@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize("form", [".nt", ".nq"])
@pytest.mark.parametrize("last", [0, 7, dump_lines._LAST])  # of one byte all nodes have the same bits
def test_what_is_sifted_gives_the_same_facts(
    last: int, form: str, ask: Ask, lines: bytes, world_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dump_lines, "_LAST", last)
    file = tmp_path / f"world{form}"
    file.write_bytes(lines)
    read, wanted = open_source(str(file)).read(ask), open_source(str(world_file)).read(ask)
    assert (read.facts, read.aliases) == (wanted.facts, wanted.aliases)
    assert [line.split(" (")[0] for line in read.skipped] == [line.split(" (")[0] for line in wanted.skipped]


@pytest.mark.usefixtures("sifting")
def test_relations_asked_together_are_sifted_together(lines: bytes, tmp_path: Path) -> None:
    file = tmp_path / "world.nt"
    file.write_bytes(lines.replace(b"direct/P31>", b"direct/P30>"))
    asks = [Ask("P30"), Ask("P36")]
    source = open_source(str(file), asks=asks)
    assert isinstance(source, rdf_file.RdfFile)
    opened = [source._needed.store_for(ask) for ask in asks]
    assert opened[0] is opened[1]
    assert source._needed.store_for(Ask("P36", language="de")) is not opened[0]
    assert [len(source.read(ask).facts) > 0 for ask in asks] == [False, True]  # no object of P30 has a label


@pytest.mark.usefixtures("sifting")
def test_a_kept_part_that_is_large_lies_on_disk(lines: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stores").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "stores"))
    monkeypatch.setattr(dump_lines, "LARGE", 0)
    file = tmp_path / "world.nt"
    file.write_bytes(lines)
    source = open_source(str(file))
    assert source.read(Ask("P36")).facts
    assert [path.name for path in (tmp_path / "stores").glob("*/*")] == ["store"]


WELL = b"<http://a/x> <http://www.wikidata.org/prop/direct/P36> <http://a/y> .\n"


@pytest.mark.usefixtures("sifting")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (WELL + b"<http://a/x> <http://b/p> <http://a/", "2: not whole RDF .*cut off"),
        (WELL + b"<http://a/x> <http://b/p>", "2: not whole RDF .*cut off"),
        (b"# nothing\n\n", " holds no statement"),
        (b"", " holds no statement"),
    ],
)
def test_a_dump_that_is_cut_or_empty_is_refused(text: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "dump.nt"
    file.write_bytes(text)
    with pytest.raises(SourceError, match=rf"dump\.nt:{message}"):
        open_source(str(file)).read(Ask("P36"))


def test_a_truthy_dump_has_no_statement_nodes(tmp_path: Path) -> None:
    label = "<http://www.w3.org/2000/01/rdf-schema#label>"
    wd, wdt = "http://www.wikidata.org/entity/", "http://www.wikidata.org/prop/direct/"
    file = tmp_path / "truthy.nt.gz"
    text = f'<{wd}Q90> {label} "Paris"@en .\n<{wd}Q142> <{wdt}P36> <{wd}Q90> .\n<{wd}Q142> {label} "France"@en .\n'
    file.write_bytes(gzip.compress(text.encode()))
    (fact,) = open_source(str(file)).read(Ask("P36")).facts
    assert fact == Fact(Entity("France", "Q142"), "P36", Entity("Paris", "Q90"))


_PAGE = """@prefix schema: <http://schema.org/> .
<{scheme}://www.wikidata.org/wiki/Special:EntityData/Q{number}> schema:about wd:Q{number} ; wikibase:sitelinks {count} .
"""


@pytest.fixture(params=[".ttl", ".nt", ".nt.gz", ".trig"])
def dumped(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Path]:
    """Writes Turtle into a file of each kind, those in lines as N-Triples."""

    def write(text: str) -> Path:
        turtle = world(tmp_path / "dump.ttl", text)
        file = tmp_path / f"dump{request.param}"
        if request.param == ".trig":
            prefixes = turtle.read_text().removesuffix(text)
            pages = "".join(line for line in text.splitlines(keepends=True) if line.startswith("@"))
            rest = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("@"))
            file.write_text(f"{prefixes}{pages}<http://a/graph> {{ {rest} }}")
        elif request.param != ".ttl":
            store = Store()
            store.load(path=turtle)
            lines = store.dump(format=RdfFormat.N_QUADS) or b""
            file.write_bytes(gzip.compress(lines) if request.param == ".nt.gz" else lines)
        return file

    return write


TWO = """wd:Q142 rdfs:label "France"@en ; wdt:P36 wd:Q90 . wd:Q90 rdfs:label "Paris"@en .
wd:Q35 rdfs:label "Denmark"@en ; wdt:P36 wd:Q1748 . wd:Q1748 rdfs:label "Copenhagen"@en .
"""


@pytest.mark.usefixtures("sifting")
@pytest.mark.parametrize("scheme", ["https", "http"])
def test_a_dump_tells_sitelinks_of_the_page_and_not_of_the_entity(dumped: Callable[[str], Path], scheme: str) -> None:
    pages = "".join(_PAGE.format(scheme=scheme, number=number, count=count) for number, count in ((142, 300), (35, 20)))
    article = "<https://en.wikipedia.org/wiki/Denmark> <http://schema.org/about> wd:Q35 .\n"
    source = open_source(str(dumped(TWO + pages + article)))
    read = {least: source.read(Ask("P36", min_sitelinks=least)).facts for least in (0, 20, 21, 301)}
    named = {least: [fact.subject.label for fact in facts] for least, facts in read.items()}
    assert named == {0: ["Denmark", "France"], 20: ["Denmark", "France"], 21: ["France"], 301: []}


@pytest.mark.usefixtures("sifting")
def test_a_dump_without_sitelinks_says_so(dumped: Callable[[str], Path]) -> None:
    source = open_source(str(dumped(TWO)))
    with pytest.raises(SourceError, match=r"dump\..*, relation P36: has no number of sitelinks .*narrow .*--class"):
        source.read(Ask("P36", min_sitelinks=1))
    assert source.read(Ask("P37", min_sitelinks=1)).facts == ()  # of what is not there, that is not the trouble
    assert len(source.read(Ask("P36")).facts) == 2
