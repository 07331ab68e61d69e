"""Export a home's edits in every form, ask each through the runtime that it is for, and print the table of exports.md.

    python docs/ask_exports.py HOME MODEL FOLDER

Needs peft and xllamacpp. A HOME that is not there yet is made, with the 40 facts of the demo's relations that changed
last. Facts are asked greedily through completion (the edit prompt) and through chat (the question); an answer is right
where it begins with the object (completion) or names it (chat). In brackets: of those that kbsync's own edited model
answers right, how many the export does.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import peft
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from kbsync.facts import EditRequest, normalise_label
from kbsync.ledger import Ledger
from kbsync.memit import edited
from kbsync.models import greedy_answers
from kbsync.models.scoring import render
from kbsync.resources import fixtures_folder
from kbsync.sources.loopback import serve
from kbsync.sync.apply import ApplyOptions, apply
from kbsync.sync.demo import RELATIONS, latest
from kbsync.sync.export import Form, export
from kbsync.sync.home import silent, templates_for
from kbsync.sync.known import prompt_of, requests_of, says
from kbsync.sync.model import choose_model, current_deltas, known_model
from kbsync.sync.plan import plan_for
from kbsync.sync.pull import pull
from kbsync.sync.reading import make_asks

TOKENS = 16
EACH = 10
"""facts of each relation"""
FORMS = {
    "checkpoint": Form("checkpoint"),
    "lora": Form("lora"),
    "gguf F16": Form("gguf"),
    "gguf Q8_0": Form("gguf", quant="Q8_0"),
}
LLAMA = """
import json, sys, xllamacpp
settings = xllamacpp.CommonParams()
settings.model.path, settings.n_ctx, settings.warmup, settings.verbosity = sys.argv[1], 512, False, 0
server = xllamacpp.Server(settings)
prompts, questions, tokens = json.load(sys.stdin)
given = {"max_tokens": tokens, "temperature": 0}
said = [server.handle_completions({"prompt": one, **given})["choices"][0]["text"] for one in prompts]
turns = [[{"role": "user", "content": one}] for one in questions]
chat = [server.handle_chat_completions({"messages": one, **given})["choices"][0]["message"]["content"] for one in turns]
print(json.dumps([said, chat]), flush=True)
"""
"""a program of its own, as the server in it is never closed"""


def main(home: Path, name: str, folder: Path) -> None:
    """Write, ask, and print a row for each."""
    if not (home / "ledger.db").exists():
        teach(home, name)
    choice = choose_model(name, home=home)
    with Ledger.open(home, create=False) as ledger:
        known = known_model(ledger, choice)
        assert known is not None
        requests = requests_of(ledger, templates_for(home), ledger.active_edits(known.key))
        deltas = current_deltas(ledger, ledger.current_batch(known.key))
    prompts = [prompt_of(one) for one in requests]
    questions = [one.question.replace("{}", one.subject) for one in requests]
    texts = [*prompts, *(render(choice.loaded.tokenizer, one) for one in questions)]
    count = len(requests)
    print(f"| {count} edits | MB | seconds to export | completion | chat |\n| --- | --- | --- | --- | --- |")
    found = {}
    for what, held in (("base model", {}), ("kbsync's edited model", deltas)):
        with edited(choice.loaded, held):
            said = greedy_answers(choice.loaded, texts, TOKENS, whole=True)
        found[what] = right(requests, said[:count], said[count:])
    own = found["kbsync's edited model"]
    for what, one in found.items():
        print(row(what, "", "", one, own), flush=True)
    for what, form in FORMS.items():
        begun = time.perf_counter()
        done = export(home, name, folder / what.replace(" ", "-"), form)
        seconds = f"{time.perf_counter() - begun:.1f}"
        if form.format == "gguf":
            what, answers = f"{what}, llama.cpp", through_llama_cpp(done.folder, prompts, questions)
        elif form.format == "lora":
            model: Any = peft.PeftModel.from_pretrained(choice.loaded.model, done.folder)
            said = [generated(model, choice.loaded.tokenizer, one) for one in texts]
            model.unload()
            what, answers = f"lora of rank {done.rank}, PEFT", (said[:count], said[count:])
        else:
            model = AutoModelForCausalLM.from_pretrained(done.folder)
            tokenizer = AutoTokenizer.from_pretrained(done.folder)
            said = [generated(model, tokenizer, one) for one in texts]
            what, answers = f"{what}, transformers", (said[:count], said[count:])
        print(row(what, f"{done.bytes / 1e6:.1f}", seconds, right(requests, *answers), own), flush=True)


def teach(home: Path, name: str) -> None:
    """Make a home whose model holds the facts that have changed last, as the demo's does."""
    with serve(fixtures_folder() / "wikidata" / "later.ttl") as endpoint:
        pull(home, make_asks(RELATIONS, endpoint), endpoint, silent)
    only = latest(plan_for(home, None), EACH)
    apply(home, ApplyOptions(name, only=only, values={"search_dtype": "auto"}), lambda _: True)


def row(what: str, size: str, seconds: str, found: Sequence[Sequence[bool]], own: Sequence[Sequence[bool]]) -> str:
    """Return a line of the table: how many are right and, of those that `own` has right, how many."""
    told = [
        f"{sum(here)} ({sum(map(min, here, wanted))} of {sum(wanted)})" for here, wanted in zip(found, own, strict=True)
    ]
    return f"| {' | '.join([what, size, seconds, *told])} |"


def right(requests: Sequence[EditRequest], said: Sequence[str], chat: Sequence[str]) -> list[list[bool]]:
    """Tell for each fact whether the completion begins with its object, and whether the chat names it."""
    return [
        [says(answer, one) for answer, one in zip(said, requests, strict=True)],
        [names(answer, one) for answer, one in zip(chat, requests, strict=True)],
    ]


def through_llama_cpp(folder: Path, prompts: list[str], questions: list[str]) -> tuple[list[str], list[str]]:
    """Return what llama.cpp says to each through the file in a folder: by completion, and by chat."""
    (file,) = folder.glob("*.gguf")
    given = json.dumps([prompts, questions, TOKENS])
    ran = subprocess.run(
        [sys.executable, "-c", LLAMA, file], input=given, stdout=subprocess.PIPE, text=True, check=True
    )
    said, chat = json.loads(ran.stdout)
    return said, chat


def generated(model: Any, tokenizer: Any, text: str) -> str:
    """Return a model's greedy answer by transformers' own `generate`."""
    row = tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        ids = model.generate(**row, max_new_tokens=TOKENS, do_sample=False, pad_token_id=tokenizer.eos_token_id)
    return str(tokenizer.decode(ids[0, row["input_ids"].shape[1] :], skip_special_tokens=True))


def names(answer: str, request: EditRequest) -> bool:
    """Tell whether a chat's answer names the object, or an alias of it, anywhere."""
    return any(normalise_label(name) in normalise_label(answer) for name in request.names)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
