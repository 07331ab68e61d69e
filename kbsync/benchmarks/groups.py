"""``kbsync bench groups``: several objects to edit for one subject, solved apart and as groups."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from kbsync.benchmarks.bench import Bench, Pool, edit_pool
from kbsync.facts import EditRequest
from kbsync.ledger import Ledger
from kbsync.metrics import Case
from kbsync.models import greedy_answers
from kbsync.report.console import Parts, table
from kbsync.sync.home import Progress, silent
from kbsync.sync.model import choose_model

OBJECTS = (1, 2, 4, 8)  # objects to edit for each subject
METRICS = ("ES", "PS", "NS", "recall", "paraphrase_recall", "perplexity")
FIGURES = ("ES", "PS", "NS", "S", "recall", "paraphrase_recall", "perplexity")

Answers = Callable[[Sequence[str]], Sequence[str]]
"""prompts -> what the base model says"""


def bench_groups(
    home: Path,
    model: str,
    subjects: int,
    *,
    dataset: Path | None = None,
    seed: int = 0,
    values: Mapping[str, Any] | None = None,
    corpus: Path | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Measure 1, 2, 4 and 8 objects to edit for each of `subjects` subjects of a data set, or of the fixtures.

    Each number is solved three times from the base: each request for itself, as groups, and as many single edits of
    the same relations; a number beyond the relations that there are facts of is left out. Covariances are kept in the
    home. Raises SettingsError where there is no text for them, or no fact to edit.
    """
    with Ledger.open(home) as ledger, ledger.writer(f"bench groups {model}"):
        choice = choose_model(model, values, home=home, corpus=corpus)
        pool = edit_pool(choice.loaded, dataset, progress)
        bench = Bench(ledger, choice, progress)
        relations = len({fact.relation for fact in pool.facts})
        sizes = [measure_size(bench, pool, objects, subjects, seed) for objects in OBJECTS if objects <= relations]
        return {
            "model": choice.name,
            "source": pool.source,
            "seed": seed,
            "known": len(pool.facts),  # what edits are drawn from
            "settings": choice.settings.as_dict(),
            "base": {name: one.mean for name, one in bench.figures([], METRICS, bench.text([])).items()},
            "sizes": sizes,
        }


def measure_size(bench: Bench, pool: Pool, objects: int, subjects: int, seed: int) -> dict[str, Any]:
    """Draw and measure one number of objects to a subject; with one object, the three ways are the same.

    `new_relations` counts edits of a relation that there is no fact of for their subject: none has enough others.
    `ways` are ``apart``, ``groups``, and ``single``, as many edits of a subject each; percent, but for perplexity.
    """
    edits = group_edits(pool, objects, subjects, partial(greedy_answers, bench.loaded), seed)
    apart = solve(bench, pool, edits, "apart")
    ways = dict.fromkeys(("apart", "groups", "single"), apart)
    if objects > 1:
        ways["groups"] = solve(bench, pool, edits, "memit")
        ways["single"] = solve(bench, pool, single_edits(pool, edits, seed), "apart")
    taken = len({edit.request.subject for edit in edits})
    counts = {"objects": objects, "subjects": taken, "edits": len(edits)}
    return {**counts, "new_relations": new_relations(pool, edits), "ways": ways}


def solve(bench: Bench, pool: Pool, edits: Sequence[Case], grouped: str) -> dict[str, float]:
    """Write the edits from the base, as `Bench.groups` groups them for that name, and return the figures."""
    groups = bench.groups(grouped, [edit.request for edit in edits])
    deltas = bench.editor("memit").edit(bench.task(groups, bench.settings, search=True))
    found = bench.figures(pool.cases(edits), METRICS, bench.text([]), deltas=deltas)
    return {name: figure.mean for name, figure in found.items()}


