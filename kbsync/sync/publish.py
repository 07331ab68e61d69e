"""Publish: an export goes where models are served from, and a running vLLM takes up its adapter."""

import json
import os
import secrets
import shutil
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kbsync.errors import KbsyncError, SettingsError
from kbsync.facts import EditRequest
from kbsync.ledger import Ledger
from kbsync.ledger.edits import active_after
from kbsync.sync.export import whole
from kbsync.sync.export_files import bill_in, weights_in
from kbsync.sync.home import Progress, silent, templates_for
from kbsync.sync.known import prompt_of, requests_of, says

CURRENT = "current"
"""the link to the newest export; on an object store, an object that holds its name"""
PATIENCE = 120.0
"""seconds that a server may take for one answer"""
PROBED = 50
"""facts at most that a server is asked for"""
ANSWER_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Published:
    """Where an export went; a server answered `recalled` of `asked` facts, and served `replaced` before."""

    name: str
    place: str
    replaced: tuple[str, ...] = ()
    recalled: int = 0
    asked: int = 0


def publish(
    home: Path, export: Path, to: str, *, server: str | None = None, least: float = 90.0, progress: Progress = silent
) -> Published:
    """Copy an exported folder into a folder (or object store) `to`, named by its batch, and point `current` at it.

    With `server`, the URL of a running vLLM, the adapter is loaded there under that name, asked for its facts, and the
    kbsync adapters of the same model that were loaded before are unloaded. Where it recalls less than `least` percent,
    it is unloaded again, the old ones and `current` stay, and KbsyncError is raised.
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
        return Published(name, f"{to.rstrip('/')}/{name}")
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
                raise SettingsError(
                    f"the ledger in {home} does not know the base model of {export}: name another --home"
                )
            edits = active_after(ledger, known.key, bill.batch)[:PROBED]
            requests = requests_of(ledger, templates_for(home), edits)
        replaced, recalled = taken_up(server, name, family, place, requests, least, progress)
        asked = len(requests)
    link = place.parent / f".{CURRENT}-{secrets.token_hex(4)}"
    os.symlink(name, link)
    link.replace(place.parent / CURRENT)
    return Published(name, str(place), replaced, recalled, asked)


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
        for done, request in enumerate(requests):
            progress("asking the server", done, len(requests))
            right += says(said(server, name, prompt_of(request)), request)
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


def said(server: str, name: str, prompt: str) -> str:
    """Return what the served model says after a prompt, greedily."""
    body = {"model": name, "prompt": prompt, "max_tokens": ANSWER_TOKENS, "temperature": 0}
    return str(call(server, "/v1/completions", body)["choices"][0]["text"])


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
