"""Demo: the whole story on one model, in a temporary home, from a real SPARQL endpoint on loopback."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kbsync.errors import EditError
from kbsync.ledger import Ledger
from kbsync.memit import edited
from kbsync.models import LoadedModel, greedy_answers
from kbsync.models.scoring import render
from kbsync.resources import fixtures_folder
from kbsync.sources.loopback import serve
from kbsync.sync.apply import ApplyOptions, Proposal, apply
from kbsync.sync.home import Progress
from kbsync.sync.known import prompt_of
from kbsync.sync.model import ModelChoice, choose_model, edited_state
from kbsync.sync.plan import Plan, PlanRow, plan_for
from kbsync.sync.pull import Pulled, pull
from kbsync.sync.reading import make_asks
from kbsync.sync.retract import retract
from kbsync.sync.status import status_for

PRACTICE = "practice"
PRACTICE_RELATIONS = (
    *("P17", "P19", "P20", "P27", "P30", "P37", "P38", "P59", "P103", "P106"),
    *("P131", "P159", "P170", "P176", "P364", "P397", "P413", "P641", "P1303"),
)
"""relations whose new facts have objects that the practice model has given as answers (docs/models.md)"""
RELATIONS = ("P35", "P6", "P169", "P286")
"""who leads a state, a government, a company or a team: what has changed since a pretrained model was trained"""
LATEST = 7
"""facts of each that a pretrained model is taught: those that have held for the shortest time"""
QUESTIONS = 10
ANSWER_TOKENS = 16


Question = tuple[PlanRow, str, str]
"""a fact, and a prompt about it in a user's words as it is shown and as the model gets it"""


def demo(model: str, progress: Progress, *, limit: int | None = None) -> dict[str, Any]:
    """Pull the later edition into a temporary home, and tell the story of it; `limit` bounds the edits."""
    with tempfile.TemporaryDirectory(prefix="kbsync-demo-") as folder:
        home = Path(folder)
        relations = PRACTICE_RELATIONS if model == PRACTICE else RELATIONS
        with serve(fixtures_folder() / "wikidata" / "later.ttl") as endpoint:
            pulls = pull(home, make_asks(relations, endpoint), endpoint, progress)
        for one in pulls:
            one.changes.hold()  # they are shown when the folder is gone
        only = None if model == PRACTICE else latest(plan_for(home, None))
        # One batch in a home of its own depends on no path, so the fastest search will do.
        values = {} if model == PRACTICE else {"search_dtype": "auto"}
        return story(home, pulls, ApplyOptions(model, limit=limit, only=only, values=values), progress)


def story(home: Path, pulls: list[Pulled], options: ApplyOptions, progress: Progress) -> dict[str, Any]:
    """Plan, apply what a home holds, ask the model before and after, and take one fact out again.

    Returns the story with the keys of the JSON: the plan has what the base model says as the previous object, and each
    answer what base and edited model say, the edited one `after` the fact about `withdrawn` was taken out, and what the
    knowledge base says.
    """
    plans: list[Plan] = []

    def confirm(proposal: Proposal) -> bool:
        plans.append(proposal.plan)
        return True

    model, corpus = options.model, options.corpus
    applied = apply(home, options, confirm, progress)
    if applied is None or applied["batch"] is None:
        raise EditError(f"the demo found nothing to edit: {model} knows all of the facts already")
    plan, status = with_answers(home, plans[0]), status_for(home, model)
    changed = plan.having("+", "~")
    count = min(QUESTIONS, len(changed))
    rows = [changed[place * len(changed) // count] for place in range(count)]  # of every relation
    failed = {(one["relation"], one["subject"]) for one in applied["failed"]}
    out = next((row for row in rows if (row.relation, row.subject) not in failed), rows[0])
    choice = choose_model(model, home=home)
    questions = [one for row in rows for one in in_own_words(choice.loaded, row)]
    texts = [text for *_, text in questions]
    progress("asking before and after", 0, 3)
    base = greedy_answers(choice.loaded, texts, ANSWER_TOKENS)
    progress("asking before and after", 1, 3)
    edited_says = edited_answers(home, choice, texts)
    progress("asking before and after", 2, 3)
    retract(home, out.subject, out.relation, lambda _: True, model=model, corpus=corpus, progress=progress)
    after = edited_answers(home, choice, texts)
    progress("asking before and after", 3, 3)
    answers = [
        {
            "prompt": prompt,
            "base": one,
            "edited": two,
            "after": three,
            "wanted": row.object or "",
            "withdrawn": row == out,
        }
        for (row, prompt, _), one, two, three in zip(questions, base, edited_says, after, strict=True)
    ]
    story = {"pulls": pulls, "plan": plan, "applied": applied, "status": status}
    return {**story, "answers": answers, "withdrawn": out.subject}


def latest(plan: Plan) -> set[tuple[str, str]]:
    """Return (relation, subject key) of the facts of each relation that have held for the shortest time."""
    new = [row.fact for row in plan.having("+") if row.fact is not None and row.fact.since is not None]
    new.sort(key=lambda fact: fact.since or "", reverse=True)
    own = [[fact for fact in new if fact.relation == relation][:LATEST] for relation in RELATIONS]
    return {(fact.relation, fact.subject_key) for facts in own for fact in facts}


def with_answers(home: Path, plan: Plan) -> Plan:
    with Ledger.open(home, create=False) as ledger:
        known = ledger.latest_model(plan.model)
        prompts = [prompt_of(row.request) for row in plan.rows if row.request is not None]
        said = ledger.answers(known.key, prompts) if known else {}
    rows = [
        replace(row, previous=said.get(prompt_of(row.request))) if row.request and row.sign == "+" else row
        for row in plan.rows
    ]
    return replace(plan, rows=tuple(rows))


def edited_answers(home: Path, choice: ModelChoice, texts: Sequence[str]) -> list[str]:
    """Return what a model says to each text as the home has edited it."""
    with Ledger.open(home, create=False) as ledger:
        _, _, deltas = edited_state(ledger, choice)
    with edited(choice.loaded, deltas):
        return greedy_answers(choice.loaded, texts, ANSWER_TOKENS)


def in_own_words(loaded: LoadedModel, row: PlanRow) -> list[Question]:
    """Return a paraphrase that the fact is not written on and, for a model that chats, the relation's question."""
    request = row.request
    assert request is not None
    words = [text.replace("{}", request.subject) for text in (request.paraphrases[-1], request.question)]
    asked = [(row, words[0], words[0])]
    if loaded.tokenizer.chat_template:
        asked.append((row, words[1], render(loaded.tokenizer, words[1])))
    return asked
