"""README and docs: their commands run as they stand, or say that they were run by hand; what they name is there."""

import io
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import pyoxigraph
import pytest
import yaml

from kbsync.cli.main import main
from kbsync.memit import MemitSettings
from kbsync.resources import fixtures_folder
from tests.cli.test_help import ALL, COMMANDS
from tests.conftest import made_once
from tests.oxigraph_server import serve
from tests.tiny_models import random_folder

ROOT = Path(__file__).parent.parent
PAGES = {path.name: path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
TEXTS = {name: path.read_text(encoding="utf-8") for name, path in PAGES.items()}
WRITTEN = {name: text for name, text in TEXTS.items() if name != "commands.md"}
"""by hand; the reference of the commands is generated, and its examples are tested with the commands"""
MARK = re.compile(r"# (by hand, \d{4}-\d\d-\d\d|not run).*")
QUICK = {"layers": [0, 1], "lambda": 1, "steps": 2, "contexts": 1, "covariance_tokens": 2000, "sequence_length": 96}
FEW = 5
"""countries, the first by their names"""
CONTINENT = [pyoxigraph.NamedNode(f"http://www.wikidata.org/prop/{part}P30") for part in ("", "direct/")]
BOUNDS = {"max_perplexity_increase": 1e9, "max_specificity_loss": 100, "max_weight_change": 1e12}


def console(text: str) -> list[list[str]]:
    """The console blocks of a page, each as its lines."""
    return [block.splitlines() for block in re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)]


def commands(lines: list[str]) -> list[str]:
    return [re.sub(r"\s#.*", "", line).removeprefix("$ ") for line in lines if line.startswith("$ ")]


ALL_BLOCKS = [(name, lines) for name, text in WRITTEN.items() for lines in console(text)]
KBSYNC_LINES = sorted({line for _, lines in ALL_BLOCKS for line in commands(lines) if line.startswith("kbsync ")})


def parse(line: str) -> None:
    """Parse a kbsync line as the command line does, and raise for what it does not know."""
    words = shlex.split(line)
    depth = max((n for n in (2, 3) if " ".join(words[:n]) in COMMANDS), default=0)
    assert depth, f"no such command: {line}"
    COMMANDS[" ".join(words[:depth])].make_context(line, words[depth:]).close()


@pytest.mark.parametrize("line", KBSYNC_LINES)
def test_commands_parse(line: str) -> None:
    parse(line)


@pytest.mark.parametrize("line", ["kbsync nosuch", "kbsync pull --relation P17 --nosuch", "kbsync templates nosuch"])
def test_what_is_not_there_does_not(line: str) -> None:
    with pytest.raises((AssertionError, Exception), match=r"no such command|[Mm]issing|[Nn]o such option"):
        parse(line)


def test_the_main_commands_are_shown() -> None:
    shown = {line.split()[1] for lines in console(TEXTS["README.md"]) for line in commands(lines)}
    assert {"pull", "plan", "apply", "status", "ask", "export"} <= shown


@pytest.mark.parametrize(("page", "lines"), ALL_BLOCKS)
def test_a_block_runs_here_or_says_that_it_was_run_by_hand(page: str, lines: list[str]) -> None:
    assert MARK.fullmatch(lines[0]) or all(line.startswith("kbsync ") for line in commands(lines)), lines[0]


def fewer_facts(path: Path, count: int = FEW) -> None:
    """Write the later edition with the continents of few countries: a page has all of them edited, one by one."""
    quads = list(pyoxigraph.parse(path=str(fixtures_folder() / "wikidata" / "later.ttl")))
    names = {one.subject: str(one.object) for one in quads if one.predicate.value.endswith("#label")}
    having = sorted({one.subject for one in quads if one.predicate in CONTINENT}, key=names.__getitem__)
    kept = [one for one in quads if one.predicate not in CONTINENT or one.subject in having[:count]]
    pyoxigraph.serialize(kept, str(path), format=pyoxigraph.RdfFormat.TURTLE)


