"""docs/daily.md: its files are what systemd, GitHub Actions and kbsync take."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kbsync.project import read_project
from kbsync.sync.guards import read_canaries

DOCS = (Path(__file__).parents[1] / "docs" / "daily.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL)


def test_the_workflow_is_one(tmp_path: Path) -> None:
    (workflow,) = [text for text in blocks("yaml") if "runs-on" in text]
    file = tmp_path / "facts.yml"
    file.write_text(workflow, encoding="utf-8")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(file)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    file.write_text(workflow.replace("runs-on:", "runs-at:"), encoding="utf-8")
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0  # the schema does look


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze on PATH (Debian: systemd)")
def test_the_units_are_ones(tmp_path: Path) -> None:
    service, timer = (
        next(text for text in blocks("ini") if name in text) for name in ("TimeoutStartSec", "OnCalendar")
    )
    watch = next(text for text in blocks("ini") if "kbsync watch" in text)
    units = {"kbsync.service": service, "kbsync.timer": timer, "kbsync-watch.service": watch}
    for name, text in units.items():
        (tmp_path / name).write_text(text.replace("WorkingDirectory=/srv/facts", f"WorkingDirectory={tmp_path}"))
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no"]
    command += [str(tmp_path / name) for name in units]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_project_files_are_ones(tmp_path: Path) -> None:
    told = [text for text in blocks("yaml") if text.startswith(("model:", "sources:"))]
    assert len(told) >= 3
    for text in told:
        file = tmp_path / "kbsync.yaml"
        file.write_text(text, encoding="utf-8")
        assert read_project(file).sources
    (canaries,) = [text for text in blocks("yaml") if text.startswith("# canaries.yaml")]
    file.write_text(canaries, encoding="utf-8")
    assert len(read_canaries(file)) == len(yaml.safe_load(canaries)) == 2
