"""The frame of the command line: exit codes, the error boundary, shared options, and what it does not load."""

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import typer

import kbsync
from kbsync.cli.main import app, main
from kbsync.cli.options import Options, command, family
from kbsync.errors import SourceError
from tests.conftest import Run

FACTS = "- {subject: France, relation: P36, object: Paris}\n"


# A process of its own starts in another folder, and kbsync may not be installed.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(kbsync.__file__).parent.parent)}


def shell(*arguments: str, cwd: Path, stdout: int = subprocess.PIPE) -> "subprocess.CompletedProcess[str]":
    """Run Python as a process of its own."""
    python = [sys.executable, *arguments]
    return subprocess.run(
        python, cwd=cwd, env=ENVIRONMENT, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=180
    )


def loads_none_of(libraries: set[str], commands: Sequence[Sequence[str]], cwd: Path) -> list[str]:
    """Run commands in one new process; check that each prints something and loads none of these; return the output."""
    script = (
        "import json, sys; from kbsync.cli.main import main\n"
        "for command in json.loads(sys.argv[1]):\n"
        "    code = main(command)\n"
        f"    print(code, command, {libraries!r} & set(sys.modules), file=sys.stderr)\n"
        "    print('\\x1e')"
    )
    ran = shell("-c", script, json.dumps(commands), cwd=cwd)
    told = [line for line in ran.stderr.splitlines() if line.endswith(("}", "set()"))]
    assert told == [f"0 {command} set()" for command in commands], ran.stderr
    *printed, _ = ran.stdout.split("\x1e\n")
    assert len(printed) == len(commands)
    assert all(printed)
    return printed


@pytest.fixture
def spare(monkeypatch: pytest.MonkeyPatch) -> Iterator[typer.Typer]:
    """A family that is part of kbsync for one test."""
    added = family()
    monkeypatch.setattr(app, "registered_groups", list(app.registered_groups))
    monkeypatch.setattr("kbsync.cli.main._commands", lambda: typer.main.get_command(app))  # put together anew
    yield added
    assert added.registered_commands, "the test registers a command"


def test_version(run: Run) -> None:
    ran = run("--version")
    assert (ran.code, ran.out) == (0, f"kbsync {kbsync.__version__}\n")


def test_an_error_is_one_message_on_stderr(run: Run) -> None:
    ran = run("templates", "show", "P36 }")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("Error: 'P36 }' is not a relation id")
    assert ran.err.count("\n") == 1


def test_debug_before_or_after_the_command_adds_the_traceback(run: Run) -> None:
    for arguments in (("--debug", "templates", "show", "P0x"), ("templates", "show", "P0x", "--debug")):
        ran = run(*arguments)
        assert ran.code == 1
        assert ran.err.startswith("Traceback")
        assert ran.err.splitlines()[-1].startswith("Error: P0x has no template")


