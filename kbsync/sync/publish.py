"""Publish: an export goes where models are served from, and a running vLLM takes up its adapter.

Audit: what an exported file holds, from the file alone and, where the ledger is at hand, against it.
"""

import json
import os
import secrets
import shutil
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kbsync.errors import KbsyncError, SettingsError
from kbsync.facts import EditRequest
from kbsync.ledger import EditRow, Ledger
from kbsync.ledger.edits import active_after
from kbsync.sync.export import whole
from kbsync.sync.export_bill import Bill, about, ledger_hash
from kbsync.sync.export_files import bill_in, changes_in, deviations, weights_in
from kbsync.sync.history import parse_fact
from kbsync.sync.home import AS_STORED, Loading, Progress, silent, templates_for
from kbsync.sync.known import prompt_of, requests_of, says
from kbsync.sync.model import choose_model, current_deltas, known_model

CURRENT = "current"
"""the link to the newest export; on an object store, an object that holds its name"""
PATIENCE = 120.0
"""seconds that a server may take for one answer"""
PROBED = 50
"""facts at most that a server is asked for"""
ANSWER_TOKENS = 16


def publish(
    home: Path, export: Path, to: str, *, server: str | None = None, least: float = 90.0, progress: Progress = silent
) -> dict[str, Any]:
    """Copy an exported folder into a folder (or object store) `to`, named by its batch, and point `current` at it.

    With `server`, the URL of a running vLLM, the adapter is loaded there under that name, asked for its facts, and the
    kbsync adapters of the same model that were loaded before are unloaded. Where it recalls less than `least` percent,
    it is unloaded again, the old ones and `current` stay, and KbsyncError is raised. Returns where the export
    went, what was unloaded, and how many of the facts that the server was asked for it recalled.
    """
    files = weights_in(export) if export.is_dir() else []
    bill = bill_in(files[0])[0] if files else None
    if bill is None:
        raise SettingsError(f"{export} is no exported folder: `kbsync export --to DIR` writes one")
    if server is not None and (bill.format != "lora" or "://" in to):
        raise SettingsError("--server loads an adapter from a folder: export with --format lora, and name a folder")
    family = f"{Path(bill.model).stem}-kbsync-{bill.format}-b"
    name = f"{family}{bill.batch}"
    if "://" in to:
        store(export, to, name)
        return {"name": name, "place": f"{to.rstrip('/')}/{name}", "replaced": (), "recalled": 0, "asked": 0}
    place = Path(to).absolute() / name
    if not place.exists():
        with whole(place) as made:
            shutil.copytree(export, made)
    elif any(bill_in(one) != bill_in(other) for one, other in zip(files, weights_in(place), strict=False)):
        raise SettingsError(f"{place} is another export of batch {bill.batch}: move it away first")
    replaced: tuple[str, ...] = ()
    recalled = asked = 0
    if server is not None:
        with Ledger.open(home, create=False) as ledger:
            known = next((row for row in ledger.models() if row.weights_sha256 == bill.base_sha256), None)
            if known is None:
                told = f"the ledger in {home} does not know the base model of {export}"
                raise SettingsError(f"{told}: name another --home")
            edits = active_after(ledger, known.key, bill.batch)[:PROBED]
            requests = requests_of(ledger, templates_for(home), edits)
        replaced, recalled = taken_up(server, name, family, place, requests, least, progress)
        asked = len(requests)
    link = place.parent / f".{CURRENT}-{secrets.token_hex(4)}"
    os.symlink(name, link)
    link.replace(place.parent / CURRENT)
    return {"name": name, "place": str(place), "replaced": replaced, "recalled": recalled, "asked": asked}


def store(export: Path, to: str, name: str) -> None:
    """Copy to an object store, where nothing can be renamed or linked: the name is written last."""
    import fsspec

    try:
        files, path = fsspec.core.url_to_fs(to)
        for one in export.iterdir():
            files.put_file(str(one), f"{path}/{name}/{one.name}")
        files.pipe_file(f"{path}/{CURRENT}", name.encode())
    except (OSError, ImportError, ValueError) as error:
        raise KbsyncError(f"cannot write to {to}: {error}") from error


