"""Tables show labels as they are; JSON takes every result; progress is quiet where it should be."""

import datetime
import io
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console, Group, RenderableType

from kbsync.report import console
from kbsync.report.console import json_text, progress, to_plain


@dataclass(frozen=True)
class Inner:
    day: datetime.date
    names: tuple[str, ...]


@dataclass(frozen=True)
class Outer:
    inner: Inner
    path: Path
    share: float | None


def drawn(renderable: RenderableType | console.Parts, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(console.stacked(renderable))
    return out.getvalue()


def test_to_plain_turns_results_into_json() -> None:
    result = Outer(Inner(datetime.date(2024, 7, 1), ("a", "é")), Path("x/y"), None)
    plain = {"inner": {"day": "2024-07-01", "names": ["a", "é"]}, "path": "x/y", "share": None}
    assert to_plain({"results": [result], 3: True}) == {"results": [plain], "3": True}
    with pytest.raises(TypeError, match="object has no form in JSON"):
        to_plain(object())


def test_no_json_holds_what_json_has_not() -> None:
    value = {"a": float("nan"), "b": [float("inf"), {"c": -float("inf"), "d": 1.5}], "e": (float("nan"),)}

    def refuse(name: str) -> None:
        raise AssertionError(name)

    read = json.loads("".join(json_text(value, ascii_only=False)), parse_constant=refuse)
    assert read == {"a": None, "b": [None, {"c": None, "d": 1.5}], "e": [None]}


@pytest.mark.parametrize(
    "value",
    [
        {"a": [], "b": {}, "c": (), "d": None, "e": True, "f": -1.5e-7, "g": float("inf"), 3: "x"},
        {"facts": [{"label": 'Łódź "\u2028\\\n\x00', "none": None}, [], [[1, {"deep": [{}]}]], "text", 7]},
        {"one": {"two": {"three": [1, [2, [3]]]}}, "day": datetime.date(2024, 7, 1)},
        Outer(Inner(datetime.date(2024, 7, 1), ("a", "é")), Path("x/y"), 0.1),
        [1, {"a": 2}],
        {},
        [],
        "text",
        None,
    ],
)
@pytest.mark.parametrize("ascii_only", [False, True])
def test_json_in_pieces_reads_as_the_whole(value: object, ascii_only: bool) -> None:
    text = "".join(json_text(value, ascii_only=ascii_only))
    assert json.loads(text) == to_plain(value)
    assert text.endswith("\n")
    assert text.isascii() or not ascii_only


def test_items_of_a_list_stand_on_a_line_each() -> None:
    text = "".join(json_text({"n": 1, "facts": [{"a": [1, 2]}, {}]}, ascii_only=False))
    assert text == '{\n  "n": 1,\n  "facts": [\n    {"a": [1, 2]},\n    {}\n  ]\n}\n'


@pytest.mark.parametrize("nested", [False, True])
def test_a_list_is_written_as_it_comes(nested: bool) -> None:
    taken: list[int] = []

    def rows() -> Iterator[dict[str, int]]:
        for number in range(3):
            taken.append(number)
            yield {"n": number}

    pieces = json_text({"pulls": [{"a": 1, "rows": rows()}]} if nested else {"rows": rows()}, ascii_only=False)
    text = ""
    while '"n": 0' not in text:
        text += next(pieces)
    assert taken == [0]
    whole = json.loads(text + "".join(pieces))
    assert (whole["pulls"][0] if nested else whole)["rows"] == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_emit_prints_json_or_the_view(capsys: pytest.CaptureFixture[str]) -> None:
    console.emit({"label": "Łódź [b]"}, lambda result: console.plain(result["label"]), as_json=True)
    assert json.loads(capsys.readouterr().out) == {"label": "Łódź [b]"}
    console.emit({"label": "Łódź [b]"}, lambda result: console.plain(result["label"]), as_json=False)
    assert capsys.readouterr().out == "Łódź [b]\n"


def test_labels_are_neither_markup_nor_control_codes() -> None:
    text = drawn(console.table(("label",), [("[red]x[/red]",), ("a\x1b[2Jb\x07",)]))
    assert "[red]x[/red]" in text
    assert "\x1b" not in text
    assert "a�[2Jb�" in text


def test_numbers_stand_to_the_right_and_none_is_empty() -> None:
    lines = [line.rstrip() for line in drawn(console.table(("name", "count"), [("a", 7), ("b", 1000)])).splitlines()]
    assert [line.index("7") for line in lines if "7" in line] == [
        line.index("1000") + 3 for line in lines if "1000" in line
    ]
    assert "None" not in drawn(console.table(("name",), [(None,)]))


def test_a_long_value_is_folded_and_not_cut() -> None:
    text = drawn(console.table(("value",), [("x" * 100,)]), width=40)
    assert text.count("x") == 100


def test_off_a_terminal_a_line_is_never_broken_and_a_table_still_folds(capsys: pytest.CaptureFixture[str]) -> None:
    line = "wrote " + "/a folder with spaces" * 30
    shown = Group(console.table(("value", "other"), [("x" * 300, "y")]), console.plain(line))
    console.emit(None, lambda _: shown, as_json=False)
    console.tell(line)
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == line
    assert printed.err.splitlines() == [line]
    assert printed.out.count("x") == 300
    assert all(len(row) <= 200 for row in printed.out.splitlines()[:-1])


def test_off_a_terminal_each_phase_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as report:
        for done in range(5):
            report("targets", done, 5)
        report("solve", 1, 1)
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "targets\nsolve\n")
    with progress(quiet=True) as report:
        report("targets", 1, 2)
    assert capsys.readouterr().err == ""


def test_in_a_terminal_there_are_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with progress() as report:
        report("targets", 0, 0)
        report("targets", 3, 8)
    assert "targets" in screen.getvalue()
    assert "3/8" in screen.getvalue()


def test_remarks_show_under_verbose_alone(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (False, True):
        for verbose, shown in ((True, "solve on [cpu]\n"), (False, "")):
            with progress(quiet=quiet, verbose=verbose) as report:
                report.remark("solve on [cpu]")
            printed = capsys.readouterr()
            assert (printed.out, printed.err) == ("", shown)
