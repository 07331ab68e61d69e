"""What makes two labels one."""

import pytest

from kbsync.facts import Entity, normalise_label, visible


@pytest.mark.parametrize(
    "text",
    [
        "Bern\u200e",
        "\u200fBern",
        "Be\u00adrn",
        "\ufeffBern",
        "Bern\u2069",
        "Be\u200drn",
        "Bern\u200c",
        "BERN \u200b",
        "\u202aBern\u202c",
    ],
)
def test_invisible_characters_make_no_other_label(text: str) -> None:
    assert normalise_label(text) == normalise_label("Bern")
    assert Entity(text).key == Entity("Bern").key


@pytest.mark.parametrize(
    "text",
    [
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian
        "\u0915\u094d\u200d\u0937",  # Devanagari, half form
        "\u0d05\u0d35\u0d28\u0d4d\u200d",  # Malayalam, a letter at the end of a word
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",  # a family
        "\u0660\u0600",  # a visible sign that Unicode counts among the format characters
    ],
)
def test_joiners_that_change_what_is_seen_stay(text: str) -> None:
    assert visible(text) == text
