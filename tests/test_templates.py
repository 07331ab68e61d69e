"""Templates: what is read, which folder wins, and each thing that is refused, with its line."""

from collections import Counter
from difflib import SequenceMatcher
from pathlib import Path

import pytest

from kbsync.errors import SettingsError, TemplateError
from kbsync.facts import EditRequest, normalise_label
from kbsync.resources import templates_folder
from kbsync.templates import Scope, check_file, load_templates

GOOD = """\
P36:
  label: capital
  prompt: The capital of {} is
  paraphrases:
    - The capital city of {} is called
    - "{} has its seat of government in"
    - "{}'s capital is"
    - As for {}, the capital is
  question: What is the capital of {}?
"""

COUNTERFACT = """P17 P19 P20 P27 P30 P36 P37 P39 P101 P103 P106 P108 P127 P131 P136 P138 P140 P159 P176 P178 P190 P264
P276 P364 P407 P413 P449 P463 P495 P641 P740 P937 P1303 P1412"""
CHANGING = "P6 P35 P38 P54 P59 P69 P112 P169 P286 P488 P768"


def write(path: Path, text: str = GOOD) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def entry(relation: str, prompt: str) -> str:
    return GOOD.replace("P36", relation).replace("The capital of {} is", prompt)


def test_a_file_is_read_with_its_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "t.yaml", "# mine\n\n" + GOOD)
    (template,) = check_file(path)
    assert (template.relation, template.label, template.prompt) == ("P36", "capital", "The capital of {} is")
    assert template.paraphrases[1] == "{} has its seat of government in"
    assert len(template.paraphrases) == 4
    assert template.question == "What is the capital of {}?"
    assert (template.file, template.line) == (path, 3)


def test_a_request_carries_the_whole_template(tmp_path: Path) -> None:
    write(tmp_path / "t.yaml")
    templates = load_templates(tmp_path)
    (template,) = templates
    assert templates.request("France", "P36", "Paris") == EditRequest(
        "P36", "France", template.prompt, "Paris", template.paraphrases, template.question
    )


def test_a_relation_without_a_template(tmp_path: Path) -> None:
    templates = load_templates(tmp_path)
    assert templates.get("P36") is None
    assert "P36" not in templates
    with pytest.raises(TemplateError, match="P36 has no template"):
        templates.request("France", "P36", "Paris")
    with pytest.raises(SettingsError, match="not a relation id"):
        templates.require("P36 }")


def test_iteration_is_in_natural_order(tmp_path: Path) -> None:
    relations = ["works_for", "P103", "P6", "P17", "Q2b"]
    write(tmp_path / "t.yaml", "\n".join(entry(r, f"By {r} {{}} is") for r in relations))
    assert [template.relation for template in load_templates(tmp_path)] == ["P6", "P17", "P103", "Q2b", "works_for"]


def test_the_templates_of_a_folder_win_over_those_beside(tmp_path: Path) -> None:
    write(tmp_path / "own" / "a.yml", entry("P36", "The seat of {} is"))
    write(tmp_path / "kbsync" / "b.yaml", GOOD + entry("P17", "The country of {} is"))
    templates = load_templates(tmp_path / "own", load_templates(tmp_path / "kbsync"))
    assert [(t.relation, t.prompt) for t in templates] == [
        ("P17", "The country of {} is"),
        ("P36", "The seat of {} is"),
    ]


def test_a_prompt_is_no_other_relations_even_in_another_folder(tmp_path: Path) -> None:
    own = write(tmp_path / "own" / "a.yaml", "\n" + entry("seat", "the  capital of {} is".replace("  ", " ")))
    write(tmp_path / "kbsync" / "b.yaml")
    with pytest.raises(TemplateError) as caught:
        load_templates(own.parent, load_templates(tmp_path / "kbsync"))
    assert str(caught.value).startswith(
        f"{own}:2: the prompt of seat is also the prompt of P36 ({tmp_path}/kbsync/b.yaml:1)"
    )
    with pytest.raises(TemplateError, match="also the prompt of P36"):
        check_file(own, beside=load_templates(tmp_path / "kbsync"))
    assert len(check_file(own)) == 1


def worded(text: str, *wordings: str) -> str:
    lines = "".join(f'    - "{wording}"\n' for wording in wordings)
    return text.replace("  question:", f"  wordings:\n{lines}  subject: country\n  question:")


