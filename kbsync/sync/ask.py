"""Ask: a prompt's top answers from the base model and the edited one, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kbsync.errors import LedgerError, SettingsError
from kbsync.ledger import Ledger
from kbsync.memit import edited
from kbsync.models import Answer, top_answers
from kbsync.sync.choice import choose_model
from kbsync.sync.loading import AS_STORED, Loading
from kbsync.sync.state import current_deltas, known_model

__all__ = ["Asked", "ask"]


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt and its answers, likeliest first; `edited` is None where there is the base alone."""

    prompt: str
    base: tuple[Answer, ...]
    edited: tuple[Answer, ...] | None


def ask(
    home: Path,
    model: str,
    prompts: Sequence[str],
    *,
    base_only: bool = False,
    count: int = 5,
    loading: Loading = AS_STORED,
) -> list[Asked]:
    """Ask each prompt of the base model and, where there are edits in `home`, of the edited one. Writes nothing.

    Raises SettingsError for an empty prompt, LedgerError where there is no ledger, and ModelError as `apply` does.
    """
    prompts = [prompt.rstrip() for prompt in prompts]
    if not all(prompts):
        raise SettingsError("the prompt is empty: give the beginning of a sentence, such as 'The capital of France is'")
    if not base_only and not (home / "ledger.db").exists():
        raise LedgerError(f"no ledger in {home}: name another --home, or ask the base model alone with --base")
    choice = choose_model(model, home=home, loading=loading)
    base = [tuple(top_answers(choice.loaded, prompt, count)) for prompt in prompts]
    if base_only:
        return [Asked(prompt, answers, None) for prompt, answers in zip(prompts, base, strict=True)]
    with Ledger.open(home, create=False) as ledger:
        known = known_model(ledger, choice)
        batch = ledger.current_batch(known.key) if known else None
        deltas = current_deltas(ledger, batch)
    if batch is None:
        return [Asked(prompt, answers, None) for prompt, answers in zip(prompts, base, strict=True)]
    with edited(choice.loaded, deltas):
        after = [tuple(top_answers(choice.loaded, prompt, count)) for prompt in prompts]
    return [Asked(*row) for row in zip(prompts, base, after, strict=True)]
