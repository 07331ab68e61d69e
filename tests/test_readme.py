"""README names no command, option or target that is not there."""

import re
import shlex
from pathlib import Path

import pytest

from kbsync.sync.home import check_templates
from tests.cli.test_help import ALL, COMMANDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def lines_of(program: str) -> list[str]:
    """The code block lines of README that run `program`, without their comments."""
    lines = re.findall(rf"^(?:    |\$ ){program} .*$", README, re.MULTILINE)
    return [re.sub(r"\s#.*", "", line).removeprefix("$ ").strip() for line in lines]


def parse(line: str) -> None:
    """Parse a kbsync line as the command line does, and raise for what it does not know."""
    words = shlex.split(line)
    depth = max((n for n in (2, 3) if " ".join(words[:n]) in COMMANDS), default=0)
    assert depth, f"no such command: {line}"
    COMMANDS[" ".join(words[:depth])].make_context(line, words[depth:]).close()


@pytest.mark.parametrize("line", lines_of("kbsync"))
def test_commands_parse(line: str) -> None:
    parse(line)


@pytest.mark.parametrize(
    "line", ["kbsync nosuch", "kbsync pull", "kbsync pull --relation P17 --nosuch", "kbsync templates nosuch"]
)
def test_what_is_not_there_does_not(line: str) -> None:
    with pytest.raises((AssertionError, Exception), match=r"no such command|[Mm]issing|[Nn]o such option"):
        parse(line)


def test_the_main_commands_are_shown() -> None:
    shown = {line.split()[1] for line in lines_of("kbsync")}
    assert {"pull", "plan", "apply", "status", "ask", "export"} <= shown


def test_options_in_the_text_exist() -> None:
    known = {option for command in ALL.values() for parameter in command.params for option in parameter.opts}
    named = set(re.findall(r"`(--[a-z-]+)", README))
    assert named <= known | {"--help"}


def test_the_template_can_be_used_as_it_stands(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(works_for:\n  label.*?)```", README, re.DOTALL)
    (tmp_path / "own.yaml").write_text(text, encoding="utf-8")
    (template,) = check_templates(tmp_path / "home", tmp_path / "own.yaml")
    assert template.wordings
    assert template.subject


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {line.split()[1] for line in lines_of("make")}
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