def test_wordings_and_the_kind_of_subject_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "t.yaml", worded(GOOD, "{}'s capital city is", "The chief city of {} is"))
    (template,) = check_file(path)
    assert template.wordings == ("{}'s capital city is", "The chief city of {} is")
    assert template.subject == "country"
    write(path, worded(GOOD, "{}'s capital city is") + worded(entry("P37", "The language of {} is"), "{} speaks"))
    templates = load_templates(tmp_path)
    assert [one.relation for one in templates.beside("P36")] == ["P37"]
    assert templates.request("France", "P37", "French").wordings == ("{} speaks",)


@pytest.mark.parametrize(
    ("prompt", "wordings", "message"),
    [
        (
            "The seat of {} is",
            ["{}'s seat is", "{} has ITS chief seat in"],
            "wording 2 of seat is also wording 1 of P36",
        ),
        ("In law, {} sits in", ["{}'s seat is"], "the prompt of seat is also wording 2 of P36"),
        ("The seat of {} is", ["{} sits in", "The capital of {} is"], "wording 2 of seat is also the prompt of P36"),
    ],
)
def test_a_wording_is_no_other_relations_prompt_or_wording(
    prompt: str, wordings: list[str], message: str, tmp_path: Path
) -> None:
    own = write(tmp_path / "own" / "a.yaml", "\n" + worded(entry("seat", prompt), *wordings))
    other = write(tmp_path / "kbsync" / "b.yaml", worded(GOOD, "{} has its chief seat in", "In law, {} sits in"))
    with pytest.raises(TemplateError) as caught:
        load_templates(own.parent, load_templates(other.parent))
    assert str(caught.value) == f"{own}:2: {message} ({other}:1): one of them needs other words"
    with pytest.raises(TemplateError, match=message):
        check_file(own, beside=load_templates(other.parent))


def test_a_replaced_template_may_leave_its_prompt_to_another_relation(tmp_path: Path) -> None:
    own = entry("P36", "The seat of {} is") + entry("capital", "The capital of {} is")
    write(tmp_path / "own" / "a.yaml", own)
    write(tmp_path / "kbsync" / "b.yaml")
    assert len(load_templates(tmp_path / "absent")) == 0
    assert len(load_templates(tmp_path / "own", load_templates(tmp_path / "kbsync"))) == 2


