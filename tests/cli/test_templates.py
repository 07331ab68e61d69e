"""``kbsync templates``: list, show, check."""

from pathlib import Path

from tests.conftest import Run
from tests.test_templates import GOOD, entry, worded, write


def test_list_shows_kbsyncs_templates(run: Run) -> None:
    ran = run("templates", "list")
    assert ran.code == 0
    (row,) = [line.split() for line in ran.out.splitlines() if line.split()[:1] == ["P36"]]
    assert row[-1] == "geography.yaml"


def test_the_homes_own_templates_come_first(run: Run, tmp_path: Path) -> None:
    own = write(tmp_path / "home" / "templates" / "mine.yaml", entry("P36", "The seat of {} is"))
    ran = run("templates", "list", "--home", tmp_path / "home", "--json")
    by_relation = {template["relation"]: template for template in ran.json["templates"]}
    assert by_relation["P36"]["prompt"] == "The seat of {} is"
    assert by_relation["P36"]["file"] == str(own)
    assert len(by_relation) >= 45


def test_show_has_every_text(run: Run, tmp_path: Path) -> None:
    text = worded(GOOD, "{}'s chief city is", "The chief city of {} is").replace(": capital", ": capital [red]")
    write(tmp_path / "home" / "templates" / "mine.yaml", text)
    plain, as_json = (
        run("--home", "home", "templates", "show", "P36"),
        run("--home", "home", "templates", "show", "P36", "--json"),
    )
    template = as_json.json
    assert set(template) == {
        *(
            "relation",
            "label",
            "prompt",
            "wordings",
            "subject",
            "paraphrases",
            "question",
            "inverse",
            "file",
            "line",
            "scope",
            "source",
        )
    }
    assert template["scope"] is None
    assert "sitelinks" not in plain.out
    assert (len(template["wordings"]), template["subject"]) == (2, "country")
    for field in ("label", "prompt", "question", "subject"):
        assert template[field] in plain.out
    for text in (*template["wordings"], *template["paraphrases"]):
        assert text in plain.out
    assert template["label"] == "capital [red]"


def test_show_has_the_scope_of_a_large_relation(run: Run) -> None:
    scope = run("templates", "show", "P131", "--json").json["scope"]
    shown = " ".join(run("templates", "show", "P131").out.split())
    assert f"instances of {scope['class_id']} with at least {scope['min_sitelinks']} sitelinks" in shown


def test_check_says_good_or_names_every_bad_entry(run: Run, tmp_path: Path) -> None:
    good, bad = write(tmp_path / "good.yaml"), write(tmp_path / "bad.yaml", GOOD.replace(" of {} is\n", " is\n"))
    ran = run("templates", "check", good)
    assert (ran.code, ran.out) == (0, f"{good}: 1 template, all valid\n")
    ran = run("templates", "check", bad)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"Error: {bad}:3: P36: the prompt has no {{}}")


def test_check_knows_the_other_relations_prompts(run: Run, tmp_path: Path) -> None:
    own = write(tmp_path / "mine.yaml", entry("seat", "The capital of {} is"))
    ran = run("templates", "check", own)
    assert ran.code == 1
    assert f"{own}:1: the prompt of seat is also the prompt of P36" in ran.err


def test_a_bad_template_in_the_home_stops_a_command_that_needs_templates(run: Run, tmp_path: Path) -> None:
    write(tmp_path / ".kbsync" / "templates" / "mine.yaml", "P36: x\n")
    ran = run("templates", "list")
    assert (ran.code, ran.out) == (1, "")
    assert ".kbsync/templates/mine.yaml:1: " in ran.err


def test_new_and_test_tell_what_is_wrong(run: Run) -> None:
    ran = run("templates", "new", "P1082", "--source", "facts.yaml")
    assert (ran.code, ran.out) == (1, "")
    assert "facts.yaml" in ran.err
    ran = run("templates", "test", "P0x", "--model", "practice")
    assert (ran.code, ran.out) == (1, "")
    assert "P0x has no template" in ran.err
