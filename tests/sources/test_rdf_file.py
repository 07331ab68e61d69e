"""RDF files: each format, and files that are not whole."""

import gc
from pathlib import Path

import pytest
from pyoxigraph import DefaultGraph, RdfFormat, Store

from kbsync.errors import SettingsError, SourceError
from kbsync.sources import RDF_SUFFIXES, Ask, open_source, rdf_file

FORMATS = {
    ".ttl": RdfFormat.TURTLE,
    ".nt": RdfFormat.N_TRIPLES,
    ".nq": RdfFormat.N_QUADS,
    ".rdf": RdfFormat.RDF_XML,
    ".owl": RdfFormat.RDF_XML,
    ".jsonld": RdfFormat.JSON_LD,
    ".n3": RdfFormat.TURTLE,  # Turtle is N3, and pyoxigraph writes no other
    ".trig": RdfFormat.TRIG,
}


def convert(world_file: Path, path: Path) -> Path:
    """Write the world in the format of `path`'s suffix."""
    store = Store()
    store.load(path=world_file)
    form = FORMATS[path.suffix]
    path.write_bytes(store.dump(format=form, from_graph=None if form.supports_datasets else DefaultGraph()) or b"")
    return path


@pytest.mark.parametrize("suffix", RDF_SUFFIXES)
def test_every_format_gives_the_same_facts(suffix: str, world_file: Path, tmp_path: Path) -> None:
    file = convert(world_file, tmp_path / f"world{suffix}")
    assert open_source(str(file)).read(Ask("P36")).facts == open_source(str(world_file)).read(Ask("P36")).facts


@pytest.mark.parametrize("suffix", RDF_SUFFIXES)
@pytest.mark.parametrize("part", [0.25, 0.5, 0.75])
def test_a_file_cut_in_the_middle_is_refused_with_its_line(
    suffix: str, part: float, world_file: Path, tmp_path: Path
) -> None:
    file = convert(world_file, tmp_path / f"world{suffix}")
    data = file.read_bytes()
    # Inside an IRI: a cut right after a whole statement cannot be told from a shorter file.
    end = data.index(b"http://", int(len(data) * part)) + 4
    file.write_bytes(data[:end])
    with pytest.raises(SourceError, match=rf"world{suffix}:\d+.*cut off.*nothing was taken") as caught:
        open_source(str(file)).read(Ask("P36"))
    assert str(file) in str(caught.value)


def test_xml_cut_between_two_elements_is_refused(world_file: Path, tmp_path: Path) -> None:
    file = convert(world_file, tmp_path / "world.rdf")
    data = file.read_bytes()
    file.write_bytes(data[: data.index(b"</rdf:Description>", len(data) // 2) + len(b"</rdf:Description>")])
    Store().load(path=file)  # pyoxigraph alone takes it
    with pytest.raises(SourceError, match=r"world.rdf:\d+:\d+: not whole XML \(no element found\)"):
        open_source(str(file)).read(Ask("P36"))


def test_named_graphs_are_read_as_one(tmp_path: Path) -> None:
    file = tmp_path / "x.trig"
    file.write_text(
        "<http://g/1> { <http://a/x> <http://www.wikidata.org/prop/direct/P6> <http://a/y> }\n"
        '<http://g/2> { <http://a/x> <http://www.w3.org/2000/01/rdf-schema#label> "X"@en .\n'
        '<http://a/y> <http://www.w3.org/2000/01/rdf-schema#label> "Y"@en }\n'
    )
    (fact,) = open_source(str(file)).read(Ask("P6")).facts
    assert (fact.subject.label, fact.object.label) == ("X", "Y")


def test_a_large_file_is_read_from_a_store_on_disk(
    world_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = open_source(str(world_file)).read(Ask("P36", aliases=True))
    monkeypatch.setattr(rdf_file, "LARGE", 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    source = open_source(str(world_file))
    read = source.read(Ask("P36", aliases=True))
    assert (read.facts, read.aliases) == (wanted.facts, wanted.aliases)
    assert len(list(tmp_path.iterdir())) == 1
    del source
    gc.collect()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "# nothing here\n"])
def test_a_file_without_a_statement_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "x.ttl").write_text(content)
    with pytest.raises(SourceError, match=r"x\.ttl: holds no statement"):
        open_source(str(tmp_path / "x.ttl")).read(Ask("P36"))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.ttl").write_bytes(b'<http://a> <http://b> "caf\xe9" .\n')
    with pytest.raises(SourceError, match=r"x\.ttl: holds no statement that can be read"):
        open_source(str(tmp_path / "x.ttl")).read(Ask("P36"))


def test_a_file_that_went_away_is_told(tmp_path: Path, world_file: Path) -> None:
    file = convert(world_file, tmp_path / "x.nt")
    source = open_source(str(file))
    file.unlink()
    with pytest.raises(SourceError, match=r"x\.nt: cannot be read .*check the name"):
        source.read(Ask("P36"))


def test_a_relation_of_ones_own_is_refused(world_file: Path) -> None:
    with pytest.raises(SettingsError, match=r"'works_for': nothing says how RDF file .*world\.ttl states it: .*YAML"):
        open_source(str(world_file)).read(Ask("works_for"))
