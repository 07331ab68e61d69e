"""Ask llama.cpp: ``python ask_llama_cpp.py FILE.gguf < prompts.json`` prints the likeliest next token of each prompt.

A process of its own, as the server in it is never closed.
"""

import json
import sys

import xllamacpp


def ask(file: str, prompts: list[str]) -> list[int | None]:
    """Return the number of the likeliest token after each prompt; None where it is no text by itself."""
    settings = xllamacpp.CommonParams()
    settings.model.path, settings.n_ctx, settings.warmup, settings.verbosity = file, 256, False, 0
    settings.cpuparams.n_threads = 1
    server = xllamacpp.Server(settings)
    answers = []
    for prompt in prompts:
        given = {"prompt": prompt, "max_tokens": 1, "temperature": 0, "n_probs": 1}
        said = server.handle_completions(given)["choices"][0]["logprobs"]
        answers.append(said["content"][0]["id"] if said else None)
    return answers


if __name__ == "__main__":
    print(json.dumps(ask(sys.argv[1], json.load(sys.stdin))), flush=True)
