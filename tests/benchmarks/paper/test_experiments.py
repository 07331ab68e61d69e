"""Each experiment on a small model: its rows and its drawings."""

import math
from collections import Counter
from dataclasses import replace

import pytest

from kbsync.benchmarks.bench import flat
from kbsync.benchmarks.paper.appendix import PhaseClock, election_requests, stars, write_stars
from kbsync.benchmarks.paper.bench import PaperBench
from kbsync.benchmarks.paper.data import evenly
from kbsync.benchmarks.paper.figures import lambdas, late_layers, layer_choices
from kbsync.benchmarks.paper.run import EXPERIMENTS, USUAL, values_by_row
from kbsync.benchmarks.paper.tables import KINDS, RELATION_METRICS, drawn, numbers_of_edits
from kbsync.editors.ft import FineTuningSettings
from kbsync.memit import MemitSettings, RequestGroup, edited
from tests.tiny_models import FACTS


def test_zsre_has_a_row_for_each_editor(bench: PaperBench) -> None:
    result = EXPERIMENTS["zsre"].run(bench)
    assert [row["editor"] for row in result.rows] == list(USUAL)
    assert all(0 <= row[f"{name}_low"] <= row[name] <= row[f"{name}_high"] <= 100 for row in result.rows
               for name in ("efficacy", "paraphrase", "specificity"))  # fmt: skip
    (bars,) = result.charts
    assert bars.kind == "bars"
    assert bars.series[0].x == ("score", "efficacy", "paraphrase", "specificity")


def test_what_is_measured_is_the_edited_model(bench: PaperBench) -> None:
    cases = bench.counterfact[: bench.largest]
    seen = evenly(cases, bench.sizes.measured)
    with edited(bench.loaded, bench.deltas("memit", [case.request for case in cases])):
        plain = flat(bench.figures(seen, ("EM", "PM"), bench.held_out))
    assert bench.measured("memit", cases, ("EM", "PM")) == plain
    assert plain["EM"] > bench.measured("none", cases, ("EM", "PM"))["EM"]


def test_the_published_method_is_one_sweep_of_single_requests_with_nothing_added(bench: PaperBench) -> None:
    bench.settings = replace(bench.settings, sweeps=3, rest_weight=0.3, wordings=2, hold_relations=2)
    requests = [case.request for case in bench.counterfact[:3]]
    plain = replace(bench.settings, sweeps=1, rest_weight=0.0, wordings=0, hold_relations=0)
    groups = [RequestGroup((request,)) for request in requests]
    expected = bench.editor("memit").edit(bench.task(groups, plain, search=True))
    found, own = bench.deltas("published", requests), bench.deltas("memit", requests)
    for layer, delta in expected.items():
        assert (found[layer].matrix() - delta.matrix()).norm() < 1e-5 * delta.matrix().norm()  # type: ignore[union-attr]
        assert (own[layer].matrix() - delta.matrix()).norm() > 1e-3 * delta.matrix().norm()  # type: ignore[union-attr]


def test_a_row_has_settings_of_its_own(bench: PaperBench) -> None:
    assert bench.editor("ft").settings.steps == 7
    bench.values = {"published": {"steps": "9", "contexts": "0"}}
    own = bench.settings_for("published")
    assert own.steps == 9
    assert bench.settings_for("rome") == bench.settings_for("alphaedit") == own
    assert len(bench.contexts_for(own)) == 1
    assert values_by_row({"steps": "9", "memit.lr": "1", "ft.lr": "2"}) == (
        {"steps": "9", "lr": "1"},
        {"ft": {"lr": "2"}},
    )


def test_the_paper_has_contexts_where_the_models_own_search_has_none() -> None:
    own = replace(MemitSettings(), contexts=0, wordings=5, hold_subjects=30, lambda_=1.0)
    found = own.published()
    assert (found.contexts, found.wordings, found.hold_subjects, found.lambda_) == (5, 0, 0, 1.0)


def test_counterfact_has_the_largest_number_and_scaling_shares_its_measurements(bench: PaperBench) -> None:
    bench.rows = ["memit", "ft", "none"]
    rows = EXPERIMENTS["counterfact"].run(bench).rows
    assert [(row["editor"], row["edits"]) for row in rows] == [(name, n) for n in (3, 6) for name in bench.rows]
    assert all({"S", "ES", "PS", "NS", "recall", "perplexity", "GE", "RS"} <= row.keys() for row in rows)
    before = bench.measurements.made
    result = EXPERIMENTS["scaling"].run(bench)
    # n = 1, 2, 3, 6, of which counterfact has measured 3 and 6
    assert bench.measurements.made - before == 2 * 2
    assert Counter(row["editor"] for row in result.rows) == {"memit": 4, "ft": 4, "none": 1}
    assert result.charts[0].logarithmic
    assert [line.name for line in result.charts[0].series if line.dotted] == ["base model"]


