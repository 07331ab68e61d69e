"""``kbsync bench groups`` as from a shell."""

import pytest

from kbsync.sync.practice import practice_requests
from tests.conftest import Run
from tests.homes import Editable, small

__all__ = ["small"]


def test_what_the_model_knows_is_edited_and_measured(
    run: Run, small: Editable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The small model knows capitals alone, so no more than one object of a subject can be edited.

    Without a corpus, the model writes the text.
    """
    asked = [fact for fact in practice_requests("earlier") if fact.relation in ("P30", "P36")]
    monkeypatch.setattr("kbsync.benchmarks.bench.practice_requests", lambda edition: asked)
    settings = [part for text in small.settings for part in ("--set", text)]
    ran = run("bench", "groups", *small.model, *settings, "--subjects", 2, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["known"] >= 10
    assert ran.json["base"].keys() == {"perplexity"}
    (size,) = ran.json["sizes"]
    assert (size["objects"], size["subjects"], size["edits"], size["new_relations"]) == (1, 2, 2, 0)
    assert size["ways"].keys() == {"apart", "groups", "single"}
    assert 0 <= size["ways"]["groups"]["recall"] <= 100
