"""Relations: what can be synced, how a relation is found by a word, and a draft of a template for a new one."""

import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from kbsync.errors import SettingsError, TemplateError
from kbsync.facts import check_relation, normalise_label
from kbsync.files import write_new, writing
from kbsync.ledger import Ledger
from kbsync.ledger.facts import RelationCounts, Standing, relation_counts
from kbsync.shapes import WIKIDATA, predicate_iri, short_name, wikibase
from kbsync.sources import open_endpoint, open_source
from kbsync.sources.base import Access
from kbsync.sync.home import model_name, templates_for
from kbsync.sync.known import fact_requests, known_among, prompt_of
from kbsync.sync.plan import find_model
from kbsync.sync.status import asking
from kbsync.templates import check_file

if TYPE_CHECKING:
    from kbsync.sources.sparql import Property


def relations_for(home: Path, model: str | None = None) -> dict[str, Any]:
    """Return a row for each relation with a template or facts; no model is loaded.

    What is known is told by answers of the model on record, as `plan` does it; `model` is None where there is none.
    """
    templates, found = templates_for(home), None
    counts: dict[str, RelationCounts] = {}
    asked, known = Counter[str](), Counter[str]()
    if (home / "ledger.db").exists():
        with Ledger.open(home) as ledger:
            found, counts = find_model(ledger, model and model_name(model, home)), relation_counts(ledger)
            if found is not None:
                key, standing = found.key, Standing(ledger, None)
                standing.involve_named(asking(ledger.prompts_answered(key), standing, templates))
                standing.involve_worded()
                requests = fact_requests(ledger, templates, standing.involved())
                said = ledger.answers(key, [prompt_of(request) for request in requests])
                right = known_among(requests, lambda prompts: ledger.answers(key, list(prompts)))
                told = [request for request in requests if prompt_of(request) in said]
                asked = Counter(one.relation for one in told)
                known = Counter(one.relation for one in told if one.id in right)
    rows, worded = [], [template.relation for template in templates]
    for relation in [*worded, *sorted(counts.keys() - set(worded))]:
        template, held = templates.get(relation), counts.get(relation, RelationCounts(0, 0))
        rows.append(
            {
                "relation": relation,
                "label": template.label if template else None,
                "template": template is not None,
                "facts": held.facts,  # that stand in the ledger
                "conflicts": held.conflicts,  # subjects with several objects
                "asked": asked[relation],  # facts that the base model was asked for
                "known": 100 * known[relation] / asked[relation] if asked[relation] else None,  # per cent of those
            }
        )
    return {"model": found.name if found else None, "relations": rows}


Found = dict[str, str | bool]
"""a relation that a search found: relation, label, text (what holds the word) and whether there is a template"""


def search_templates(home: Path, text: str) -> list[Found]:
    """Return the relations whose template's label or wordings hold `text`, in either case; SettingsError if empty."""
    wanted = _word(text)
    found: list[Found] = []
    for template in templates_for(home):
        texts = (template.label, template.prompt, *template.wordings, *template.paraphrases, template.question)
        holding = next((one for one in texts if wanted in normalise_label(one)), None)
        if holding is not None:
            about = {"relation": template.relation, "label": template.label}
            found.append({**about, "text": holding, "template": True})
    return found


def search_online(home: Path, text: str, source: str, contact: str | None = None) -> list[Found]:
    """Return the properties that the endpoint `source` knows by a name that holds `text`."""
    from kbsync.sources.sparql import find_properties

    wanted, templates = _word(text), templates_for(home)
    found: list[Found] = []
    for one in find_properties(open_endpoint(source, Access(contact)), wanted):
        # The first of its names that holds the word; the label where none does letter by letter.
        names = (name for name in (one.label, *one.aliases) if wanted in normalise_label(name))
        about = {"relation": one.relation, "label": one.label}
        found.append({**about, "text": next(names, one.label), "template": one.relation in templates})
    return found


def discover_relations(home: Path, source: str, contact: str | None = None) -> list[dict[str, Any]]:
    """Return the predicates of a source, or a table's relations or columns, most statements first.

    Each comes with how often it stands there, an example, and the relation whose template it is, None for none.
    """
    from kbsync.sources.sparql import discover

    known: dict[str, str] = {}
    for template in templates_for(home):
        if template.source or re.fullmatch(r"P[1-9]\d*", template.relation):
            shape = template.source or wikibase(template.relation)
            known |= dict.fromkeys(shape.predicates, template.relation)
            known |= {column.lower(): template.relation for field, column in shape.columns if field == "object"}
        known[template.relation] = template.relation
    found = []
    for name, statements, example in discover(open_source(source, Access(contact))):
        # A property of another Wikibase is that of the same id.
        in_wikidata = re.sub(r"^https?://\S+?/prop/", f"{WIKIDATA}prop/", name)
        relation = known.get(name) or known.get(name.lower()) or known.get(in_wikidata)
        found.append({"predicate": name, "statements": statements, "example": example, "relation": relation})
    return found


