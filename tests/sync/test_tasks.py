"""Tasks of lm-evaluation-harness: one of ours, from local JSON."""

import json
from pathlib import Path

import pytest
import yaml

from kbsync.errors import SettingsError
from kbsync.models import LoadedModel
from kbsync.sync.evaluate import EvalOptions, run_eval
from kbsync.sync.guards import Bounds, Guard
from kbsync.sync.home import silent
from kbsync.sync.tasks import Tasks
from tests.homes import SWAPPED, Editable, done, kbsync, make_home, small, write_facts
from tests.tiny_models import FACTS, known

pytest.importorskip("lm_eval")
__all__ = ["known", "small"]
pytestmark = pytest.mark.filterwarnings("default")  # of others' making


def task(folder: Path, name: str, answers: list[int]) -> Path:
    """Write a task of a question for each answer: which of two capitals is the country's; the first one is."""
    folder.mkdir(exist_ok=True)
    questions = folder / f"{name}.jsonl"
    pairs = zip(FACTS[: len(answers)], answers, strict=True)
    lines = [json.dumps({"prompt": one.prompt.format(one.subject), "choices": [one.target, "Atlantis"], "label": label})
             for one, label in pairs]  # fmt: skip
    questions.write_text("\n".join(lines) + "\n", encoding="utf-8")
    file = folder / f"{name}.yaml"
    file.write_text(f"""\
task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {{test: {questions}}}
  cache_dir: {folder / "cache"}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{prompt}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: label
metric_list:
  - metric: acc
""")
    return file


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "tasks"


def test_all_right_and_all_wrong_and_by_hand(known: LoadedModel, folder: Path) -> None:
    answers = {"capitals_right": [0, 0, 0], "capitals_wrong": [1, 1, 1], "capitals_some": [0, 1, 0, 0]}
    names = [str(task(folder, name, labels)) for name, labels in answers.items()]
    found = Tasks(names).figures(known, silent)
    assert {name: (one.mean, one.cases) for name, one in found.items()} == {
        "task.capitals_right.acc": (100.0, 3),
        "task.capitals_wrong.acc": (0.0, 3),
        "task.capitals_some.acc": (75.0, 4),
    }
    # The standard error of the mean of 1, 0, 1, 1, with n - 1 under the root.
    error = 100 * ((3 * 0.25**2 + 0.75**2) / 3 / 4) ** 0.5
    some = found["task.capitals_some.acc"]
    assert (some.low, some.high) == pytest.approx((75 - 1.96 * error, 75 + 1.96 * error))
    assert Tasks(names[:1], limit=2).figures(known, silent)["task.capitals_right.acc"].cases == 2


def test_what_is_no_task(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The harness' own tasks are thousands of files to look through.
    from lm_eval.tasks import TaskManager

    monkeypatch.setattr("lm_eval.tasks.TaskManager", lambda **named: TaskManager(include_defaults=False))
    with pytest.raises(SettingsError, match="no_such_task: lm-evaluation-harness has no such task"):
        Tasks(["no_such_task"])
    with pytest.raises(SettingsError, match=r"none\.yaml: there is no such file"):
        Tasks([str(folder / "none.yaml")])


def test_a_bound_on_a_task_guards_an_apply() -> None:
    table = {"task.capitals.acc": {"before": 80.0, "after": 70.0}}
    assert Bounds().breaches(table) == []
    (told,) = Bounds(max_task_loss=5).breaches(table)
    assert told == "capitals.acc fell from 80.00 to 70.00 (10.0 points, more than the 5 of --max-task-loss)"
    assert Guard(Bounds(max_task_loss=5), force=True).judge(table) == f"forced: {told}"


def test_an_apply_is_refused_and_eval_tells_both_sides(small: Editable, folder: Path, tmp_path: Path) -> None:
    """The edit is of the very fact that the task asks for."""
    file = task(folder, "capitals_one", [0])
    home = make_home(tmp_path / "home", P36={FACTS[0].subject: "Atlantis"})
    bounded = ("apply", "--home", home, *small.arguments, "--set", "steps=5", "--yes", "--tasks", file)
    ran = kbsync(*bounded, "--max-task-loss", 0, "--force", "--json")
    assert ran.code == 0, ran.err
    figures = ran.json["metrics"]["task.capitals_one.acc"]
    assert figures["before"] == 100
    found = run_eval(home, small.name, EvalOptions(metrics=("ES",), tasks=(str(file),)))
    assert found["edited"] is not None
    assert found["base"]["task.capitals_one.acc"].mean == 100
    assert found["edited"]["task.capitals_one.acc"].mean == figures["after"]


def test_a_project_names_tasks_for_sync_and_bisect(
    small: Editable, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    facts = {FACTS[0].subject: SWAPPED[FACTS[0].subject]}
    make_home(tmp_path / ".kbsync", P36=facts)
    bounds = {"max_perplexity_increase": 1e6, "max_specificity_loss": 100, "max_weight_change": 1e12}
    content = {
        "model": small.name,
        "corpus": str(small.corpus),
        "sources": [{"source": str(write_facts(tmp_path / "facts.yaml", P36=facts)), "relations": ["P36"]}],
        "settings": dict(text.split("=") for text in small.settings) | {"steps": "5"},
        "tasks": [str(task(folder, "capitals_one", [0]))],
        "bounds": bounds | {"max_task_loss": 100},
    }
    (tmp_path / "kbsync.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    bisected = done("bisect", "--yes", "--json").json
    assert bisected["found"] == []
    told = bisected["applied"]["metrics"]["task.capitals_one.acc"]
    assert told["before"] == 100
    write_facts(tmp_path / "facts.yaml", P36=facts | {FACTS[1].subject: SWAPPED[FACTS[1].subject]})
    assert done("sync", "--json").json["applied"]["metrics"]["task.capitals_one.acc"]["before"] == 100
    shown = {one["name"]: one["origin"] for one in done("config", "show", "--json").json["values"]}
    assert shown["tasks"] == shown["bounds.max_task_loss"] == "file"
