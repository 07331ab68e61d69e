"""Templates: how each relation is put into words.

A template file is YAML, and strict::

    P36:
      label: capital
      prompt: The capital of {} is
      paraphrases:
        - The capital city of {} is called
        - "{} has its seat of government in"
        - "{}'s capital is"
        - As for {}, the capital is
      question: What is the capital of {}?

``{}`` stands for the subject, once in each text. The prompt, which the edit is made with (Eqn. 5), and its at least
four paraphrases end right before the object. No two relations share a prompt: they would share a key too.

Further ``wordings``, in the form of the prompt, are edited with it where a model's settings ask for that: the first
ones, up to a number. One at least begins with the subject; none is another relation's prompt or wording. The
paraphrases never are edited: they are what an edit is measured on.

      wordings:
        - "{}'s capital city is"
        - The city that is the capital of {} is

``inverse`` asks the other way: ``{}`` stands for the object, and the subject follows. Edits are measured on it, and
``kbsync apply --compile-inverse`` writes it as an edit of its own, of the relation ``^P36``::

      inverse: "{} is the capital of"

``subject`` says what kind of thing the subjects are, so that edits of one relation can leave the others of the same
kind alone (and be measured on them)::

      subject: country

A relation of which Wikidata has more than its service gives at once names the part that a pull reads by default::

      scope: {class: Q515, min_sitelinks: 40}

``source`` says how sources other than Wikidata state the relation (`kbsync.shapes`)::

      source: {predicate: dbo:capital, class: dbo:Country}
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from kbsync.errors import TemplateError
from kbsync.facts import INVERSE, EditRequest, Wording, check_relation, normalise_label
from kbsync.templates.reading import Scope, Template, read_file


class Templates:
    """Templates by relation; iterating goes in natural order (P6 before P17).

    A relation with an inverse has a second one, of the prompt alone, under its name with `INVERSE` before it; these
    are found by name, and no part of the iteration.
    """

    def __init__(self, templates: Iterable[Template]) -> None:
        ordered = sorted(
            templates,
            key=lambda one: [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", one.relation)],
        )
        self._by_relation = {template.relation: template for template in ordered}
        self._inverses = {INVERSE + one.relation: _inverse(one) for one in ordered if one.inverse}

    def __iter__(self) -> Iterator[Template]:
        return iter(self._by_relation.values())

    def __len__(self) -> int:
        return len(self._by_relation)

    def __contains__(self, relation: object) -> bool:
        return relation in self._by_relation or relation in self._inverses

    def get(self, relation: str) -> Template | None:
        return self._by_relation.get(relation) or self._inverses.get(relation)

    def beside(self, relation: str) -> list[Template]:
        """Return the templates of the other relations with subjects of the same kind, in natural order."""
        own = self.get(relation)
        kind = own.subject if own else ""
        return [one for one in self if kind and one.subject == kind and one.relation != relation]

    def require(self, relation: str) -> Template:
        """Return the template of `relation`; raise TemplateError where it has none."""
        template = self.get(relation)
        if template is None:
            check_relation(relation)
            raise TemplateError(
                f"{relation} has no template: `kbsync templates list` shows which relations have one; "
                "your own go into templates/ in the home folder"
            )
        return template

    def wording(self, relation: str, own: Wording | None = None) -> Wording | None:
        """Return a fact's wording: its `own`, else its relation's template's; None where it has neither."""
        template = self.get(relation)
        return template.worded if template and own is None else own

    def request(
        self,
        subject_label: str,
        relation: str,
        object_label: str,
        aliases: tuple[str, ...] = (),
        own: Wording | None = None,
    ) -> EditRequest:
        """Return the request that edits `object_label` in as the subject's, in the fact's `own` words if it has some.

        Raises TemplateError where it has none, and its relation no template.
        """
        told = own or self.require(relation).worded
        return EditRequest(
            relation, subject_label, told.prompt, object_label, told.paraphrases, told.question, aliases, told.wordings
        )


def load_templates(folder: Path, beside: Iterable[Template] = ()) -> Templates:
    """Read the ``*.yaml`` and ``*.yml`` of a folder, which win over those `beside`. An absent folder holds none.

    Raises TemplateError with every bad entry of every file.
    """
    problems: list[str] = []
    return Templates(_together(_read_folder(folder, problems), beside, problems))


def check_file(path: Path, beside: Iterable[Template] = ()) -> list[Template]:
    """Return the templates of the file `path` in its order; raise TemplateError with every bad entry.

    `beside` are templates that the file's are to be used with: the file's own win over those of the same relation,
    and must not share a prompt or a wording with the others.
    """
    problems: list[str] = []
    templates = read_file(path, problems)
    _together(templates, beside, problems)
    return templates


def _together(own: Iterable[Template], beside: Iterable[Template], problems: list[str]) -> list[Template]:
    """Return templates, of one relation the first; raise TemplateError with `problems` and those that they have."""
    chosen: dict[str, Template] = {}
    for template in (*own, *beside):
        chosen.setdefault(template.relation, template)
    _refuse_shared_prompts(list(chosen.values()), problems)
    if problems:
        raise TemplateError("\n".join(problems))
    return list(chosen.values())


def _inverse(template: Template) -> Template:
    relation, label = INVERSE + template.relation, f"inverse of {template.label}"
    return Template(relation, label, template.inverse, (), "", template.file, template.line)


def _read_folder(folder: Path, problems: list[str]) -> list[Template]:
    if folder.exists() and not folder.is_dir():
        problems.append(f"{folder}: not a folder; templates are YAML files in a folder")
    found: dict[str, Template] = {}
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        for template in read_file(path, problems):
            first = found.setdefault(template.relation, template)
            if first is not template:
                problems.append(f"{template.place}: {template.relation} is in {first.place} too: remove one of them")
    return list(found.values())


def _refuse_shared_prompts(templates: Sequence[Template], problems: list[str]) -> None:
    first_with: dict[str, tuple[str, Template]] = {}
    # In reverse, so that the message points at the file that came first: the user's own, which can be changed.
    for template in reversed(templates):
        wordings = ((f"wording {number}", text) for number, text in enumerate(template.wordings, start=1))
        for name, text in (("the prompt", template.prompt), *wordings):
            other_name, other = first_with.setdefault(normalise_label(text), (name, template))
            if other is not template:
                problems.append(
                    f"{template.place}: {name} of {template.relation} is also {other_name} of {other.relation} "
                    f"({other.place}): one of them needs other words"
                )
