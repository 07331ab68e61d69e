"""Where facts come from: one interface, several kinds of source.

    wikidata, http(s) URL             a SPARQL endpoint                 kbsync.sources.sparql
    .ttl .nt .nq .rdf .jsonld ...     an RDF file, read in process      kbsync.sources.rdf_file
    .yaml .yml                        a user's own facts                kbsync.sources.yaml_file
    .csv .tsv                         the same in a table               kbsync.sources.table_file
    .tsv of KGTK                      an edge file                      kbsync.sources.kgtk_file
    .json                             a data set of edits               kbsync.sources.file_facts

An endpoint, an RDF file and KGTK edges are asked with the same queries (`kbsync.sources.queries`) and their answers
are read by the same code (`kbsync.sources.statements`), so that they agree by construction.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kbsync.errors import SettingsError, SourceError
from kbsync.files import COMPRESSED, check_regular, is_compressed, kind_of, reading
from kbsync.sources.base import Ask, Reading, Source, read_subjects

if TYPE_CHECKING:
    from kbsync.sources.base import Access
    from kbsync.sources.sparql import SparqlSource

__all__ = [
    "DATA_SET_SUFFIX",
    "RDF_SUFFIXES",
    "TABLE_SUFFIXES",
    "WIKIDATA",
    "YAML_SUFFIXES",
    "Ask",
    "Reading",
    "Source",
    "is_endpoint",
    "is_wikidata",
    "open_endpoint",
    "open_source",
    "read_subjects",
]

WIKIDATA = "https://query.wikidata.org/sparql"
RDF_SUFFIXES = (".ttl", ".nt", ".nq", ".rdf", ".owl", ".jsonld", ".n3", ".trig")
YAML_SUFFIXES = (".yaml", ".yml")
TABLE_SUFFIXES = (".csv", ".tsv")
DATA_SET_SUFFIX = ".json"

_KINDS = (
    "a source is 'wikidata', the http(s) address of a SPARQL endpoint, "
    f"an RDF file ({' '.join(RDF_SUFFIXES)}), a table ({' '.join(TABLE_SUFFIXES)}; both also with "
    f"{' '.join(COMPRESSED)} behind), a YAML file ({' '.join(YAML_SUFFIXES)}) or a data set ({DATA_SET_SUFFIX})"
)


def open_source(source: str, access: "Access | None" = None, *, asks: Iterable[Ask] = ()) -> Source:
    """Return the source that `source` names, an endpoint to be asked by `access`; nothing is read yet.

    A large file is gone through once for all of `asks`, which are to be read from it.

    Raises SettingsError for a text that names no kind of source, SourceError for a file that is not there.
    """
    if is_endpoint(source):
        return open_endpoint(source, access)
    return _open_file(Path(source), tuple(asks))


def is_endpoint(source: str) -> bool:
    """Whether `source` names an endpoint, well or badly, and no file."""
    return source == "wikidata" or re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", source) is not None


def is_wikidata(source: str) -> bool:
    """Whether `source` is Wikidata's query service, by its name or address."""
    return source in ("wikidata", WIKIDATA)


def open_endpoint(source: str, access: "Access | None" = None) -> "SparqlSource":
    """Return the endpoint that `source` names; raises SettingsError for anything else."""
    from kbsync.sources.base import ALONE
    from kbsync.sources.sparql import SparqlSource

    if is_wikidata(source):
        # Wikidata cannot sort the millions of subjects that some relations have, so it picks a sample as it likes.
        return SparqlSource(WIKIDATA, name="wikidata", ordered_sample=False, access=access or ALONE)
    return SparqlSource(_check_endpoint(source), access=access or ALONE)


def _check_endpoint(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # .port raises ValueError for a port that is no number
    except ValueError as error:
        raise SettingsError(f"source {url!r} is not an address: {error}") from error
    if parts.scheme.lower() not in ("http", "https") or not host or re.search(r"[\s\x00-\x20<>\"\x7f-\uffff]", url):
        raise SettingsError(f"source {url!r} is not an http(s) address: {_KINDS}")
    if parts.username or parts.password:
        raise SettingsError(f"source at {host!r}: leave name and password out of the address, the ledger records it")
    return url


def _open_file(path: Path, asks: tuple[Ask, ...]) -> Source:
    kind = kind_of(path)
    known = RDF_SUFFIXES + TABLE_SUFFIXES + (() if is_compressed(path) else (*YAML_SUFFIXES, DATA_SET_SUFFIX))
    if kind not in known:
        raise SettingsError(f"unknown source {str(path)!r}: {_KINDS}")
    if not path.exists():
        raise SourceError(f"{path}: no such file; {_KINDS}")
    with reading(path):
        check_regular(path)
    if kind in YAML_SUFFIXES:
        from kbsync.sources.yaml_file import YamlFile

        return YamlFile(path)
    if kind == DATA_SET_SUFFIX:
        from kbsync.sources.file_facts import DataSetFile

        return DataSetFile(path)
    if kind in TABLE_SUFFIXES:
        from kbsync.sources.table_file import TableFile, is_kgtk

        if not is_kgtk(path):
            return TableFile(path)
        from kbsync.sources.kgtk_file import KgtkFile

        return KgtkFile(path, asks)
    from kbsync.sources.rdf_file import RdfFile

    return RdfFile(path, asks)
