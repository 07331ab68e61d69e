"""``kbsync stats``: the table, the shared file, and an apply that needs no corpus."""

import io
from pathlib import Path

import pytest
import typer

from kbsync.cli.main import app
from kbsync.cli.options import Options, command, family
from kbsync.report.console import Lines
from tests.conftest import Run
from tests.homes import COUNTRIES, SWAPPED, WIDE, Editable, done, make_home, write_preset

LENGTH = ("--tokens", 600, "--sequence-length", 32)


def test_the_table_and_what_is_on_record(small: Editable, tmp_path: Path) -> None:
    home = ("--home", tmp_path / "home")
    first = done("stats", *home, *small.solving, *LENGTH)
    assert "covariance over small-corpus.txt, in rows of 32 tokens" in first.out
    assert "has no preset" not in first.out  # layers and lambda are given
    assert first.err.splitlines() == ["loading the model", "covariance"]
    again = done("stats", "--json", *home, *small.solving, *LENGTH).json
    assert again["corpus"] == "small-corpus.txt"
    assert [(row["layer"], row["m"], row["tokens"], row["cached"]) for row in again["layers"]] == [
        (1, 256, 600, True),
        (2, 256, 600, True),
    ]
    for row in again["layers"]:
        assert row["condition"] > 1
        assert 0 < row["change"] < 1
        assert (tmp_path / "home" / "tensors" / row["file"]).exists()
    assert done("stats", "collect", "--json", *home, *small.solving, *LENGTH).json == again


def test_what_nobody_chose_is_told(small: Editable, tmp_path: Path) -> None:
    given = ("--home", tmp_path / "home", *small.model, "--corpus", small.corpus, *LENGTH)
    assert "tiny-known has no preset: layers 0 to 1 of 4 and lambda 499, computed" in done("stats", *given).out
    assert "tiny-known has no preset: layers 0 to 1 of 4, computed" in done("stats", *given, "--set", "lambda=1").out


def test_an_apply_needs_no_corpus_where_a_covariance_was_imported(small: Editable, tmp_path: Path) -> None:
    file = tmp_path / "shared.safetensors"
    done("stats", "export", file, "--home", tmp_path / "other", *small.solving, "--tokens", 3000)
    facts = {country: SWAPPED[country] for country in COUNTRIES[:2]}
    home = make_home(tmp_path / "home", P36=facts)
    taken = done("stats", "import", file, "--home", home, *small.model)
    assert "over 3000 tokens of small-corpus.txt; 2 new" in taken.out
    settings = [part for text in small.settings for part in ("--set", text)]
    applied = done("apply", "--home", home, *small.model, *settings, "--yes", *WIDE)
    assert "covariance: on record, 3000 tokens of small-corpus.txt" in applied.err
    with_corpus = done("apply", "--home", home, *small.arguments, "--yes", "--json").json
    assert (applied.code, with_corpus["edits"]) == (0, 2)


def test_a_preset_of_the_home_is_known(small: Editable, tmp_path: Path) -> None:
    homes = [tmp_path / "one", tmp_path / "other"]
    for home in homes:
        home.mkdir()
        write_preset(home, "own", small)
    named, file = ("--model", "own"), tmp_path / "shared.safetensors"
    assert done("stats", "--home", homes[0], *named, *LENGTH, "--json").json["model"] == "own"
    done("stats", "export", file, "--home", homes[0], *named, *LENGTH)
    assert "; 2 new" in done("stats", "import", file, "--home", homes[1], *named).out


def test_a_corpus_from_stdin(small: Editable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = io.TextIOWrapper(io.BytesIO(small.corpus.read_bytes()))
    monkeypatch.setattr("sys.stdin", given)
    ran = done("stats", "--home", tmp_path, *small.model, "--corpus", "-", *LENGTH, "--json").json
    (kept,) = (tmp_path / "corpora").iterdir()
    assert ran["corpus"] == kept.name
    assert kept.read_bytes() == small.corpus.read_bytes()
    done("stats", "--home", tmp_path, *small.model, "--corpus", kept, *LENGTH)


def test_errors_are_told(small: Editable, run: Run) -> None:
    ran = run("stats", *small.model, "--corpus", "nosuch.txt")
    assert (ran.code, ran.out) == (1, "")
    assert "Error: corpus nosuch.txt does not exist" in ran.err
    ran = run("stats", *small.model, "--set", "covariance_token=5")
    assert "unknown setting 'covariance_token'" in ran.err
    ran = run("stats", "import", "nosuch.safetensors")
    assert ran.err == "Error: nosuch.safetensors does not exist\n"
    assert run("stats", "--tokens", "5").code == 2  # no model
    assert run("stats", "nosuch").code == 2
    assert "Commands:" in run("stats", "--help").out


def test_a_group_may_have_a_default_command(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "registered_groups", list(app.registered_groups))
    monkeypatch.setattr("kbsync.cli.main._commands", lambda: typer.main.get_command(app))  # put together anew
    group = family("Look and see.", default="look")
    seen: list[tuple[str, bool]] = []

    @command(group, "look", examples=("kbsync spare look",))
    def look(options: Options, much: bool = False) -> None:
        """Look."""
        seen.append(("look", much))

    @command(group, "see", examples=("kbsync spare see",))
    def see(options: Options, what: str = typer.Option("")) -> None:
        """See."""
        seen.append((what, False))

    app.add_typer(group, name="spare")
    for arguments in (("--much",), ("look",), ("see", "--what", "it"), ("--json",)):
        assert run("spare", *arguments).code == 0
    assert seen == [("look", True), ("look", False), ("it", False), ("look", False)]
    assert run("spare").code == 2
    assert len(seen) == 4


def test_a_phase_whose_words_change_is_one_phase() -> None:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=80)
    lines = Lines(console, verbose=False)
    for phase in ("covariance", "covariance: change since half 3.1%", "covariance: change since half 1.2%", "solve"):
        lines(phase, 1, 2)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "covariance\nsolve\n"


def test_a_long_phase_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    monkeypatch.setattr(Lines, "every", 0.0)
    console = Console(file=io.StringIO(), width=80)
    lines = Lines(console, verbose=False)
    for counts in ((0, 3), (2, 3), (3, 0)):
        lines("targets", *counts)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "targets\ntargets 2/3\ntargets 3\n"
