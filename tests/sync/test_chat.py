"""``apply --chat``: recall in the tokenizer's chat template, beside the plain one."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from kbsync.ledger import Ledger
from tests.homes import COUNTRIES, SWAPPED, TEMPLATES, Editable, kbsync, make_home
from tests.tiny_models import CAPITALS

PLAIN = """\
{%- for turn in messages %}
{%- if turn.role == "user" %}{{ turn.content[:-1] }}{% else %} {{ turn.content }}.{% endif %}
{%- endfor %}"""
"""a chat in which the question below is the edit prompt word for word, so that both recalls must be one"""
QUESTION = TEMPLATES.replace("question: What is the capital of {}?", "question: The capital of {} is?")
FACTS = {country: (CAPITALS if place % 2 else SWAPPED)[country] for place, country in enumerate(COUNTRIES[:4])}
"""two facts that the model knows, two that it does not"""


@pytest.fixture
def chatty(small: Editable, tmp_path: Path) -> Editable:
    """The small model with a chat template."""
    folder = Path(shutil.copytree(small.name, tmp_path / "chatty"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = PLAIN
    tokenizer.save_pretrained(folder)
    return replace(small, name=str(folder))


def test_chat_recall_stands_beside_the_plain_one(chatty: Editable, tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", QUESTION, P36=FACTS)
    metrics = chatty.apply(home, "--chat", "--include-known")["metrics"]
    assert metrics["chat_recall"] == metrics["recall"]
    assert metrics["chat_recall"]["before"] == 50
    with Ledger.open(home, create=False) as ledger:
        rows = [row for row in ledger.metrics(1) if row.name == "chat_recall"]
    assert [row.after for row in rows if row.edit is None] == [metrics["chat_recall"]["after"]]
    assert sorted(row.before or 0 for row in rows if row.edit is not None) == [0, 0, 100, 100]


def test_without_chat_it_is_not_measured(chatty: Editable, tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", P36=FACTS)
    assert "chat_recall" not in chatty.apply(home)["metrics"]


def test_a_model_without_a_template_is_told_before_any_work(small: Editable, tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", P36=FACTS)
    ran = kbsync("apply", "--home", home, *small.arguments, "--yes", "--chat")
    assert ran.code == 1
    assert "has no chat template: leave out --chat, or name a chat model" in ran.err
    with Ledger.open(home, create=False) as ledger:
        assert (ledger.batches(), ledger.models()) == ([], [])
