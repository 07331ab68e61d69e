"""Whatever a label holds, it stays a label: in a prompt, in a query, in a table, and in the ledger."""

import csv
import io
import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from pyoxigraph import Literal

from kbsync.errors import SettingsError
from kbsync.ledger import Ledger
from kbsync.report.console import plain
from kbsync.shapes import iri_of
from kbsync.sources import Ask, open_source, rdf_file
from kbsync.sources.base import MOST_LETTERS, clean
from kbsync.sync.known import prompt_of
from kbsync.sync.plan import plan_for
from tests.homes import TEMPLATES, Editable, done, kbsync, small

__all__ = ["small"]

NASTY = (
    *("[red]Ada[/red]", "[link=http://a]b", "[/]", ":smile:", "\\[bold]", "\x1b[31mred\x1b[0m"),
    *("{}", "{0}", "{subject.__class__}", "{{}}", "%s %(a)s", "${x}", "}"),
    *('"', "'", '"""', "\\", '\\"', "\\n", '" } UNION { ?a ?b ?c', "' ; DROP TABLE facts; --", "<http://a/b>x", "?x"),
    *("\u202eabc", "\u200fRTL\u200e", "\u2066x", "עברית", "e\u0301\u0301\u0301", "\u0301x", "👩\u200d👩\u200d👧", "🇫🇷"),
    *("a\nb", "a\r\nb", "\u2028x\u2029", "a\tb", "\x00a", "\x85", "a" * MOST_LETTERS, "a " * 5_000, "ﷺ" * 10_000),
    *("~", "null", "1984", "#x", "- a", "a: b", "=1+1", "Q42", "NO"),
)
ALPHABET = st.one_of(
    st.characters(exclude_categories=["Cs"]), st.sampled_from("[]{}<>\"'\\|&%$?#\n\t\u202e\u200f\u0301")
)
LABELS = st.one_of(st.sampled_from(NASTY), st.text(ALPHABET, min_size=1, max_size=30)).filter(clean)
"""of something that can be read: what has nothing but control characters is refused as empty"""
NEW = itertools.count()


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    with TemporaryDirectory(prefix="kbsync-") as folder, ExitStack() as stack:
        # Of files in lines, what is asked for is sifted, as of a dump.
        patch = pytest.MonkeyPatch()
        stack.callback(patch.undo)
        patch.setattr(rdf_file, "LARGE", 0)
        yield Path(folder)


def write_yaml(path: Path, facts: dict[str, str]) -> None:
    listed = [{"subject": subject, "relation": "P36", "object": thing} for subject, thing in facts.items()]
    path.write_text(yaml.safe_dump(listed, allow_unicode=True), encoding="utf-8")


def write_csv(path: Path, facts: dict[str, str]) -> None:
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow(["subject", "relation", "object"])
    rows.writerows((subject, "P36", thing) for subject, thing in facts.items())
    path.write_text(out.getvalue(), encoding="utf-8", newline="")


