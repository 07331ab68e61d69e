"""Mutated answers and files: each gives facts or one error of ours, whatever is in it.

`make fuzz` runs more examples (KBSYNC_FUZZ says how many of each).
"""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyoxigraph import DefaultGraph, RdfFormat, Store

from kbsync.errors import KbsyncError, SourceError
from kbsync.sources import Ask, Source, open_endpoint, open_source, read_subjects
from kbsync.sources.base import Access
from kbsync.sync.corpus import documents
from kbsync.sync.eval_cases import read_references
from kbsync.templates import check_file
from tests.datasets.test_reading import COUNTERFACT, KNOWEDIT, ZSRE
from tests.fuzz import EACH, damaged, within_memory

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ["", "uri", "bnode", "literal", "http://a/b", "en", "9" * 5000, "\ud800", "> } #", "-1", "x" * 300]
    ),
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner))


class Kept:
    """Answers of a real endpoint, by query; one of them is given in another form."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.number = -1
        self.change: Callable[[bytes], bytes] = bytes
        self.given = 0

    def find(self, query: str) -> bytes | None:
        body = self.answers.get(query, b'{"head": {"vars": []}, "results": {"bindings": []}}')
        self.given += 1
        return self.change(body) if self.given == self.number + 1 else body

    def keep(self, query: str, body: bytes) -> None:
        self.answers[query] = body


class Noted(Kept):
    """Keeps the answers, and gives none."""

    def find(self, query: str) -> bytes | None:
        return None


def read(source: "Source | Callable[[str], Source]", ask: Ask, *name: str) -> KbsyncError | None:
    """Read a source; return the error that it gives, of which no part is long, or None for facts with labels."""
    try:
        opened = source(*name) if callable(source) else source
        facts = opened.read(ask).facts
    except KbsyncError as error:
        return error if all(len(line) < 1500 for line in str(error).splitlines()) else None
    return None if all(fact.subject.label and fact.object.label for fact in facts) else KbsyncError("no label")


@pytest.fixture(scope="module")
def answers(endpoint: str) -> dict[str, bytes]:
    noted = Noted()
    open_endpoint(endpoint, Access(pages=noted)).read(Ask("P36", aliases=True))
    return noted.answers


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """All places in a JSON value."""
    found = [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += paths(inner, (*path, key))
    return found


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The value with another one in a place; ``KeyError`` is none at all."""
    if not path:
        return None if new is KeyError else new
    copy = dict(value) if isinstance(value, dict) else list(value)
    if new is KeyError and len(path) == 1:
        del copy[path[0]]
    else:
        copy[path[0]] = changed(value[path[0]], path[1:], None if new is KeyError else new)
    return copy


@EACH
@given(data=st.data())
def test_mutated_answers_of_an_endpoint(data: st.DataObject, answers: dict[str, bytes]) -> None:
    kept = Kept()
    kept.answers = answers
    kept.number = data.draw(st.integers(0, len(answers)), label="answer")

    def change(body: bytes) -> bytes:
        document = json.loads(body)
        for _ in range(data.draw(st.integers(1, 3), label="changes")):
            path = data.draw(st.sampled_from(paths(document)), label="path")
            document = changed(document, path, data.draw(VALUES | st.just(KeyError), label="value"))
        if data.draw(st.booleans(), label="bytes"):
            text = json.dumps(document).encode()
            place = data.draw(st.integers(0, len(text)), label="place")
            return text[:place] + data.draw(st.binary(max_size=4), label="put in") + text[place:]
        return json.dumps(document).encode()

    kept.change = change
    # Nobody listens there: an answer that is not whole is asked for again, and that fails.
    source = open_endpoint("http://127.0.0.1:1/", Access(pages=kept, sleep=lambda seconds: None))
    told = read(source, Ask("P36", aliases=True))
    if isinstance(told, SourceError):
        assert told.query
        assert str(told).startswith("http://127.0.0.1:1/, relation P36: ")
    within_memory()


def dumped(store: Store, form: RdfFormat) -> bytes:
    return store.dump(format=form, from_graph=None if form.supports_datasets else DefaultGraph()) or b""


TABLE = b'subject,relation,object,subject_id,since\nFrance,P36,Paris,Q142,0987-07-03\n"The ""Big""\n One",P36,X,,\n'
EDGES = b"id\tnode1\tlabel\tnode2\ne1\tQ142\tP36\tQ90\n\tQ90\tlabel\t'Paris'@fr\ne1\tP580\t^1839-07-12T00:00:00Z/11\n"
YAML = (
    b"- {subject: &a France, relation: P36, object: Paris, subject_aliases: [x]}\n"
    b'- {subject: *a, relation: P37, object: "\\u91ce"}\n'
)
MAPPED = b"P36:\n  France: Paris\n  'Japan': \"Tokyo\"\nP37: {France: French}\n"
OTHERS = {
    "x.csv": TABLE,
    "x.tsv": TABLE.replace(b",", b"\t"),
    "edges.tsv": EDGES,
    "x.yaml": YAML,
    "y.yaml": MAPPED,
    "counterfact.json": json.dumps([COUNTERFACT] * 2).encode(),
    "zsre.json": json.dumps([ZSRE] * 2).encode(),
    "knowedit.json": json.dumps([KNOWEDIT] * 2).encode(),
}
RDF = (".ttl", ".nt", ".nq", ".trig", ".rdf", ".jsonld", ".n3")


@pytest.fixture(scope="module")
def files(world_file: Path) -> dict[str, bytes]:
    store = Store()
    store.load(path=world_file)
    forms = {suffix: RdfFormat.from_extension(suffix[1:]) or RdfFormat.TURTLE for suffix in RDF}
    forms[".n3"] = RdfFormat.TURTLE
    return OTHERS | {f"x{suffix}": dumped(store, form) for suffix, form in forms.items()}


@pytest.mark.parametrize("name", [*OTHERS, *(f"x{suffix}" for suffix in RDF)])
@EACH
@given(data=st.data())
def test_mutated_files(name: str, data: st.DataObject, files: dict[str, bytes], tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(damaged(data, files[name]))
    for relation in ("P36", "zsRE") if name.endswith(".json") else ("P36",):
        told = read(open_source, Ask(relation), str(file))
        assert not isinstance(told, KbsyncError) or name in str(told)
    within_memory()


TEMPLATE = b"""P36:
  label: capital
  prompt: The capital of {} is
  paraphrases: [The capital city of {} is called, "{} has its capital in", "{}\'s capital is", "As for {}, it is"]
  question: "What is the capital of {}?"
  wordings: ["{}\'s capital city is"]
  scope: {class: Q515, min_sitelinks: 40}
"""
OWN_FILES: dict[str, tuple[bytes, Callable[[Path], object]]] = {
    "template.yaml": (TEMPLATE, check_file),
    "subjects.txt": (b"Q142\nFrance\n# x\n<http://a/b>\n", read_subjects),
    "references.json": (b'{"Paris": ["It is a city.", "\\u91ce"], "Rome": "A city."}', read_references),
    "corpus.jsonl": (
        b'{"text": "One."}\n{"text": null, "id": 3}\n{"text": "\\ud842\\udfb7"}\n',
        lambda p: list(documents(p)),
    ),
}


@pytest.mark.parametrize("name", OWN_FILES)
@EACH
@given(data=st.data())
def test_mutated_files_of_the_users_own(name: str, data: st.DataObject, tmp_path: Path) -> None:
    content, reader = OWN_FILES[name]
    file = tmp_path / name
    file.write_bytes(damaged(data, content))
    with suppress(KbsyncError):
        reader(file)
    within_memory()