def test_a_relation_stands_in_one_file_of_a_folder(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.yaml"), write(tmp_path / "b.yaml", entry("P36", "The seat of {} is"))
    with pytest.raises(TemplateError) as caught:
        load_templates(tmp_path)
    assert str(caught.value) == f"{second}:1: P36 is in {first}:1 too: remove one of them"


PROMPT = "  prompt: The capital of {} is\n"
BAD = {
    "no {}": (PROMPT, "  prompt: The capital is\n", 3, "the prompt has no {}"),
    "two {}": (PROMPT, "  prompt: The capital of {} and {} is\n", 3, "the prompt has 2 {}"),
    "other braces": (PROMPT, "  prompt: The {object} of {} is\n", 3, "braces other than {}"),
    "lone brace": (PROMPT, "  prompt: The } of {} is\n", 3, "braces other than {}"),
    "trailing space": (PROMPT, '  prompt: "The capital of {} is "\n', 3, "white space"),
    "full stop": (PROMPT, "  prompt: The capital of {} is.\n", 3, "ends with '.'"),
    "colon": (PROMPT, '  prompt: "The capital of {}:"\n', 3, "ends with ':'"),
    "question": (PROMPT, "  prompt: What is the capital of {}?\n", 3, "ends with '?'"),
    "dots": (PROMPT, "  prompt: The capital of {} is...\n", 3, "marks a place for the object"),
    "dots inside": (PROMPT, "  prompt: As ... rules {} from\n", 3, "marks a place for the object"),
    "ellipsis": (PROMPT, "  prompt: The … of {} is\n", 3, "marks a place for the object"),
    "[object]": (PROMPT, "  prompt: As [object] is the capital of {} it is\n", 3, "marks a place for the object"),
    "<object>": (PROMPT, "  prompt: As <object> is the capital of {} it is\n", 3, "marks a place for the object"),
    "___": (PROMPT, "  prompt: ___ is the capital of {} because\n", 3, "marks a place for the object"),
    "subject last": (PROMPT, "  prompt: The capital of {}\n", 3, "ends with the subject"),
    "two spaces": (PROMPT, "  prompt: The capital  of {} is\n", 3, "two spaces"),
    "line break": (PROMPT, '  prompt: "The capital\\nof {} is"\n', 3, "line break"),
    "empty": (PROMPT, '  prompt: ""\n', 3, "the prompt is empty"),
    "nothing": (PROMPT, "  prompt:\n", 3, "the prompt has no text"),
    "number": (PROMPT, "  prompt: 12\n", 3, "the prompt (12) is read as int"),
    "list": (PROMPT, "  prompt: [a, b]\n", 3, "the prompt is a list"),
    "bool label": ("  label: capital\n", "  label: no\n", 2, "the label (no) is read as bool"),
    "label braces": ("  label: capital\n", '  label: "capital of {}"\n', 2, "the label has braces"),
    "missing": (PROMPT, "", 1, "prompt missing"),
    "unknown field": (PROMPT, PROMPT + "  extra: x\n", 4, "no field 'extra'"),
    "field twice": (PROMPT, PROMPT + PROMPT, 4, "prompt comes twice (first in line 3)"),
    "relation twice": (GOOD, GOOD + GOOD, 10, "P36 comes twice (first in line 1)"),
    "relation id": ("P36:", "P36 x:", 1, "not a relation id"),
    "relation null": ("P36:", "~:", 1, "the key has no text"),
    "no question mark": ("of {}?", "of {}", 9, "does not end with '?'"),
    "three paraphrases": ("    - As for {}, the capital is\n", "", 5, "3 paraphrases; at least 4"),
    "same paraphrase": ("As for {}, the capital is", "The Capital city of {} is called", 8, "same as paraphrase 1"),
    "prompt again": ("As for {}, the capital is", "The capital of {} IS", 8, "same as the prompt"),
    "bad paraphrase": ("As for {}, the capital is", "As for it, the capital is", 8, "paraphrase 4 has no {}"),
    "paraphrases no list": (GOOD[GOOD.index("    - The") : GOOD.index("  question")], "    x\n", 5, "are a list"),
    "python object": ("label: capital", "label: !!python/name:os.system x", 2, "the tag !!python/name:os.system"),
    "python call": ("P36:", "P36: !!python/object:x.Y", 1, "the tag !!python/object:x.Y"),
    "python tuple": ("  paraphrases:", "  paraphrases: !!python/tuple", 4, "the tag !!python/tuple"),
    "own tag": ("label: capital", "label: !mine capital", 2, "the tag !mine"),
    "syntax": ("label: capital", "label: [capital", 3, "not YAML"),
    "control character": ("label: capital", "label: cap\x07ital", 2, "control character"),
    "two documents": (GOOD, GOOD + "---\n" + GOOD, 10, "not YAML"),
    "empty file": (GOOD, "# nothing\n", 1, "holds relations"),
    "a list of templates": (GOOD, "- P36\n", 1, "holds relations"),
    "no template": (GOOD, "P36: capital\n", 1, "a template has label, prompt, paraphrases, question"),
    "scope of a class alone": (
        "  question:",
        "  scope: {class: Q515}\n  question:",
        9,
        "the scope is a class and a number",
    ),
    "scope of no class": (
        "  question:",
        "  scope: {class: X, min_sitelinks: 4}\n  question:",
        9,
        "the scope is a class",
    ),
    "scope of more": ("  question:", "  scope: {class: Q5, min_sitelinks: 4, n: 1}\n  question:", 9, "the scope is a"),
    "scope as text": ("  question:", "  scope: Q515\n  question:", 9, "scope is a class and a number"),
    "wordings without the subject first": (
        "  question:",
        "  wordings:\n    - The chief city of {} is\n  question:",
        10,
        "no wording begins with the subject",
    ),
    "wording twice": (
        "  question:",
        '  wordings:\n    - "{} is led from"\n    - "{} is LED from"\n  question:',
        11,
        "wording 2 is the same as wording 1",
    ),
    "wording that is measured": (
        "  question:",
        '  wordings:\n    - "{}\'s capital is"\n  question:',
        10,
        "wording 1 is the same as paraphrase 3",
    ),
    "wording with a full stop": (
        "  question:",
        '  wordings:\n    - "{} is led from."\n  question:',
        10,
        "wording 1 ends with '.'",
    ),
    "no wordings": ("  question:", "  wordings: []\n  question:", 9, "0 wordings; at least 1"),
    "subject braces": ("  question:", '  subject: "{}"\n  question:', 9, "the subject has braces"),
    "nested too deep": (GOOD, "[" * 5000, 1, "nest"),  # by our bound or by the parser's own
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_template_is_refused_with_its_line(case: str, tmp_path: Path) -> None:
    old, new, line, message = BAD[case]
    assert old in GOOD
    path = write(tmp_path / "bad.yaml", GOOD.replace(old, new, 1))
    with pytest.raises(TemplateError) as caught:
        check_file(path)
    problems = str(caught.value).splitlines()
    assert any(problem.startswith(f"{path}:{line}: ") and message in problem for problem in problems), problems
    with pytest.raises(TemplateError):
        load_templates(tmp_path)


def test_a_template_may_name_the_part_that_a_pull_of_wikidata_reads(tmp_path: Path) -> None:
    text = GOOD.replace("  question:", "  scope: {class: Q515, min_sitelinks: 40}\n  question:")
    (with_scope,) = check_file(write(tmp_path / "own.yaml", text))
    assert with_scope.scope == Scope("Q515", 40)
    (without,) = check_file(write(tmp_path / "own.yaml", GOOD))
    assert without.scope is None


def test_all_bad_entries_come_in_one_error(tmp_path: Path) -> None:
    first = write(tmp_path / "a.yaml", GOOD.replace(" of {} is\n", " is\n").replace("of {}?", "of it."))
    second = write(tmp_path / "b.yaml", entry("P17", "The {} of {} is"))
    with pytest.raises(TemplateError) as caught:
        load_templates(tmp_path)
    places = [problem.split(": ")[0] for problem in str(caught.value).splitlines()]
    assert places == [f"{first}:3", f"{first}:9", f"{second}:3"]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match=r"gone.yaml: cannot be read \(No such file"):
        check_file(tmp_path / "gone.yaml")
    (tmp_path / "latin.yaml").write_bytes("# x\n# é\n".encode("latin-1"))
    with pytest.raises(TemplateError, match=r"latin.yaml:2: not UTF-8"):
        check_file(tmp_path / "latin.yaml")
    with pytest.raises(TemplateError, match="not a folder"):
        load_templates(tmp_path / "latin.yaml")


def test_kbsyncs_own_templates_are_good_and_enough() -> None:
    templates = load_templates(templates_folder())
    assert len(templates) >= 45
    assert [relation for relation in f"{COUNTERFACT} {CHANGING}".split() if relation not in templates] == []


def test_kbsyncs_own_texts_tell_relations_apart() -> None:
    templates = load_templates(templates_folder())
    texts = Counter(
        normalise_label(text) for t in templates for text in (t.prompt, *t.wordings, *t.paraphrases, t.question)
    )
    assert [text for text, count in texts.items() if count > 1] == []


def before_subject(*texts: str) -> list[str]:
    """Return what stands before the subject: with a text's subject, it is all that its key depends on."""
    return [normalise_label(text.split("{}")[0]) for text in texts if not text.startswith("{}")]


def test_kbsyncs_own_edited_texts_have_keys_of_their_own_unless_they_begin_with_the_subject() -> None:
    templates = load_templates(templates_folder())
    edited = Counter(words for t in templates for words in before_subject(t.prompt, *t.wordings))
    assert [words for words, count in edited.items() if count > 1] == []
    measured = {words for t in templates for words in before_subject(*t.paraphrases)}
    assert sorted(measured & edited.keys()) == []


def test_kbsyncs_own_templates_have_wordings_of_both_kinds() -> None:
    for template in load_templates(templates_folder()):
        assert [text.startswith("{}") for text in template.wordings] == [True, False, False, True], template.relation
        for wording in template.wordings:
            others = (template.question, *template.paraphrases)
            alike = [text for text in others if SequenceMatcher(None, wording, text).ratio() > 0.9]
            assert alike == [], template.relation


def test_kbsyncs_own_relations_of_countries_stand_beside_one_another() -> None:
    beside = {template.relation for template in load_templates(templates_folder()).beside("P36")}
    assert beside >= {"P6", "P30", "P35", "P37", "P38"}
    assert beside.isdisjoint({"P36", "P19", "P159"})