def test_numbers_of_edits() -> None:
    assert numbers_of_edits(10_000, 16)[-3:] == [3162, 5623, 10_000]
    assert numbers_of_edits(1000, 2, (300, 1000)) == [1, 32, 300, 1000]


def test_a_prefix_of_rome_is_rome_of_the_prefix(bench: PaperBench) -> None:
    requests = [case.request for case in bench.counterfact[:2]]
    whole = bench.deltas("rome", requests)
    alone = bench.editor("rome").edit(bench.task(bench.groups("rome", requests), bench.settings_for("rome")))
    for layer, delta in alone.items():
        assert math.isclose(float(whole[layer].left.norm()), float(delta.left.norm()), rel_tol=1e-5)  # type: ignore[union-attr]
        assert (whole[layer].matrix() - delta.matrix()).norm() < 1e-5 * delta.matrix().norm()  # type: ignore[union-attr]


def test_alphaedit_with_kept_targets_is_alphaedit(bench: PaperBench) -> None:
    requests = [case.request for case in bench.counterfact[:3]]
    kept = bench.deltas("alphaedit", requests)
    plain = bench.editor("alphaedit").edit(
        bench.task(bench.groups("alphaedit", requests), bench.settings_for("alphaedit"))
    )
    for layer, delta in plain.items():
        assert (kept[layer].matrix() - delta.matrix()).norm() < 1e-3 * delta.matrix().norm()  # type: ignore[union-attr]


def test_categories(bench: PaperBench) -> None:
    bench.rows = ["memit", "ft"]
    result = EXPERIMENTS["categories"].run(bench)
    assert {(row["relation"], row["edits"]) for row in result.rows} == {("P30", 3), ("P37", 3)}
    scores, trade = result.charts
    assert (scores.kind, trade.kind) == ("bars", "points")
    assert {len(one.x) for one in trade.series} == {2}


def test_mixture_stands_beside_its_parts(bench: PaperBench) -> None:
    result = EXPERIMENTS["mixture"].run(bench)
    assert [(row["edits"], row["written"]) for row in result.rows] == [
        (count, name) for count in (2, 4) for name in ("mixture", "P37", "P30")
    ]
    (chart,) = result.charts
    by_name = {line.name: line.y for line in chart.series}
    mean, one, other = (by_name[name][-1] for name in ("mean of the parts", "P37", "P30"))
    assert mean is not None
    assert one is not None
    assert other is not None
    assert mean == pytest.approx((one + other) / 2)


def test_a_mixture_of_several_draws_has_their_means_and_bounds(bench: PaperBench) -> None:
    bench.sizes = replace(bench.sizes, mixture_draws=2, mixture_steps=1)
    row = EXPERIMENTS["mixture"].run(bench).rows[0]
    first, second = (
        bench.measured("memit", [*one[:2], *other[:2]], RELATION_METRICS)
        for one, other in ([drawn(bench, relation, draw) for relation in ("P37", "P30")] for draw in range(2))
    )
    assert row["S"] == pytest.approx((first["S"] + second["S"]) / 2, abs=1e-3)
    assert (row["S_low"], row["S_high"]) == (min(first["S"], second["S"]), max(first["S"], second["S"]))
    assert drawn(bench, "P37", 1) != drawn(bench, "P37", 0)
    assert {one.request.id for one in drawn(bench, "P37", 1)} == {one.request.id for one in drawn(bench, "P37", 0)}


def test_the_papers_pairs_come_first() -> None:
    assert list(KINDS)[:4] == [("P27", "P37"), ("P413", "P1412"), ("P17", "P495"), ("P27", "P937")]


def test_decay_has_the_law_in_the_middle(bench: PaperBench) -> None:
    bench.sizes = replace(bench.sizes, decays=3)
    before = bench.values
    result = EXPERIMENTS["decay"].run(bench)
    assert bench.values is before
    assert {row["edits"] for row in result.rows} == {2, 3, 6}
    assert [row["of the law"] for row in result.rows] == pytest.approx([0.01, 1, 100] * 3, rel=1e-2)
    assert result.rows[-2]["weight decay"] == pytest.approx(FineTuningSettings().decay(6), rel=1e-3)
    (chart,) = result.charts
    assert [line.name for line in chart.series] == ["2 edits", "3 edits", "6 edits"]


def test_tables_tell_what_is_kept(bench: PaperBench) -> None:
    bench.rows = ["memit", "none"]
    edited_row, base = (row for row in EXPERIMENTS["counterfact"].run(bench).rows if row["edits"] == 6)
    for kind in ("same", "others", "unrelated"):
        assert (base[f"kept_{kind}"], base[f"kl_{kind}"]) == (100, 0)
        assert edited_row[f"kl_{kind}"] > 0
        assert edited_row[f"kl_{kind}_low"] <= edited_row[f"kl_{kind}"] <= edited_row[f"kl_{kind}_high"]
        assert 0 <= edited_row[f"kept_{kind}"] <= 100


