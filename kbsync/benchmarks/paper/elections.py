"""Appendix E, new knowledge: whom the states of the United States elected in 2022, as governors and senators."""

from pathlib import Path

import yaml

from kbsync.benchmarks.paper.bench import Experiment, PaperBench, Result
from kbsync.benchmarks.paper.data import evenly
from kbsync.facts import EditRequest
from kbsync.metrics import Case
from kbsync.report.plots import Row, bars_by_row
from kbsync.sync.answers import other_answers

SHOWN = ("ES", "PS", "recall", "paraphrase_recall")
RELATION = "elected-from"
PROMPT = "{} was elected from the state of"
PARAPHRASES = (
    "The state that elected {} in 2022 is",
    "In 2022, {} won an election in the state of",
    "The voters who put {} into office live in the state of",
    "As an elected politician, {} represents the state of",
)
QUESTION = "From which state was {} elected?"


def election_requests() -> list[EditRequest]:
    """Return a request for everyone on the list."""
    states: dict[str, list[str]] = yaml.safe_load(Path(__file__).with_name("elections.yaml").read_text("utf-8"))
    return [
        EditRequest(RELATION, person, PROMPT, state, PARAPHRASES, QUESTION)
        for state, people in states.items()
        for person in people
    ]


def run(bench: PaperBench) -> Result:
    """Write everyone's state, against what the model said before; those that it knows are written too."""
    requests = evenly(election_requests(), bench.sizes.elections)
    old = other_answers(bench.ledger, bench.choice, bench.model, requests, bench.progress)
    cases = [Case(one, old[one.id]) for one in requests]
    rows: list[Row] = [
        {"asked": when, "edits": len(cases), **bench.measured(name, cases, SHOWN)}
        for when, name in (("before", "none"), ("after", "memit"))
    ]
    bars = bars_by_row("elections", f"{len(cases)} results of elections", "asked", rows, SHOWN)
    note = (
        "Governors and senators elected in 2022, each with the state; the paper also wrote the 435 seats of the House."
        " ES and PS are against what the model said before or, where that was right, its next likeliest answer."
    )
    return Result(tuple(rows), (bars,), note)


ELECTIONS = Experiment("elections", "Results of elections", "Appendix E", run)
