"""One small world of statements, as a file and behind a real endpoint."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.oxigraph_server import serve, world

WORLD = r"""
wd:Q142 rdfs:label "France"@en, "Frankreich"@de ; wikibase:sitelinks 300 ; wdt:P31 wd:Q6256 ;
    p:P36 kb:s1 ; wdt:P36 wd:Q90 .
kb:s1 ps:P36 wd:Q90 ; wikibase:rank wikibase:NormalRank ; pq:P580 "0987-07-03T00:00:00Z"^^xsd:dateTime .
wd:Q90 rdfs:label "Paris"@en, "Paris"@de .

# Two current objects: both are read, a conflict for others to settle.
wd:Q750 rdfs:label "Bolivia"@en, "Bolivien"@de ; wikibase:sitelinks 250 ; wdt:P31 wd:Q6256 ; p:P36 kb:s2, kb:s3 .
kb:s2 ps:P36 kb:sucre ; wikibase:rank wikibase:NormalRank .
kb:s3 ps:P36 kb:lapaz ; wikibase:rank wikibase:NormalRank .
kb:sucre rdfs:label "Sucre"@mul .
kb:lapaz rdfs:label "La Paz"@en .

# The same object twice, and a wdt: triple that its statements overrule.
kb:twice rdfs:label "Twice"@en ; wdt:P36 wd:Q90 ; p:P36 kb:s4, kb:s5 ; wikibase:sitelinks 3 ; wdt:P31 kb:other .
kb:s4 ps:P36 kb:lapaz ; wikibase:rank wikibase:NormalRank ; pq:P580 "2011-01-01T00:00:00Z"^^xsd:dateTime .
kb:s5 ps:P36 kb:lapaz ; wikibase:rank wikibase:NormalRank ; pq:P580 "2001-01-01T00:00:00Z"^^xsd:dateTime .

# A user's own plain triple, with a label that has no language and one to be escaped.
kb:plain rdfs:label "AC\"DC\\ } #" ; wdt:P36 kb:lapaz .

# What is left out with a note.
kb:unlabelled p:P36 [ ps:P36 wd:Q90 ] .
kb:nowhere rdfs:label "Nowhere"@en ; p:P36 [ ps:P36 kb:nameless ] .
kb:nameless rdfs:label "sans nom"@fr .
kb:literal rdfs:label "Literal"@en ; p:P36 [ ps:P36 "Paris" ] .
kb:unknown rdfs:label "Unknown"@en ; p:P36 [ ps:P36 [] ] .
kb:skolem rdfs:label "Skolem"@en ; p:P36 [ ps:P36 <http://www.wikidata.org/.well-known/genid/0a1b> ] .
kb:novalue rdfs:label "No value"@en ; p:P36 [ wikibase:rank wikibase:PreferredRank ], [ ps:P36 wd:Q90 ] .
[] rdfs:label "Blank"@en ; wdt:P36 wd:Q90 .
"""


@pytest.fixture(scope="session")
def world_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world(tmp_path_factory.mktemp("world") / "world.ttl", WORLD)


@pytest.fixture(scope="session")
def endpoint(world_file: Path) -> Iterator[str]:
    with serve(world_file) as url:
        yield url