def write_nt(path: Path, facts: dict[str, str]) -> None:
    lines = []
    for number, pair in enumerate(facts.items()):
        nodes = [f"<http://example.org/{number}/{role}>" for role in ("subject", "object")]
        lines.append(f"{nodes[0]} <http://www.wikidata.org/prop/direct/P36> {nodes[1]} .")
        lines += [
            f"{node} <http://www.w3.org/2000/01/rdf-schema#label> {Literal(label, language='en')} ."
            for node, label in zip(nodes, pair, strict=True)
        ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")


WRITERS = {".yaml": write_yaml, ".csv": write_csv, ".nt": write_nt}


def usable(label: str) -> bool:
    return len(clean(label)) <= MOST_LETTERS


def pulled(base: Path, suffix: str, facts: dict[str, str]) -> Path:
    """Pull these facts, with one beside them, into a new home."""
    home = base / f"home{next(NEW)}"
    (home / "templates").mkdir(parents=True)
    (home / "templates" / "own.yaml").write_text(TEMPLATES, encoding="utf-8")
    WRITERS[suffix](home / f"facts{suffix}", {**facts, "Atlantis": "Poseidonis"})
    ran = done("pull", "--home", home, "--source", home / f"facts{suffix}", "--relation", "P36")
    check_shown(ran.out)
    return home


def check_shown(text: str) -> None:
    """Nothing in a table acts on the terminal."""
    assert all(letter == "\n" or letter.isprintable() or letter in text_of_plain(letter) for letter in text)
    assert "\x1b" not in text
    assert "\u202e" not in text


def text_of_plain(letter: str) -> str:
    return plain(letter).plain


@settings(
    max_examples=3, phases=(Phase.explicit, Phase.generate), deadline=None, suppress_health_check=list(HealthCheck)
)
@given(facts=st.lists(st.tuples(LABELS, LABELS), min_size=8, max_size=16, unique_by=lambda pair: clean(pair[0])))
@example(facts=[("[red]Ada[/red] {0} \"\\' \u202e", "{} [bold]x")])
@pytest.mark.parametrize("suffix", WRITERS)
def test_labels_go_from_the_file_into_plan_and_status_as_they_are(
    suffix: str, base: Path, facts: list[tuple[str, str]]
) -> None:
    home = pulled(base, suffix, dict(facts))
    wanted = {(clean(subject), clean(thing)) for subject, thing in facts if usable(subject) and usable(thing)}
    plan = plan_for(home, "practice")
    found = {(row.subject, row.object) for row in plan.rows}
    assert found == wanted | {("Atlantis", "Poseidonis")}
    for row in plan.rows:
        assert row.sign == "+"
        assert row.request is not None
        assert prompt_of(row.request) == "The capital of " + row.subject + " is"
    for command in ("plan", "status"):
        ran = done(command, "--home", home, "--model", "practice")
        check_shown(ran.out)
        assert "Atlantis" in ran.out
    counts = done("status", "--home", home, "--model", "practice", "--json").json["counts"]
    assert counts["+"] == len(plan.rows)


@settings(
    max_examples=30, phases=(Phase.explicit, Phase.generate), deadline=None, suppress_health_check=list(HealthCheck)
)
@given(label=LABELS)
@pytest.mark.parametrize("large", [False, True])
def test_a_label_asked_for_finds_its_subject_and_no_other(large: bool, base: Path, label: str) -> None:
    label = clean(label)
    try:
        ask = Ask("P36", subjects=(label,))
    except SettingsError:
        assert not label or label.startswith("<") or "://" in label
        return
    file = base / f"asked{next(NEW)}.nt"
    write_nt(file, {label: "Here", "Atlantis": "Poseidonis", f"{label} ": "Elsewhere"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rdf_file, "LARGE", 0 if large else 2**20)
        facts = open_source(str(file)).read(ask).facts
    found = len(label) <= MOST_LETTERS and iri_of(label) is None
    assert [fact.object.label for fact in facts] == (["Here"] if found else [])


def test_labels_go_through_apply_and_export(base: Path, small: Editable) -> None:
    chosen = (
        "[red]Ada[/red]",
        "{0} {}",
        "\"'\\",
        "\u202e\u200fעברית",
        "e\u0301\u0301",
        "👩\u200d👩\u200d👧 🇫🇷",
        "a\nb\x00",
    )
    facts = dict.fromkeys(chosen, "Paris") | {f"Place {number}": label for number, label in enumerate(chosen)}
    home = pulled(base, ".csv", facts)
    # Whether a model this small can say such labels is not the question.
    result: Any = small.apply(home, "--force")
    with Ledger.open(home, create=False) as ledger:
        written = {(edit.subject, edit.object) for edit in ledger.active_edits(ledger.models()[0].key)}
    assert result["edits"] == len(facts) + 1
    assert written == {(clean(subject), clean(thing)) for subject, thing in facts.items()} | {
        ("Atlantis", "Poseidonis")
    }
    for command in ("status", "plan", "history"):
        check_shown(done(command, "--home", home, *small.model).out)
    done("export", "--home", home, *small.model, "--to", home / "out")
    assert (home / "out").is_dir()


def test_what_is_too_long_for_the_model_is_told(base: Path, small: Editable) -> None:
    home = pulled(base, ".yaml", {"ﷺ" * MOST_LETTERS: "Paris"})
    ran = kbsync("apply", "--home", home, *small.arguments, "--yes")
    assert ran.code == 1
    assert "too long for" in ran.err
    assert "P36 of 'ﷺﷺ" in ran.err
    assert "kbsync retract" in ran.err