@pytest.mark.parametrize(
    "arguments", [["nosuch"], ["pull"], ["pull", "--nosuch"], ["pull", "--relation", "P17", "--limit", "x"]]
)
def test_wrong_usage_exits_2(arguments: list[str], run: Run) -> None:
    ran = run(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert "Usage: kbsync" in ran.err


def test_a_command_can_choose_its_exit_code(spare: typer.Typer, run: Run) -> None:
    @command(spare, "differs", examples=("kbsync differs",))
    def differs(options: Options) -> None:
        """Find a difference."""
        raise typer.Exit(3)

    app.add_typer(spare)
    assert run("differs").code == 3


def test_a_fault_is_one_line_and_a_traceback_under_debug(spare: typer.Typer, run: Run) -> None:
    @command(spare, "break", examples=("kbsync break",))
    def fail(options: Options) -> None:
        """Break."""
        raise ValueError("never")

    app.add_typer(spare)
    ran = run("break")
    assert ran.code == 1
    assert ran.err == "kbsync has a bug: ValueError: never (run again with --debug for the traceback)\n"
    ran = run("break", "--debug")
    assert "test_main.py" in ran.err
    assert ran.err.endswith("\nkbsync has a bug: ValueError: never\n")


def test_debug_shows_the_query_of_a_source_error(spare: typer.Typer, run: Run) -> None:
    @command(spare, "ask-source", examples=("kbsync ask-source",))
    def ask(options: Options) -> None:
        """Ask."""
        raise SourceError("no answer", query="SELECT ?x WHERE { }")

    app.add_typer(spare)
    assert "SELECT" not in run("ask-source").err
    assert "SELECT ?x WHERE { }\nError: no answer\n" in run("ask-source", "--debug").err


def test_shared_options_stand_before_or_after_and_the_later_home_wins(
    spare: typer.Typer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Options] = []

    @command(spare, "look", examples=("kbsync look",))
    def look(options: Options) -> None:
        """Look."""
        seen.append(options)

    app.add_typer(spare)
    run("look")
    run("--home", "a", "--json", "look")
    run("look", "--home", "b", "--json")
    run("--home", "a", "look", "--home", "b")
    monkeypatch.setenv("KBSYNC_HOME", "env")
    run("look")
    run("--home", "a", "look")
    assert [str(options.home) for options in seen] == [".kbsync", "a", "b", "b", "env", "a"]
    assert [options.json for options in seen] == [False, True, True, False, False, False]


def test_what_takes_long_to_load_and_is_not_needed_is_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "facts.yaml").write_text(FACTS)
    pull = ["pull", "--relation", "P36", "--source", "facts.yaml"]
    commands = [["--help"], ["pull", "--help"], pull, ["templates", "list"]]
    loads_none_of({"torch", "transformers", "accelerate", "jsonschema"}, commands, tmp_path)


