"""Export a home's edits in every form, ask each through the runtime that it is for, and print the table of exports.md.

    python docs/ask_exports.py HOME MODEL FOLDER

Needs peft and xllamacpp. Facts are asked greedily through completion (the edit prompt) and through chat (the question);
an answer is right where it begins with the object (completion) or names it (chat).
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import peft
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from kbsync.facts import EditRequest, normalise_label
from kbsync.ledger import Ledger
from kbsync.memit import edited
from kbsync.models import greedy_answers
from kbsync.models.chat import render
from kbsync.sync.export import Form, export
from kbsync.sync.home import templates_for
from kbsync.sync.known import prompt_of, requests_of, says
from kbsync.sync.model import choose_model, current_deltas, known_model

TOKENS = 16
FORMS = {
    "checkpoint": Form("checkpoint"),
    "lora": Form("lora"),
    "gguf F16": Form("gguf"),
    "gguf Q8_0": Form("gguf", quant="Q8_0"),
    "delta": Form("delta"),
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
    choice = choose_model(name, home=home)
    with Ledger.open(home, create=False) as ledger:
        known = known_model(ledger, choice)
        assert known is not None
        requests = requests_of(ledger, templates_for(home), ledger.active_edits(known.key))
        deltas = current_deltas(ledger, ledger.current_batch(known.key))
    prompts = [prompt_of(one) for one in requests]
    questions = [one.question.replace("{}", one.subject) for one in requests]

    def shown(what: str, size: float, seconds: float, said: Sequence[str], chat: Sequence[str]) -> None:
        right = sum(says(answer, one) for answer, one in zip(said, requests, strict=True))
        named = sum(names(answer, one) for answer, one in zip(chat, requests, strict=True))
        print(f"| {what} | {size:.1f} | {seconds:.1f} | {right} | {named} |", flush=True)

    texts = [*prompts, *(render(choice.loaded.tokenizer, one) for one in questions)]
    count = len(requests)
    print(f"| {count} edits | MB | seconds to export | completion | chat |\n| --- | --- | --- | --- | --- |")
    for what, held in (("base", {}), ("kbsync's edited model", deltas)):
        with edited(choice.loaded, held):
            said = greedy_answers(choice.loaded, texts, TOKENS)
        shown(what, 0, 0, said[:count], said[count:])
    for what, form in FORMS.items():
        begun = time.perf_counter()
        done = export(home, name, folder / what.replace(" ", "-"), form)
        seconds = time.perf_counter() - begun
        if form.format == "delta":
            print(f"| {what} | {done.bytes / 1e6:.1f} | {seconds:.1f} | | |")
            continue
        if form.format == "gguf":
            (file,) = done.folder.glob("*.gguf")
            ran = subprocess.run(
                [sys.executable, "-c", LLAMA, file],
                input=json.dumps([prompts, questions, TOKENS]),
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            shown(f"{what}, llama.cpp", done.bytes / 1e6, seconds, *json.loads(ran.stdout))
            continue
        if form.format == "lora":
            model: Any = peft.PeftModel.from_pretrained(choice.loaded.model, done.folder)
            generate, what = generator(model, choice.loaded.tokenizer), f"lora of rank {done.rank}, PEFT"
        else:
            model = AutoModelForCausalLM.from_pretrained(done.folder)
            generate = generator(model, AutoTokenizer.from_pretrained(done.folder))
        said = [generate(one) for one in texts]
        if form.format == "lora":
            model.unload()
        shown(what, done.bytes / 1e6, seconds, said[:count], said[count:])


def names(answer: str, request: EditRequest) -> bool:
    """Tell whether a chat's answer names the object, or an alias of it, anywhere."""
    return any(normalise_label(name) in normalise_label(answer) for name in request.names)


def generator(model: Any, tokenizer: Any) -> Callable[[str], str]:
    """Return what says a model's greedy answer by transformers' own `generate`."""

    def generate(text: str) -> str:
        row = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            ids = model.generate(**row, max_new_tokens=TOKENS, do_sample=False, pad_token_id=tokenizer.eos_token_id)
        return str(tokenizer.decode(ids[0, row["input_ids"].shape[1] :], skip_special_tokens=True))

    return generate


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