def test_other_relations_of_a_subject_are_neither_edited_nor_held(bench: PaperBench) -> None:
    cases = bench.counterfact[:3]
    edits = [case.request for case in cases]
    edits.append(replace(edits[0], relation="P38"))
    found = bench.around(cases, edits, bench.held_out)
    asked = {(one.relation, one.subject) for one in found.same}
    assert {subject for _, subject in asked} == {case.request.subject for case in cases}
    assert ("P38", edits[0].subject) not in asked
    assert ("P38", edits[1].subject) in asked
    bench.settings = replace(bench.settings, hold_relations=2)
    fewer = {one.relation for one in bench.around(cases, edits, bench.held_out).same}
    assert fewer < {relation for relation, _ in asked}


def test_layers(bench: PaperBench) -> None:
    rows = EXPERIMENTS["layers"].run(bench).rows
    assert [row["layers"] for row in rows] == ["0", "2", "0 1", "1"]


def test_five_choices_of_layers() -> None:
    assert layer_choices([0, 1, 2], 8) == [(0, 1, 2), (2,), (4, 5, 6), (0, 1, 2, 3, 4, 5), (1, 2, 3)]
    assert len(layer_choices(range(3, 9), 28)) == 5


def test_lambda(bench: PaperBench) -> None:
    rows = EXPERIMENTS["lambda"].run(bench).rows
    assert [row["lambda"] for row in rows] == [0.0001, 0.01, 1.0]
    assert lambdas(15000, 5) == [150, 1500, 15000, 150000, 1500000]


def test_time_has_the_phases_of_each_editor(bench: PaperBench) -> None:
    rows = EXPERIMENTS["time"].run(bench).rows
    assert rows[0]["phase"] == "covariance (once)"
    whole = {row["editor"]: row["seconds"] for row in rows if row["phase"] == "whole"}
    assert list(whole) == [name for name in USUAL if name != "none"]
    memit = {row["phase"]: row["seconds"] for row in rows if row["editor"] == "memit"}
    assert {"targets", "solve", "whole"} <= memit.keys()
    assert memit["targets"] + memit["solve"] <= memit["whole"] + 0.01


def test_a_phase_clock_gives_time_to_the_phase_that_reports() -> None:
    clock = PhaseClock()
    clock("targets", 0, 1)
    clock("targets", 1, 1)
    clock("solve", 1, 1)
    assert list(clock.seconds) == ["targets", "solve"]


def test_elections(bench: PaperBench) -> None:
    bench.sizes = replace(bench.sizes, elections=2)
    before, after = EXPERIMENTS["elections"].run(bench).rows
    assert (before["asked"], before["edits"], after["asked"]) == ("before", 2, "after")
    assert before["recall"] == 0
    assert all(0 <= after[name] <= 100 for name in ("ES", "PS", "recall", "paraphrase_recall"))
    people = election_requests()
    assert len({one.subject for one in people}) == len(people) == 36 + 35


def test_stars(bench: PaperBench) -> None:
    result = EXPERIMENTS["stars"].run(bench)
    before, after = result.rows
    assert (before["asked"], before["recall"], after["asked"]) == ("before", 0.0, "after")
    assert (before["accuracy"], after["accuracy"]) == (0.0, after["recall"])
    assert after["others_recall"] is None  # the small model places no star
    (bars,) = result.charts
    assert bars.title.startswith("20 stars")
    assert len(stars()) == 127


def test_accuracy_is_over_edited_and_known_ones(bench: PaperBench) -> None:
    asked = [FACTS[0], replace(FACTS[1], target=FACTS[2].target)]
    found = write_stars(bench, asked)
    assert (found["known"], found["edits"]) == (1, 1)
    assert (found["before"]["accuracy"], found["before"]["recall"], found["before"]["others_recall"]) == (50, 0, 100)
    after = found["after"]
    assert after["accuracy"] == (after["recall"] + after["others_recall"]) / 2


def test_trace_has_every_kind_and_says_what_it_suggests(bench: PaperBench) -> None:
    result = EXPERIMENTS["trace"].run(bench)
    kinds = {row["restored"] for row in result.rows}
    assert kinds == {"state", "mlp", "attention", "mlp severed", "attention severed", "gap of the MLPs"}
    assert [chart.kind for chart in result.charts] == ["map", "map", "map", "bars"]
    assert "Suggested for R" in result.note
    assert EXPERIMENTS["trace"].run(bench) == result


def test_attention_stands_beside_the_mlp(bench: PaperBench) -> None:
    rows = EXPERIMENTS["attention"].run(bench).rows
    assert [row["edited"] for row in rows] == ["MLP", "attention", "late attention"]
    assert all(0 <= row["ES"] <= 100 for row in rows)
    assert all(row["GE"] > 0 for row in rows)
    assert late_layers((3, 4, 5), 8) == (6,)
    assert late_layers((3, 4, 5, 6), 8) == ()
