"""``kbsync bench groups`` as from a shell."""

from pathlib import Path

from tests.conftest import Run
from tests.homes import Editable, small
from tests.tiny_models import random_folder

__all__ = ["small"]


def test_what_the_model_knows_is_edited_and_measured(run: Run, small: Editable) -> None:
    """The small model knows capitals alone, so no more than one object of a subject can be edited."""
    ran = run("bench", "groups", *small.solving, "--subjects", 2, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["known"] >= 10
    assert ran.json["base"].keys() == {"perplexity"}
    (size,) = ran.json["sizes"]
    assert (size["objects"], size["subjects"], size["edits"], size["new_relations"]) == (1, 2, 2, 0)
    assert size["ways"].keys() == {"apart", "groups", "single"}
    assert 0 <= size["ways"]["groups"]["recall"] <= 100


def test_without_a_corpus_the_model_writes_the_text(run: Run, small: Editable) -> None:
    ran = run("bench", "groups", *small.model, "--subjects", 1)
    assert ran.code == 0, ran.err
    assert "sampling text from the model" in ran.err


def test_a_model_that_knows_nothing_is_told(run: Run, tmp_path: Path, small: Editable) -> None:
    folder = random_folder(tmp_path, "gpt2")
    ran = run("bench", "groups", "--model", folder, "--corpus", small.corpus)
    assert ran.code == 1
    assert "recalls none of the fixtures' facts" in ran.err