def _word(text: str) -> str:
    word = normalise_label(text)
    if not word:
        raise SettingsError("--search is empty: name a word of the relation, such as capital")
    return word


_ALIASES = 3
"""aliases that become paraphrases"""
_YAML: dict[str, Any] = {"allow_unicode": True, "sort_keys": False, "width": 1000}
_WRITTEN_OUT = ("", "WikibaseItem", "Monolingualtext", "String")
"""kinds of objects that a pull takes"""


def new_template(
    home: Path, relation: str, source: str, contact: str | None = None, *, predicate: str | None = None
) -> dict[str, Any]:
    """Write ``templates/RELATION.yaml`` in `home`, with wordings made of the property's label and aliases.

    With a `predicate` (its IRI) the template says that sources state the relation by it; the wordings are those of
    kbsync's own template, where the relation has one. A `remark` tells where facts of it cannot be pulled.
    """
    from kbsync.sources.rdf_file import RdfFile
    from kbsync.sources.sparql import Property, SparqlSource, read_property

    file = home / "templates" / f"{relation}.yaml"
    standing = templates_for(home).get(relation)
    if file.exists():
        raise TemplateError(f"{file} exists already: change it, or move it away")
    if standing is not None and standing.file.parent == file.parent:
        raise TemplateError(f"{standing.place}: {relation} has a template there already: change that one")
    check_relation(relation)
    told = None if predicate is None else short_name(predicate_iri(predicate))
    if told is not None and standing is not None:
        # kbsync's own template as the home's, found by a predicate
        names = ("label", "prompt", "question", "wordings", "paraphrases", "subject")
        parts = {name: value for name in names if (value := getattr(standing, name))}
        body = {name: value if isinstance(value, str) else list(value) for name, value in parts.items()}
        known = Property(relation, standing.label)
        text = yaml.safe_dump({relation: {**body, "source": {"predicate": told}}}, **_YAML)
    elif predicate is not None:
        asked = open_source(source, Access(contact))
        if not isinstance(asked, RdfFile | SparqlSource):
            raise SettingsError(f"{source}: --predicate goes with an endpoint or an RDF file")
        known = read_property(asked, relation, predicate=predicate_iri(predicate))
        text = _draft(known, source, told)
    else:
        known = read_property(open_endpoint(source, Access(contact)), relation)
        text = _draft(known, source)
    _check(home, file, text)
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_new(file, text)
    remark = None
    if known.kind not in _WRITTEN_OUT:
        remark = f"its objects are of type {known.kind}: a pull leaves them out, unless a YAML file states them as text"
    return {"relation": relation, "label": known.label, "file": file, "remark": remark}


def _check(home: Path, file: Path, text: str) -> None:
    """Raise TemplateError, and leave nothing, where the draft could not be used as it stands."""
    with tempfile.TemporaryDirectory(prefix="kbsync-") as folder:
        trial = Path(folder) / file.name
        with writing(trial):
            trial.write_text(text, encoding="utf-8")
        try:
            check_file(trial, beside=templates_for(home))
        except TemplateError as error:
            told = str(error).replace(str(trial), str(file))
            raise TemplateError(
                f"the endpoint's label and aliases give no valid template; write one by hand: {told}"
            ) from error


def _draft(known: "Property", source: str, predicate: str | None = None) -> str:
    label = _words(known.label)
    names = [name for name in dict.fromkeys(map(_words, known.aliases)) if name and name.casefold() != label.casefold()]
    template = {
        "label": label,
        "prompt": f"The {label} of {{}} is",
        "wordings": [f"{{}}'s {label} is", f"The {label} that {{}} has is"],
        "paraphrases": [
            f"For {{}}, the {label} is given as",
            f"As for {{}}, the {label} is",
            f"Asked for the {label} of {{}}, people answer",
            f"In records about {{}}, the entry for {label} is",
            *(f"The {name} of {{}} is" for name in names[:_ALIASES]),
        ],
        "question": f"What is the {label} of {{}}?",
        **({"source": {"predicate": predicate}} if predicate else {}),
    }
    notes = [
        f"A draft, made from what {source} says of {known.relation}. Before an apply:",
        "- read each wording with a real subject and object, and correct the grammar;",
        "- the prompt, the wordings and the paraphrases must end right before the object;",
        "- say in `subject` what the subjects are, such as country: edits then preserve their other relations;",
        f"- measure them: kbsync templates test {known.relation} --model M",
        f"description: {_words(known.description) or 'none'}",
        f"aliases: {', '.join(names) or 'none'}",
        f"kind of objects: {known.kind or 'unknown'}",
    ]
    body: str = yaml.safe_dump({known.relation: template}, **_YAML)
    return "".join(f"# {note}\n" for note in notes) + body


def _words(text: str) -> str:
    """`text` on one line, without the signs that mean something in a template."""
    return " ".join(re.sub(r"[{}\[\]<>\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", text).split())
