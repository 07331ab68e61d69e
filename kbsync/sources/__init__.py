"""Where facts come from: one interface, several kinds of source.

    wikidata, http(s) URL             a SPARQL endpoint                 kbsync.sources.sparql
    .ttl .nt .nq .rdf .jsonld ...     an RDF file, read in process      kbsync.sources.rdf_file
    .yaml .yml                        a user's own facts                kbsync.sources.yaml_file
    .csv .tsv                         the same in a table               kbsync.sources.table_file
    .tsv of KGTK                      an edge file                      kbsync.sources.kgtk_file
    .json                             a data set of edits               kbsync.sources.file_facts
    sqlite: postgresql:               a query of a database             kbsync.sources.table_file

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
from kbsync.sources.base import SECRET, Ask, Reading, Source, read_subjects

if TYPE_CHECKING:
    from kbsync.sources.base import Access
    from kbsync.sources.own_query import OwnQuery
    from kbsync.sources.sparql import SparqlSource


WIKIDATA = "https://query.wikidata.org/sparql"
RDF_SUFFIXES = (".ttl", ".nt", ".nq", ".rdf", ".owl", ".jsonld", ".n3", ".trig")
YAML_SUFFIXES = (".yaml", ".yml")
TABLE_SUFFIXES = (".csv", ".tsv")
DATA_SET_SUFFIX = ".json"

_KINDS = (
    "a source is 'wikidata', the http(s) address of a SPARQL endpoint, "
    f"an RDF file ({' '.join(RDF_SUFFIXES)}), a table ({' '.join(TABLE_SUFFIXES)}; both also with "
    f"{' '.join(COMPRESSED)} behind), a database (sqlite: or postgresql:), "
    f"a YAML file ({' '.join(YAML_SUFFIXES)}) or a data set ({DATA_SET_SUFFIX})"
)


def open_source(
    source: str, access: "Access | None" = None, *, asks: Iterable[Ask] = (), query: str | None = None
) -> Source:
    """Return the source that `source` names, an endpoint to be asked by `access`; nothing is read yet.

    A large file is gone through once for all of `asks`, which are to be read from it. `query` is one of the user's own
    (its text or its file), which a database needs.

    Raises SettingsError for a text that names no kind of source, SourceError for a file that is not there.
    """
    from kbsync.sources.own_query import read_query

    if re.match(r"(sqlite|postgres(ql)?)(\+\w+)?:", source):  # a database, well or badly named
        from kbsync.sources.table_file import Database

        return Database(source, None if query is None else read_query(query))
    own = None if query is None else read_query(query).check_sparql()
    if is_endpoint(source):
        return open_endpoint(source, access, own)
    return _open_file(Path(source), tuple(asks), own)


def is_endpoint(source: str) -> bool:
    """Whether `source` names an endpoint, well or badly, and no file."""
    return source == "wikidata" or re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", source) is not None


def is_wikidata(source: str) -> bool:
    """Whether `source` is Wikidata's query service, by its name or address."""
    return source in ("wikidata", WIKIDATA)


def open_endpoint(source: str, access: "Access | None" = None, own: "OwnQuery | None" = None) -> "SparqlSource":
    """Return the endpoint that `source` names, to be asked `own`; raises SettingsError for anything else."""
    from kbsync.sources.base import ALONE
    from kbsync.sources.sparql import SparqlSource

    if is_wikidata(source):
        # Wikidata cannot sort the millions of subjects that some relations have, so it picks a sample as it likes.
        return SparqlSource(WIKIDATA, name="wikidata", ordered_sample=False, access=access or ALONE, own=own)
    return SparqlSource(check_address(source), access=access or ALONE, own=own)


def check_address(url: str, what: str = "source") -> str:
    """Return an http(s) address as it is; raises SettingsError for one that is none, or that holds a secret."""
    told = f"{url.partition('://')[0]}://..." if "@" in url or SECRET.search(url) else url  # without a secret
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # .port raises ValueError for a port that is no number
    except ValueError as error:
        raise SettingsError(f"{what} {told!r} is not an address: check its host and port") from error
    if parts.scheme.lower() not in ("http", "https") or not host or re.search(r"[\s\x00-\x20<>\"\x7f-\uffff]", url):
        raise SettingsError(f"{what} {told!r} is not an http(s) address" + (f": {_KINDS}" if what == "source" else ""))
    if parts.username or parts.password or SECRET.search(parts.query):
        raise SettingsError(
            f"{what} at {host!r}: leave name, password and keys out of the address, the ledger records it"
        )
    return url


def _open_file(path: Path, asks: tuple[Ask, ...], own: "OwnQuery | None" = None) -> Source:
    kind = kind_of(path)
    known = RDF_SUFFIXES + TABLE_SUFFIXES + (() if is_compressed(path) else (*YAML_SUFFIXES, DATA_SET_SUFFIX))
    if kind not in known:
        raise SettingsError(f"unknown source {str(path)!r}: {_KINDS}")
    if not path.exists():
        raise SourceError(f"{path}: no such file; {_KINDS}")
    with reading(path):
        check_regular(path)
    if own is not None and kind not in RDF_SUFFIXES:
        raise SettingsError(f"--query does not go with {path}: it asks an endpoint, an RDF file or a database")
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

    return RdfFile(path, asks, own)
