"""How `bench groups` is shown."""

import io

from rich.console import Console

from kbsync.benchmarks.groups import groups_view
from kbsync.report.console import stacked

FIGURES = {"ES": 97.25, "recall": 50.0, "perplexity": 2.5}


def test_a_row_for_each_way_and_what_the_subjects_were() -> None:
    same = dict.fromkeys(("apart", "groups", "single"), FIGURES)
    more = {"apart": FIGURES, "groups": {**FIGURES, "recall": 87.5, "NS": 93.75}, "single": FIGURES}
    sizes = [
        {"objects": 1, "subjects": 3, "edits": 3, "new_relations": 0, "ways": same},
        {"objects": 8, "subjects": 3, "edits": 24, "new_relations": 6, "ways": more},
    ]
    bench = {"model": "practice", "source": "fixtures", "known": 900, "base": {"perplexity": 2.4}, "sizes": sizes}
    out = io.StringIO()
    Console(file=out, width=160).print(stacked(groups_view(bench)))
    lines = [line.split() for line in out.getvalue().splitlines()]
    assert ["1", "single", "3", "97.25", "50.00", "2.50"] in lines
    assert ["8", "groups", "24", "97.25", "93.75", "87.50", "2.50"] in lines
    assert [line[1] for line in lines if line and line[0] in ("1", "8") and len(line) > 5 and line[2].isdigit()] == [
        "single",
        "apart",
        "groups",
        "single",
    ]
    assert "1 object each: 3 subjects" in out.getvalue()
    assert (
        "8 objects each: 3 subjects, 6 of the edits for relations that their subject had no fact of" in out.getvalue()
    )
