"""A real SPARQL server for tests (`serve`, from the package), and small worlds to load into it.

`world(path, triples)` writes a Turtle file with Wikidata's prefixes.
"""

from pathlib import Path

from kbsync.sources.loopback import serve

__all__ = ["serve", "world"]

PREFIXES = """\
@prefix wd: <http://www.wikidata.org/entity/> .
@prefix wdt: <http://www.wikidata.org/prop/direct/> .
@prefix p: <http://www.wikidata.org/prop/> .
@prefix ps: <http://www.wikidata.org/prop/statement/> .
@prefix pq: <http://www.wikidata.org/prop/qualifier/> .
@prefix wikibase: <http://wikiba.se/ontology#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
@prefix skos: <http://www.w3.org/2004/02/skos/core#> .
@prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
@prefix kb: <http://kbsync.example/entity/> .
"""


def world(path: Path, triples: str) -> Path:
    """Write `triples` (Turtle, Wikidata's prefixes and ``kb:`` known) to `path`, and return it."""
    path.write_text(PREFIXES + triples, encoding="utf-8")
    return path
