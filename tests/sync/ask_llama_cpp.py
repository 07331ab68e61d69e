"""Ask llama.cpp: ``python ask_llama_cpp.py FILE.gguf < asked.json`` prints the likeliest next token of each prompt.

``asked.json`` holds two lists, prompts to complete and questions for a chat; so does what is printed. A process of its
own, as the server in it is never closed.
"""

import json
import sys
from typing import Any

import xllamacpp


def ask(file: str, prompts: list[str], questions: list[str]) -> list[list[int | None]]:
    """Return the number of the likeliest token after each prompt and question; None where it is no text by itself."""
    settings = xllamacpp.CommonParams()
    settings.model.path, settings.n_ctx, settings.warmup, settings.verbosity = file, 256, False, 0
    settings.cpuparams.n_threads = 1
    server = xllamacpp.Server(settings)
    given = {"max_tokens": 1, "temperature": 0}
    said = [server.handle_completions({"prompt": one, "n_probs": 1, **given}) for one in prompts]
    asked = [{"messages": [{"role": "user", "content": one}], "logprobs": True, "top_logprobs": 1} for one in questions]
    chats = [server.handle_chat_completions(one | given) for one in asked]
    return [[likeliest(one) for one in said], [likeliest(one) for one in chats]]


def likeliest(answer: Any) -> int | None:
    told = answer["choices"][0].get("logprobs")
    return told["content"][0]["id"] if told and told["content"] else None


if __name__ == "__main__":
    print(json.dumps(ask(sys.argv[1], *json.load(sys.stdin))), flush=True)
