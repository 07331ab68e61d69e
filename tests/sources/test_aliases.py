"""Aliases of subjects and objects, from each kind of source."""

from pathlib import Path

import pytest

from kbsync.errors import SourceError
from kbsync.resources import fixtures_folder
from kbsync.sources import Ask, open_source
from tests.oxigraph_server import serve, world

KB = "http://kbsync.example/entity/"
NAMED = """
wd:Q30 rdfs:label "United States"@en ; skos:altLabel "USA"@en, "US"@mul, "U.S."@EN, "  the   States "@en, "EUA"@pt ;
    p:P36 [ ps:P36 kb:dc ], [ ps:P36 wd:Q61 ] .
kb:dc rdfs:label "D. C."@en ; skos:altLabel "DC" .
wd:Q61 rdfs:label "Washington"@en .
<urn:x:1> rdfs:label "X"@en ; skos:altLabel "Ex"@en ; wdt:P36 wd:Q61 .
"""


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world(tmp_path_factory.mktemp("named") / "named.ttl", NAMED)


def test_file_and_endpoint_agree(named: Path) -> None:
    from_file = open_source(str(named)).read(Ask("P36", aliases=True)).aliases
    assert from_file == {
        "Q30": ("U.S.", "US", "USA", "the States"),
        f"{KB}dc": ("DC",),
        "Q61": (),
        "urn:x:1": ("Ex",),
    }
    with serve(named) as url:
        assert open_source(url).read(Ask("P36", aliases=True)).aliases == from_file


def test_another_language(named: Path) -> None:
    read = open_source(str(named)).read(Ask("P36", language="pt", aliases=True))
    assert read.aliases is not None
    assert read.aliases["Q30"] == ("EUA", "US")


def test_they_are_not_read_unasked(named: Path) -> None:
    asked, unasked = (open_source(str(named)).read(Ask("P36", aliases=aliases)) for aliases in (True, False))
    assert unasked.aliases is None
    assert unasked.facts == asked.facts


def test_the_fixtures_have_some() -> None:
    read = open_source(str(fixtures_folder() / "wikidata" / "later.ttl")).read(Ask("P30", aliases=True)).aliases
    assert read is not None
    assert {"USA", "US"} <= set(read["Q30"])
    assert "UK" in read["Q145"]


def test_a_yaml_file(tmp_path: Path) -> None:
    path = tmp_path / "facts.yaml"
    path.write_text(
        """
- {subject: Ada, relation: P20, object: United Kingdom, object_id: Q145, object_aliases: [UK, "U.K."]}
- {subject: Bob, subject_aliases: [Robert], relation: P20, object: Oslo}
- {subject: Bob, subject_aliases: [Rob], relation: P19, object: UK, object_id: Q145, object_aliases: [Britain]}
"""
    )
    source = open_source(str(path))
    assert source.read(Ask("P20")).aliases is None
    everywhere = ("Britain", "U.K.", "UK")  # what the file calls an entity anywhere
    assert source.read(Ask("P20", aliases=True)).aliases == {
        "ada": (),
        "Q145": everywhere,
        "bob": ("Rob", "Robert"),
        "oslo": (),
    }


def test_what_is_wrong_with_a_yaml_files_aliases(tmp_path: Path) -> None:
    path = tmp_path / "facts.yaml"
    path.write_text(
        "- {subject: A, relation: P20, object: B, object_aliases: UK}\n"
        "- {subject: A, relation: P20, object: B, subject_aliases: [3, [C]]}\n"
    )
    with pytest.raises(SourceError) as wrong:
        open_source(str(path)).read(Ask("P20"))
    assert str(wrong.value).splitlines() == [
        f"{path}:1:58: object_aliases is not a list: write [one, another]",
        f"{path}:2:60: alias 3 is a number: put it in quotes",
        f"{path}:2:63: a list or mapping where the alias should be; write text",
    ]
