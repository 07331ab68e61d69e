"""A draft of a template, from what an endpoint says of a property."""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from kbsync.errors import LedgerError, TemplateError
from kbsync.sources import open_endpoint
from kbsync.sources.base import Access
from kbsync.sync.templates import templates_for
from kbsync.templates import check_file

if TYPE_CHECKING:
    from kbsync.sources.properties import Property

__all__ = ["NewTemplate", "new_template"]

_ALIASES = 3
"""aliases that become paraphrases"""
_WRITTEN_OUT = ("", "WikibaseItem", "Monolingualtext", "String")
"""kinds of objects that a pull takes"""


@dataclass(frozen=True, slots=True)
class NewTemplate:
    """A draft that was written; `remark` tells where facts of the relation cannot be pulled."""

    relation: str
    label: str
    file: Path
    remark: str | None


def new_template(home: Path, relation: str, source: str, contact: str | None = None) -> NewTemplate:
    """Write ``templates/RELATION.yaml`` in `home`, with wordings made of the property's label and aliases.

    Raises TemplateError where the home has a template of it or such a file, and where no wording comes of the label;
    SettingsError for a source that is no endpoint, SourceError where it cannot be asked.
    """
    from kbsync.sources.properties import read_property

    file = home / "templates" / f"{relation}.yaml"
    standing = templates_for(home).get(relation)
    if file.exists():
        raise TemplateError(f"{file} is there already: change that one, or move it away")
    if standing is not None and standing.file.parent == file.parent:
        raise TemplateError(f"{standing.place}: this is a template of {relation} already: change that one")
    known = read_property(open_endpoint(source, Access(contact)), relation)
    text = _draft(known, source)
    _check(home, file, text)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except OSError as error:
        raise LedgerError(f"{file}: cannot be written ({error.strerror}): choose another --home") from error
    remark = None
    if known.kind not in _WRITTEN_OUT:
        remark = f"its objects are of kind {known.kind}: a pull leaves them out, unless a YAML file states them as text"
    return NewTemplate(relation, known.label, file, remark)


def _check(home: Path, file: Path, text: str) -> None:
    """Raise TemplateError, and leave nothing, where the draft could not be used as it stands."""
    with tempfile.TemporaryDirectory(prefix="kbsync-") as folder:
        trial = Path(folder) / file.name
        trial.write_text(text, encoding="utf-8")
        try:
            check_file(trial, beside=templates_for(home))
        except TemplateError as error:
            told = str(error).replace(str(trial), str(file))
            raise TemplateError(f"no draft comes of what the endpoint says; write one by hand: {told}") from error


def _draft(known: "Property", source: str) -> str:
    label = _words(known.label)
    names = [name for name in dict.fromkeys(map(_words, known.aliases)) if name and name.casefold() != label.casefold()]
    template = {
        "label": label,
        "prompt": f"The {label} of {{}} is",
        "wordings": [f"{{}}'s {label} is", f"The {label} that {{}} has is"],
        "paraphrases": [
            f"For {{}}, the {label} is given as",
            f"As for {{}}, the {label} is",
            f"Asked for the {label} of {{}}, one answers",
            f"In records about {{}}, the entry for {label} is",
            *(f"The {name} of {{}} is" for name in names[:_ALIASES]),
        ],
        "question": f"What is the {label} of {{}}?",
    }
    notes = [
        f"A draft, made from what {source} says of {known.relation}. Before an apply:",
        "- read each wording with a real subject and object, and mend the grammar;",
        "- the prompt, the wordings and the paraphrases must end right before the object;",
        "- say in `subject` what the subjects are, such as country: edits then leave other relations of theirs alone;",
        f"- measure them: kbsync templates test {known.relation} --model M",
        f"description: {_words(known.description) or 'none'}",
        f"aliases: {', '.join(names) or 'none'}",
        f"kind of objects: {known.kind or 'not told'}",
    ]
    body = yaml.safe_dump({known.relation: template}, allow_unicode=True, sort_keys=False, width=1000)
    return "".join(f"# {note}\n" for note in notes) + body


def _words(text: str) -> str:
    """`text` on one line, without the signs that mean something in a template."""
    return " ".join(re.sub(r"[{}\[\]<>\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", text).split())
