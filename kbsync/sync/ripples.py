"""What follows from each edit, and what is to stay beside it, asked from the knowledge base itself."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from kbsync.facts import EditRequest
from kbsync.ledger import EditRow, FactRow, Ledger
from kbsync.ledger.facts import aliases
from kbsync.metrics import Ripple
from kbsync.sync.known import prompt_of
from kbsync.templates import Templates

MOST = 3
"""questions of a kind for an edit"""


class Around:
    """The facts of a ledger that edits touch, by subject and by object."""

    def __init__(
        self, ledger: Ledger, templates: Templates, edits: Sequence[EditRow], facts: Sequence[FactRow]
    ) -> None:
        self.templates = templates
        self.by_subject: dict[str, list[FactRow]] = defaultdict(list)
        self.by_object: dict[str, list[FactRow]] = defaultdict(list)
        keys = touched = {key for edit in edits for key in (edit.subject_key, edit.object_key)}
        for fact in facts:
            # What a data set asks for in words of its own is not what holds.
            if fact.wording is None and fact.relation in templates and {fact.subject_key, fact.object_key} & touched:
                self.by_subject[fact.subject_key].append(fact)
                self.by_object[fact.object_key].append(fact)
                keys = keys | {fact.subject_key, fact.object_key}
        self.aliases = aliases(ledger, keys)

    def names(self, key: str, label: str) -> tuple[str, ...]:
        """Return a label and the aliases of what it names."""
        return tuple(dict.fromkeys((label, *self.aliases.get(key, ()))))

    def told(self, subject: str, facts: Sequence[FactRow]) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield each relation's prompt about what is called `subject`, with the names of all objects."""
        found: dict[str, dict[str, None]] = defaultdict(dict)
        for fact in facts:
            found[fact.relation] |= dict.fromkeys(self.names(fact.object_key, fact.object_label))
        for relation, names in sorted(found.items()):
            yield self.templates.require(relation).prompt.format(subject), tuple(names)


def ripples_of(
    ledger: Ledger,
    templates: Templates,
    edits: Sequence[EditRow],
    requests: Sequence[EditRequest],
    old: Mapping[str, str],
    facts: Sequence[FactRow],
) -> list[tuple[Ripple, ...]]:
    """Return each edit's questions, at most `MOST` of a kind; `old` maps a request's id to the object before it."""
    around = Around(ledger, templates, edits, facts)
    return [
        (
            *inverse(around, edit),
            *other_names(around, edit, request),
            *two_hops(around, edit, request),
            *same_subject(around, edit),
            *verdicts(request, old.get(request.id, "")),
        )
        for edit, request in zip(edits, requests, strict=True)
    ]


def inverse(around: Around, edit: EditRow) -> Iterator[Ripple]:
    """Ask for the subject, where the relation's template says how; every subject of the object is right."""
    template = around.templates.get(edit.relation)
    if template is not None and template.inverse:
        same = [fact for fact in around.by_object[edit.object_key] if fact.relation == edit.relation]
        names = dict.fromkeys(around.names(edit.subject_key, edit.subject))
        for fact in same:
            names |= dict.fromkeys(around.names(fact.subject_key, fact.subject_label))
        yield Ripple("inverse", template.inverse.format(edit.object), tuple(names))


def other_names(around: Around, edit: EditRow, request: EditRequest) -> Iterator[Ripple]:
    """Ask the edit prompt of the subject's other names."""
    for name in around.names(edit.subject_key, edit.subject)[1 : MOST + 1]:
        yield Ripple("alias", request.prompt.replace("{}", name, 1), request.names)


def two_hops(around: Around, edit: EditRow, request: EditRequest) -> Iterator[Ripple]:
    """Ask what holds of the object, named by the subject, and the edit itself of a subject that a fact names."""
    template = around.templates.get(edit.relation)
    asked: list[tuple[str, tuple[str, ...]]] = []
    if template is not None:
        asked += around.told(f"the {template.label} of {edit.subject}", around.by_subject[edit.object_key])
    for fact in around.by_object[edit.subject_key]:
        label = around.templates.require(fact.relation).label
        asked.append((request.prompt.replace("{}", f"the {label} of {fact.subject_label}", 1), request.names))
    for prompt, names in asked[:MOST]:
        yield Ripple("two_hops", prompt, names)


def same_subject(around: Around, edit: EditRow) -> Iterator[Ripple]:
    """Ask what the knowledge base says of the subject in other relations."""
    others = [fact for fact in around.by_subject[edit.subject_key] if fact.relation != edit.relation]
    for prompt, names in list(around.told(edit.subject, others))[:MOST]:
        yield Ripple("same_subject", prompt, names)


def verdicts(request: EditRequest, old: str) -> Iterator[Ripple]:
    """Ask whether the new and the old fact are true, told as they are and denied."""
    for thing, holds in ((request.target, True), (old, False)):
        if thing:
            told = f'"{prompt_of(request)} {thing}." Answer:'
            yield Ripple("true_false", f"True or false: {told}", (str(holds),), str(not holds))
            yield Ripple("negation", f"True or false: it is wrong that {told}", (str(not holds),), str(holds))
