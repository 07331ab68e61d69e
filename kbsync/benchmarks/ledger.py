"""How the ledger bears many facts: pull, plan and status, each a process of its own whose time and memory are taken.

The edits are recorded through the ledger's own calls, as an apply records them, but no model is edited: their target
keys and figures are made up. Nothing here loads a model, so that this process is small and what it starts is measured
alone.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from kbsync.benchmarks.measured import run_process, write_facts
from kbsync.errors import KbsyncError, LedgerError, SettingsError
from kbsync.facts import EditRequest
from kbsync.ledger import FactRow, Ledger, Metric, NewEdit
from kbsync.ledger.edits import finish_batch, start_batch
from kbsync.report.console import Parts, table
from kbsync.sync.home import Progress, own_templates, silent
from kbsync.templates import Templates

MODEL = "made-up"
CHANGED = 0.01  # share of the facts that differ at the second pull
UNTOLD = ("P1999999", "P2999999")  # relations without a template, so that these are met too


def bench_ledger(home: Path, facts: int, edits: int, *, seed: int = 0, progress: Progress = silent) -> dict[str, Any]:
    """Make `facts` facts, pull them into `home`, record `edits` edits, and take every command's time."""
    if edits > facts // 2:
        raise SettingsError(f"--edits {edits} is too many for {facts} facts: ask for half as many at most")
    if (home / "ledger.db").exists():
        raise LedgerError(f"{home} holds a ledger already, and this one is made up: choose an empty --home")
    templates = own_templates()
    relations = [template.relation for template in templates] + list(UNTOLD)
    home.mkdir(parents=True, exist_ok=True)
    source = home / "facts.nt"
    pull = ("pull", "--source", str(source), *(part for one in relations for part in ("--relation", one)))
    plan = ("plan", "--model", MODEL)
    steps: dict[str, dict[str, float]] = {}

    def run(name: str, arguments: Sequence[str]) -> None:
        progress(f"commands: {name}", len(steps), 8)
        try:
            steps[name], _ = run_process(["-m", "kbsync", "--home", str(home), *arguments])
        except KbsyncError as error:
            raise LedgerError(f"`kbsync {name}` failed: {error}") from error

    progress("the file", 0, 0)
    write_facts(source, facts, relations, seed=seed)
    run("pull", pull)
    progress("the edits", 0, 0)
    record_edits(home, edits, templates)
    run("status", ("status",))
    run("plan", plan)
    run("plan --json", (*plan, "--json"))
    run("status --json", ("status", "--json"))
    write_facts(source, facts, relations, seed=seed, changed=CHANGED)
    run(again := f"pull, {CHANGED:.0%} changed", pull)
    run("status after it", ("status",))
    run("verify", ("verify",))
    return {
        "facts": facts,
        "relations": len(relations),
        "edits": edits,
        "cores": len(os.sched_getaffinity(0)),
        "file_mb": source.stat().st_size / 2**20,
        "ledger_mb": (home / "ledger.db").stat().st_size / 2**20,
        "second_pull": steps[again]["seconds"] / steps["pull"]["seconds"],
        "steps": steps,
    }


def record_edits(home: Path, edits: int, templates: Templates) -> None:
    """Record one batch of `edits` edits of the model `MODEL`, with figures that are made up and no targets."""
    with Ledger.open(home, create=False) as ledger, ledger.writer("bench ledger"):
        rows = _editable(ledger, edits, templates)
        made = []
        for row in rows:
            prompt = templates.require(row.relation).prompt
            named = (row.relation, row.subject_key, row.subject_label, row.object_key, row.object_label)
            request = EditRequest(row.relation, row.subject_label, prompt, row.object_label)
            made.append(NewEdit(row.id, *named, prompt, request.id, None))
        model = ledger.record_model(
            key="model:made-up",
            name=MODEL,
            revision=None,
            architecture="none",
            weights_sha256="0" * 64,
            settings={},
            contexts=("",),
            layers=(0,),
        )
        figures = [Metric(name, 0.0, 100.0, edit.request) for edit in made for name in ("ES", "PS", "NS", "recall")]
        batch = start_batch(ledger, model.key, "memit", {}, "cpu")
        finish_batch(
            ledger,
            batch,
            added=made,
            superseded=(),
            retracted=(),
            metrics=[*figures, Metric("S", 0.0, 100.0)],
            files={},
            seconds={"total": 0.0},
            peak_memory_mb=None,
            planned_on=None,
        )


def _editable(ledger: Ledger, edits: int, templates: Templates) -> list[FactRow]:
    """Return the first facts that no other one shares its subject and relation, or its prompt, with."""
    found: list[FactRow] = []
    for template in templates:
        rows = ledger.facts([template.relation], withdrawn=False)
        keys, labels = Counter(row.subject_key for row in rows), Counter(row.subject_label for row in rows)
        found += [row for row in rows if keys[row.subject_key] == labels[row.subject_label] == 1][: edits - len(found)]
        if len(found) == edits:
            break
    return found


def ledger_view(bench: dict[str, Any]) -> Parts:
    rows = [
        (name, round(one["seconds"], 2), round(one["cpu_seconds"], 2), round(one["peak_mb"]))
        for name, one in bench["steps"].items()
    ]
    title = "{facts:,} facts, {edits:,} edits".format(**bench)
    yield table(("step", "seconds", "CPU seconds", "peak MB"), rows, title=title)
    yield "{relations} relations, a file of {file_mb:.0f} MB, a ledger of {ledger_mb:.0f} MB".format(**bench)
    yield "the second pull took {second_pull:.2f} of the first one's time; {cores} cores".format(**bench)


def curve_view(curve: Mapping[str, Sequence[dict[str, Any]]]) -> RenderableType:
    benches = curve["curve"]
    rows = []
    for name in benches[0]["steps"]:
        took = [bench["steps"][name] for bench in benches]
        rows.append((name, *(f"{one['seconds']:,.1f} s, {one['peak_mb']:,.0f} MB" for one in took)))
    return table(("step", *(f"{bench['facts']:,} facts" for bench in benches)), rows)
