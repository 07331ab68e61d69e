"""A dump of any size, made up: N-Triples in the shape of Wikidata's full dump, item after item.

An item has labels in twelve languages and truthy triples of many relations, of which one item in `EVERY` has P36 (with
its statement node and rank) and P30: what is asked for is a small part, as it is of a real dump.
"""

from collections.abc import Iterator
from itertools import count, islice

__all__ = ["ASKED", "EVERY", "LINES", "dump_lines"]

LINES = 25
"""statements of an item"""
EVERY = 40
"""one item in so many has the relations `ASKED`"""
ASKED = ("P36", "P30")

_PROP, _ONTOLOGY = "http://www.wikidata.org/prop", "http://wikiba.se/ontology"
_LANGUAGES = ("en", "de", "fr", "es", "it", "nl", "pt", "sv", "pl", "ru", "ja", "zh")


def dump_lines(triples: int) -> Iterator[str]:
    """Yield `triples` lines, with their ends; the last item may be cut short."""
    return islice((line for number in count() for line in _item(number)), triples)


def _item(number: int) -> list[str]:
    item = f"<http://www.wikidata.org/entity/Q{number + 1}>"
    lines = [f'{item} <http://www.w3.org/2000/01/rdf-schema#label> "Item {number} {tag}"@{tag} .' for tag in _LANGUAGES]
    if number % EVERY == 0:
        node = f"<http://www.wikidata.org/entity/statement/Q{number + 1}-36>"
        other = f"<http://www.wikidata.org/entity/Q{number + 2}>"
        lines += [
            f"{item} <{_PROP}/P36> {node} .",
            f"{node} <{_PROP}/statement/P36> {other} .",
            f"{node} <{_ONTOLOGY}#rank> <{_ONTOLOGY}#NormalRank> .",
            f"{item} <{_PROP}/direct/P36> {other} .",
            f"{item} <{_PROP}/direct/P30> {other} .",
        ]
    lines += [f"{item} <{_PROP}/direct/P{2000 + more}> <http://a/{more}> ." for more in range(LINES - len(lines))]
    return [f"{line}\n" for line in lines]
