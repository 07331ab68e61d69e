"""Export: the edited model as files for where models run: a checkpoint, a LoRA, a GGUF file, or the deltas alone."""

import json
import os
import re
import secrets
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from kbsync.errors import KbsyncError, LedgerError, SettingsError
from kbsync.files import writing
from kbsync.ledger import Ledger
from kbsync.ledger.edits import active_after
from kbsync.ledger.tensors import alive
from kbsync.memit import edited, load_preset
from kbsync.metrics import evaluate, recalled, summary
from kbsync.models import load_model
from kbsync.sync.eval_cases import ledger_cases
from kbsync.sync.export_bill import make_bill, model_card
from kbsync.sync.export_files import Form, changes_in, weights_in, write
from kbsync.sync.export_gguf import QUANTS
from kbsync.sync.home import AS_STORED, Loading, Progress, silent, templates_for
from kbsync.sync.known import requests_of
from kbsync.sync.model import Session, batch_tensors, choose_model, current_deltas, delta_matrices, known_model

_UNFINISHED = re.compile(r"\.kbsync-export-(\d+)-[0-9a-f]+\Z")
PROBED = 20
"""edits at most that a sync asks the written files for"""
LEAST_HELD = 0.5
"""of the edits that the model recalls, what the files must hold: formats lose some, a broken file nearly all"""
MEASURED = 200
"""edits at most that a file is asked for"""
MEASURES = ("recall", "paraphrase_recall", "ES", "PS", "NS")


def export(
    home: Path,
    model: str,
    folder: Path,
    form: Form | None = None,
    *,
    loading: Loading = AS_STORED,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write the edited model to a new `folder`, whole or not at all; return what was written, with the JSON's keys.

    What a form's precision or rank may lose is measured through the written file.
    """
    form = form or Form()
    if form.quant not in QUANTS:
        raise SettingsError(f"--quant {form.quant}: choose one of {', '.join(QUANTS)}")
    with Ledger.open(home, create=False) as ledger:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise SettingsError(f"{folder} exists already: name a new folder with --to")
        choice = choose_model(model, home=home, loading=loading)
        known = known_model(ledger, choice)
        batch = ledger.current_batch(known.key) if known else None
        if known is None or batch is None:
            raise LedgerError(f"nothing was applied to {choice.name} in {home}: run `kbsync apply` first")
        edits = active_after(ledger, known.key, batch.id)  # an apply may make another batch current meanwhile
        tensors = batch_tensors(ledger, batch)
        deltas = delta_matrices(tensors)
        if not deltas and form.format != "checkpoint":
            raise LedgerError(f"batch {batch.id} left no edits in {choice.name}: there is nothing to export")
        preset = load_preset(model, home)
        hub = preset is not None and not preset.model.startswith("fixtures/")
        bill = make_bill(form.format, preset.model if preset and hub else choice.loaded.source, known, batch, edits)
        name = f"{re.sub('[^A-Za-z0-9.-]+', '-', bill.model).removesuffix('.gguf')}-b{batch.id}"
        with whole(folder) as made:
            progress("writing", 0, 1)
            files, bill = write(choice.loaded, tensors, made, name, form, bill)
            figures = {}
            if form.format in ("lora", "gguf"):
                changes = dict(changes_in(files, choice.loaded, deltas))
                figures = asked(Session(ledger, templates_for(home), choice, known, progress), deltas, changes)
            (made / "kbsync.json").write_text(json.dumps(asdict(bill), indent=1) + "\n", encoding="utf-8")
            (made / "README.md").write_text(model_card(bill, ledger, batch, edits, files[0], figures), encoding="utf-8")
            progress("writing", 1, 1)
    rank = None
    if form.format == "lora":
        rank = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["r"]
    return {
        "folder": folder,
        "format": form.format,
        "model": choice.name,
        "batch": batch.id,
        "edits": len(edits),
        # of the checkpoint, or of a GGUF file's edited tensors
        "dtype": form.quant if form.format == "gguf" else str(choice.loaded.model.dtype).removeprefix("torch."),
        "bytes": sum(path.stat().st_size for path in folder.iterdir()),
        "rank": rank,
        "deviation": bill.deviation,  # of each layer: how far its change is from the batch's delta, as a share of that
        "figures": figures,  # of a LoRA or GGUF file
    }


def asked(
    work: Session, deltas: Mapping[int, torch.Tensor], changes: Mapping[int, torch.Tensor]
) -> dict[str, dict[str, float]]:
    """Return the figures of at most `MEASURED` edits, as the edited model has them and as a written file has them."""
    cases = ledger_cases(work, MEASURED, 0, {})
    found = {}
    for who, one in (("edited", deltas), ("file", changes)):
        with edited(work.loaded, one):
            found[who] = summary(evaluate(work.loaded, cases, MEASURES, progress=work.progress))
    return {name: {who: found[who][name] for who in found} for name in found["file"]}


def probe(home: Path, model: str, folder: Path, *, loading: Loading = AS_STORED) -> dict[str, int]:
    """Ask the written files of an export for a sample of the edits; a checkpoint is loaded from its folder alone.

    Returns how many were asked, how many of them the edited model recalls, and how many of those the files hold.
    """
    with Ledger.open(home, create=False) as ledger:
        choice = choose_model(model, home=home, loading=loading)
        known = known_model(ledger, choice)
        assert known is not None
        sample = sorted(ledger.active_edits(known.key), key=lambda edit: edit.request)[:PROBED]
        requests = requests_of(ledger, templates_for(home), sample)
        deltas = current_deltas(ledger, ledger.current_batch(known.key))
    with edited(choice.loaded, deltas):
        right = recalled(choice.loaded, requests)
    files = weights_in(folder)
    if (folder / "config.json").exists():
        found = recalled(load_model(str(folder), **asdict(replace(loading, revision=None))), requests)
    else:
        with edited(choice.loaded, dict(changes_in(files, choice.loaded, deltas))):
            found = recalled(choice.loaded, requests)
    held = sum(now for now, before in zip(found, right, strict=True) if before)
    if held < LEAST_HELD * sum(right):
        raise KbsyncError(
            f"the exported files hold {held} of {sum(right)} edits that the model recalls, so the last export stays:"
            " choose another format, rank or quant"
        )
    return {"asked": len(requests), "recalled": sum(right), "held": held}


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """Give a folder to write into that becomes `folder` at the end; whatever goes wrong, nothing is left of it."""
    with writing(folder, SafetensorError):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with ended_by_signals(), unfinished(folder.parent) as made:
            yield made
            # Others may read the files as far as they may read the folder: safetensors lets its owner alone.
            mode = made.stat().st_mode & 0o666
            for path in filter(Path.is_file, made.rglob("*")):
                path.chmod(mode)
            if folder.exists():
                folder.rmdir()
            made.rename(folder)


@contextmanager
def unfinished(parent: Path) -> Iterator[Path]:
    """Give a folder in `parent` to write into; it is gone afterwards, unless it was moved to its place.

    What an export left there whose process was killed is taken away first.
    """
    for left in parent.glob(".kbsync-export-*"):
        found = _UNFINISHED.match(left.name)
        if found and not alive(int(found[1])):
            shutil.rmtree(left, ignore_errors=True)
    made = parent / f".kbsync-export-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the work as an error would, so that what is unfinished is taken away."""

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    wanted = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        wanted = []  # only the main thread may
    before = {number: signal.getsignal(number) for number in wanted}
    for number, handler in before.items():
        if handler == signal.SIG_DFL:  # not where it is ignored, as under nohup
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