def taken_up(
    server: str, name: str, family: str, place: Path, requests: Sequence[EditRequest], least: float, progress: Progress
) -> tuple[tuple[str, ...], int]:
    """Let a server serve an adapter in place of earlier ones; return those, and how many facts it answers."""
    server = server.rstrip("/")
    before = [one["id"] for one in call(server, "/v1/models")["data"] if one["id"].startswith(family)]
    if name not in before:
        call(server, "/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(place)})
    try:
        right = 0
        greedily = {"model": name, "max_tokens": ANSWER_TOKENS, "temperature": 0}
        for done, request in enumerate(requests):
            progress("asking the server", done, len(requests))
            said = call(server, "/v1/completions", {**greedily, "prompt": prompt_of(request)})
            right += says(str(said["choices"][0]["text"]), request)
        if 100 * right < least * len(requests):
            raise KbsyncError(
                f"{server} answers {right} of {len(requests)} facts through {name}: it was unloaded, and what was"
                " served before stays"
            )
    except BaseException:
        if name not in before:
            call(server, "/v1/unload_lora_adapter", {"lora_name": name})
        raise
    old = tuple(one for one in before if one != name)
    for one in old:
        call(server, "/v1/unload_lora_adapter", {"lora_name": one})
    return old, right


def call(server: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """Return a server's answer, JSON where it is; raise KbsyncError where it cannot be had."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server + path, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            text = answer.read().decode()
    except urllib.error.HTTPError as error:
        told = error.read().decode(errors="replace")[:300]
        hint = "; start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 --enable-lora" if error.code == 404 else ""
        raise KbsyncError(f"{server}{path} says {error.code}: {told}{hint}") from error
    except OSError as error:
        raise KbsyncError(f"{server} does not answer: {getattr(error, 'reason', error)}") from error
    try:
        return json.loads(text)
    except ValueError:
        return text


def check_push(repository: str | None, *, dry_run: bool) -> None:
    """Raise SettingsError where a push is asked for and there is no token, or a dry run of none."""
    from huggingface_hub import get_token

    if repository is None and dry_run:
        raise SettingsError("--dry-run shows what --push would upload: name its repository")
    if repository is not None and not dry_run and get_token() is None:
        raise SettingsError("there is no token for the hub: set HF_TOKEN or run `hf auth login`; --dry-run needs none")


def push(folder: Path, repository: str, *, dry_run: bool) -> list[tuple[str, int]]:
    """Upload an exported folder to a repository of the hub; return its files with their bytes.

    With `dry_run` nothing is sent. The token is the one of the hub's own tools (HF_TOKEN, or `hf auth login`).
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    files = [(path.name, path.stat().st_size) for path in sorted(folder.iterdir())]
    if dry_run:
        return files
    api = HfApi()
    try:
        api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message=f"kbsync: {folder.name}")
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise KbsyncError(f"cannot push to {repository}: {error}") from error
    return files


SAME = 1e-3
"""by how much a layer's deviation may differ from the bill's: sums are rounded otherwise on another machine"""


def audit(
    place: Path, facts: Sequence[str] = (), *, home: Path, weights: bool = False, loading: Loading = AS_STORED
) -> dict[str, Any]:
    """Audit an exported file, or all files of an exported folder; `facts` are subject and relation, ``Albania P6``.

    Where `home` has a ledger, the bill is held against it and, with `weights`, the edited layers too, for which the
    base model is loaded. Returns, with the keys of the JSON, what the files say of themselves, and whether that is so.
    """
    asked = {text: parse_fact(text) for text in facts}
    files = weights_in(place)
    if not files:
        raise KbsyncError(f"{place}: there is no safetensors or GGUF file; name an exported file or folder")
    bills, changed = [], []
    for file in files:
        bill, hashes = bill_in(file)
        if bill is None:
            raise KbsyncError(
                f"{file} carries no bill of materials: kbsync did not write it, or another program has since"
            )
        names = sorted(bill.tensors.keys() | hashes.keys())
        changed += [name for name in names if bill.tensors.get(name) != hashes.get(name)]
        bills.append(replace(bill, tensors={}))
    if any(bill != bills[0] for bill in bills):
        raise KbsyncError(f"{place} holds files of several exports: name one of them")
    told, agrees = None, None
    edits: list[EditRow] = []
    if weights or (home / "ledger.db").exists():
        with Ledger.open(home, create=False) as ledger:
            told, agrees, edits = against(ledger, bills[0], files, weights, loading)
    objects = {about(edit.relation, name): edit.object for edit in edits for name in (edit.subject, edit.subject_key)}
    marks = {mark for each in bills[0].facts.values() for mark in each}
    wanted = {text: about(relation, subject) for text, (subject, relation) in asked.items()}
    return {
        "bill": bills[0],
        "changed": changed,  # tensors that are not as they were written, are missing, or came later
        "facts": [{"fact": text, "held": mark in marks, "object": objects.get(mark)} for text, mark in wanted.items()],
        "ledger": told,  # what the ledger says of it; None where there is none at hand
        "agrees": agrees,  # whether the ledger and the base model, as far as they are at hand, say the same
    }


def against(
    ledger: Ledger, bill: Bill, files: Sequence[Path], weights: bool, loading: Loading
) -> tuple[str, bool, list[EditRow]]:
    models = [row for row in ledger.models() if row.weights_sha256 == bill.base_sha256]
    found = [(row, batch) for row in models for batch in ledger.batches(row.key) if batch.id == bill.batch]
    if not found:
        return f"the ledger has no batch {bill.batch} of this base model", False, []
    model, batch = found[0]
    edits = active_after(ledger, model.key, batch.id)
    if ledger_hash(model, batch, edits) != bill.ledger_sha256:
        return f"batch {batch.id} is another one in the ledger", False, []
    if not weights:
        return f"batch {batch.id} is on record just so", True, edits
    choice = choose_model(model.name, home=ledger.home, loading=loading)
    if (known := known_model(ledger, choice)) is None or known.key != model.key:
        return f"{model.name} is not the base model now", False, edits
    deltas = current_deltas(ledger, batch)
    seen = deviations(deltas, changes_in(files, choice.loaded, deltas))
    wrong = [layer for layer, value in seen.items() if abs(value - bill.deviation.get(layer, 0.0)) > SAME]
    if wrong:
        return f"the weights of layers {', '.join(wrong)} are not what batch {batch.id} gives", False, edits
    return f"the weights are what batch {batch.id} gives", True, edits