@pytest.fixture
def folder(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder as of a checkout: Wikidata is on loopback, and the models of the presets are tiny."""
    (tmp_path / "fixtures").mkdir()
    for path in fixtures_folder().iterdir():
        if path.name != "wikidata":
            (tmp_path / "fixtures" / path.name).symlink_to(path)
    facts = made_once(tmp_path_factory.getbasetemp(), "fewer.ttl", fewer_facts)
    (tmp_path / "fixtures" / "wikidata").mkdir()
    (tmp_path / "fixtures" / "wikidata" / "later.ttl").symlink_to(facts)
    text = (fixtures_folder() / "practice-model" / "corpus.txt").read_text(encoding="utf-8")
    (tmp_path / "corpus.txt").write_text("\n".join(text.splitlines()[:300]), encoding="utf-8")
    model = str(random_folder(tmp_path_factory.getbasetemp(), "gptj"))
    preset = {"model": model, "corpus": str(tmp_path / "corpus.txt"), "settings": QUICK, **BOUNDS}
    (tmp_path / ".kbsync" / "presets").mkdir(parents=True)
    for name in ("practice", "smollm2-135m"):
        (tmp_path / ".kbsync" / "presets" / f"{name}.yaml").write_text(yaml.safe_dump(preset), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KBSYNC_HOME", raising=False)
    with serve(facts) as url:
        monkeypatch.setattr("kbsync.sources.WIKIDATA", url)
        yield tmp_path


@pytest.mark.parametrize("page", [name for name in WRITTEN if any(not MARK.match(b[0]) for b in console(TEXTS[name]))])
def test_the_commands_of_a_page_run(
    page: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, content in re.findall(r"^```yaml\n# (\S+)\n(.*?)^```", TEXTS[page], re.MULTILINE | re.DOTALL):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    for lines in console(TEXTS[page]):
        if MARK.match(lines[0]):
            continue
        printed = ""
        for line in commands(lines):
            monkeypatch.setattr("sys.stdin", io.StringIO("\n"))  # takes what is offered where it is asked
            code = main(shlex.split(line)[1:])
            out, err = capsys.readouterr()
            assert code == (3 if "--check" in line else 0), (line, out, err)
            printed += f" {out}"
        headings = [line for line, below in pairwise(lines) if "───" in below]
        assert [line for line in headings if " ".join(line.split()) not in " ".join(printed.split())] == []


@pytest.mark.parametrize("page", WRITTEN)
def test_options_in_the_text_exist(page: str) -> None:
    known = {
        option
        for command in ALL.values()
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    named = set(re.findall(r"`(?:kbsync [^`]*?)?(--[a-z-]+)", WRITTEN[page]))
    assert named <= known | {"--help"}


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", TEXTS[page]):
        path, _, anchor = link.partition("#")
        if path.startswith(("http://", "https://")):
            continue
        target = (PAGES[page].parent / path).resolve() if path else PAGES[page]
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("page", WRITTEN)
def test_files_in_the_text_exist(page: str) -> None:
    named = re.findall(r"`((?:kbsync|tests|docs|templates|fixtures|\.ci)/[\w./-]+)`", WRITTEN[page])
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_pages_that_the_code_names_exist() -> None:
    places = [path for top in ("kbsync", "tests", "templates") for path in (ROOT / top).rglob("*.[py]*")]
    files = [path for path in (*places, ROOT / "Makefile") if path.suffix in {".py", ".yaml", ""}]
    named = {page for file in files for page in re.findall(r"(?<!/)docs/[\w-]+\.md", file.read_text(encoding="utf-8"))}
    assert {page for page in named if not (ROOT / page).exists()} == set()


def test_every_page_can_be_found_from_the_readme() -> None:
    listed = set(re.findall(r"\]\(docs/([\w-]+\.md)", TEXTS["README.md"]))
    assert listed == set(PAGES) - {"README.md"}
    assert TEXTS["README.md"].count("\n") <= 200


def test_every_setting_is_described() -> None:
    described = set(re.findall(r"^\| `(\w+)` \|", TEXTS["settings.md"], re.MULTILINE))
    assert described == {field.name.rstrip("_") for field in fields(MemitSettings)}


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    lines = [line for _, lines in ALL_BLOCKS for line in commands(lines) if line.startswith("make")]
    named = {line.split()[1] for line in lines} | set(re.findall(r"`make ([a-z]+)", "".join(WRITTEN.values())))
    assert named
    assert named <= targets