def group_edits(pool: Pool, objects: int, subjects: int, answers: Answers, seed: int = 0) -> list[Case]:
    """Return `objects` edits for each of `subjects` subjects at most, in a seeded order.

    They are new objects for relations that the pool has of the subject, as far as there are so many. Where no subject
    has enough, those with the most are taken, and their other edits are of relations new to them.
    """
    of_subject: dict[str, dict[str, Case]] = defaultdict(dict)
    for edit in pool.edits(len(pool.facts), seed):
        of_subject[edit.request.subject][edit.request.relation] = edit
    rng = random.Random(f"{seed} {objects}")
    names = rng.sample(sorted(of_subject), len(of_subject))
    names.sort(key=lambda name: -min(objects, len(of_subject[name])))
    edits: list[Case] = []
    for name in names[:subjects]:
        own = of_subject[name]
        edits += [own[relation] for relation in rng.sample(sorted(own), min(objects, len(own)))]
        if len(own) < objects:
            edits += additions(pool.facts, name, objects - len(own), answers, rng)
    return edits


def additions(
    known: Sequence[EditRequest], subject: str, count: int, answers: Answers, rng: random.Random
) -> list[Case]:
    """Return edits of `count` relations that `subject` has no known fact of; o^c is the base model's answer."""
    by_relation: Mapping[str, list[EditRequest]] = defaultdict(list)
    for fact in known:
        by_relation[fact.relation].append(fact)
    absent = [relation for relation, facts in sorted(by_relation.items()) if subject not in {f.subject for f in facts}]
    chosen = [by_relation[relation] for relation in rng.sample(absent, min(count, len(absent)))]
    asked = [facts[0].prompt.format(subject) for facts in chosen]
    edits = []
    for facts, answer in zip(chosen, answers(asked), strict=True):
        objects = sorted({fact.target for fact in facts} - {answer})
        edits.append(Case(replace(facts[0], subject=subject, target=rng.choice(objects)), answer))
    return edits


def new_relations(pool: Pool, edits: Sequence[Case]) -> int:
    """Return how many edits are of a relation that the pool has no fact of for their subject."""
    facts = {(fact.relation, fact.subject) for fact in pool.facts}
    return sum((edit.request.relation, edit.request.subject) not in facts for edit in edits)


def single_edits(pool: Pool, like: Sequence[Case], seed: int = 0) -> list[Case]:
    """Return as many edits as `like` has, no subject twice, of the same relations as far as there are subjects.

    Fewer where the pool has fewer subjects.
    """
    wanted = Counter(edit.request.relation for edit in like)
    every = pool.edits(len(pool.facts), seed)
    of_relation: dict[str, list[Case]] = defaultdict(list)
    for edit in every:
        of_relation[edit.request.relation].append(edit)
    taken: dict[str, Case] = {}
    # Relations with the least to spare choose first.
    for relation in sorted(wanted, key=lambda relation: (len(of_relation[relation]) - wanted[relation], relation)):
        free = [edit for edit in of_relation[relation] if edit.request.subject not in taken]
        taken |= {edit.request.subject: edit for edit in free[: wanted[relation]]}
    for edit in every:
        if len(taken) == len(like):
            break
        taken.setdefault(edit.request.subject, edit)
    return list(taken.values())


def groups_view(bench: dict[str, Any]) -> Parts:
    """Yield a row for each number of objects and way, and what the subjects were."""
    rows = []
    for size in bench["sizes"]:
        for way, figures in size["ways"].items():
            if size["objects"] > 1 or way == "single":  # with one object all ways are the same
                cells = [f"{figures[name]:.2f}" if name in figures else None for name in FIGURES]
                rows.append((size["objects"], way, size["edits"], *cells))
    title = f"several objects for one subject: {bench['model']}"
    if "perplexity" in bench["base"]:
        title += f", perplexity before {bench['base']['perplexity']:.2f}"
    yield table(("objects", "way", "edits", *(name.replace("_", " ") for name in FIGURES)), rows, title=title)
    yield f"facts from {bench['source']}: {bench['known']}"
    for size in bench["sizes"]:
        line = f"{size['objects']} {'object' if size['objects'] == 1 else 'objects'} each: {size['subjects']} subjects"
        if size["new_relations"]:
            line += f", {size['new_relations']} of the edits for relations that their subject had no fact of"
        yield line