def test_ctrl_c_says_interrupted_and_leaves_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/sparql"
        pull = [sys.executable, "-m", "kbsync", "pull", "--relation", "P36", "--source", url, "--home", "home"]
        silent.settimeout(120)
        with subprocess.Popen(
            pull, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                connection, _ = silent.accept()  # it waits for an answer now
                with connection:
                    process.send_signal(signal.SIGINT)
                    out, err = process.communicate(timeout=120)
            finally:
                process.kill()
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1].startswith("Interrupted: nothing is left half done; run the same command to go on")
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["templates", "list"], ["templates", "list", "--json"]])
def test_a_reader_that_goes_away_is_no_fault(arguments: list[str], tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        ran = shell("-m", "kbsync", *arguments, cwd=tmp_path, stdout=pipe.fileno())
    assert (ran.returncode, ran.stderr) == (1, "")


def test_a_terminal_that_cannot_show_every_letter(run: Run, tmp_path: Path) -> None:
    ascii_only = (
        "import sys; sys.stdout.reconfigure(encoding='ascii'); from kbsync.cli.main import main; sys.exit(main())"
    )
    pull = ["-c", ascii_only, "pull", "--relation", "P36", "--source", "facts.yaml"]
    (tmp_path / "facts.yaml").write_text("P36: {France: Pariß}\n", encoding="utf-8")
    assert run(*pull[2:]).code == 0
    (tmp_path / "facts.yaml").write_text("P36: {France: Łódź}\n", encoding="utf-8")
    ran = shell(*pull, cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "reading\nrecording\n")
    assert r"\u0141" in ran.stdout
    (tmp_path / "facts.yaml").write_text("P36: {France: 𝔓aris}\n", encoding="utf-8")
    ran = shell(*pull, "--json", cwd=tmp_path)
    assert json.loads(ran.stdout)["pulls"][0]["changes"][0]["object"] == "𝔓aris"


def test_the_module_runs_as_the_command_does(tmp_path: Path) -> None:
    assert shell("-m", "kbsync", "--version", cwd=tmp_path).stdout == f"kbsync {kbsync.__version__}\n"


def test_main_returns_its_code_for_the_console_script() -> None:
    settings = (Path(kbsync.__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r'^kbsync = "kbsync.__main__:run"$', settings, re.MULTILINE)
    assert main(["--version"]) == 0


@pytest.mark.parametrize("moment", ["typer", "kbsync.cli.main", "kbsync.sync.home"])
def test_ctrl_c_while_kbsync_starts_is_one_line(moment: str, tmp_path: Path) -> None:
    """The interrupt comes just when a module is looked for, early or late in the start."""
    script = (
        "import os, signal, sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {moment!r}: os.kill(os.getpid(), signal.SIGINT)\n"
        "from kbsync.__main__ import run\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "sys.argv = ['kbsync', 'templates', 'list']\n"
        "sys.exit(run())\n"
    )
    ran = shell("-c", script, cwd=tmp_path)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "Interrupted: nothing was begun\n")


@pytest.mark.parametrize(
    "arguments",
    [["log", "--fact", "Caf\udce9 P17"], ["pull", "--relation", "P36", "--source", "\udcff.yaml"], ["\udc80"]],
)
def test_an_argument_that_is_not_utf_8_is_told(arguments: list[str], run: Run) -> None:
    ran = run(*arguments)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith("Error: this argument is not UTF-8: ")


@pytest.mark.parametrize("letters", [300, 5000])
@pytest.mark.parametrize(
    "arguments",
    [
        ["pull", "--relation", "P36", "--source", "{long}"],
        ["pull", "--relation", "P36", "--source", "{long}.yaml"],
        ["status", "--home", "{long}"],
        ["plan", "--home", "{long}", "--model", "practice"],
        ["plan", "--model", "{long}"],
        ["history", "--home", "{long}"],
        ["templates", "list", "--home", "{long}"],
        ["pull", "--relation", "P36", "--source", "facts.yaml", "--home", "{long}"],
    ],
)
def test_a_name_that_is_too_long_is_told(letters: int, arguments: list[str], run: Run, tmp_path: Path) -> None:
    (tmp_path / "facts.yaml").write_text(FACTS)
    ran = run(*(argument.format(long="x" * letters) for argument in arguments))
    assert "has a bug" not in ran.err
    assert len(ran.err) < 500
    assert ran.code in (0, 1)
    assert ran.code == 0 or ran.err.startswith(("Error: ", "reading", "recording"))


PULL = ["pull", "--relation", "P36", "--source", "facts.yaml", "--home", "home"]


@pytest.mark.parametrize(("stream", "said"), [(">&-", "standard output is closed"), (">/dev/full", "No space left")])
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_result_that_cannot_be_written_is_one_line_and_the_work_is_done(
    stream: str, said: str, form: list[str], run: Run, tmp_path: Path
) -> None:
    (tmp_path / "facts.yaml").write_text(FACTS)
    command = f'exec "$0" -m kbsync "$@" {stream}'
    ran = subprocess.run(
        ["sh", "-c", command, sys.executable, *PULL, *form],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
        timeout=180,
    )
    assert ran.returncode == 1
    *_, last = ran.stderr.splitlines()
    assert last.startswith("Error: ")
    assert said in last
    assert last.endswith("the command itself has finished")
    assert "Traceback" not in ran.stderr
    assert "Exception ignored" not in ran.stderr
    assert run("status", "--home", "home", "--json").code == 0


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG])
def test_a_full_disk_names_the_file_and_the_room(number: int, spare: typer.Typer, run: Run, tmp_path: Path) -> None:
    @command(spare, "fill", examples=("kbsync fill",))
    def fill(options: Options) -> None:
        """Fill."""
        raise OSError(number, os.strerror(number), str(tmp_path / "no" / "such" / "file"))

    app.add_typer(spare)
    ran = run("fill")
    assert (ran.code, ran.out) == (1, "")
    told = rf"Error: {tmp_path}/no/such/file: {os.strerror(number)} \([\d,]+ MB free there\)\n"
    assert re.fullmatch(told, ran.err)
