"""One template file, read by its YAML nodes, which know their lines, with every problem that it has."""

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import starmap
from pathlib import Path

import yaml

from kbsync.errors import SettingsError, SourceError, TemplateError
from kbsync.facts import Wording, check_relation, normalise_label
from kbsync.files import read_text
from kbsync.shapes import Shape, ShapeError, Told, read_shape

_FIELDS = ("label", "prompt", "paraphrases", "question")
_MORE = ("wordings", "inverse", "subject", "scope", "source")
_SCOPE = {"class": r"Q[1-9]\d*", "min_sitelinks": r"\d{1,6}"}
_MIN_PARAPHRASES = 4
_DEEPEST = 20
"""levels of YAML; a template has two, or three with a list"""
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where it is built in: 25 times as fast, and every command reads the templates"""
_YAML = "tag:yaml.org,2002:"
_PLAIN_TAGS = ("str", "map", "seq", "null", "bool", "int", "float", "timestamp")
_BLANKS = re.compile(r"[\[\]<>]|__|\.\.\.|…|%s")  # other notations for "the object goes here"


@dataclass(frozen=True, slots=True)
class Scope:
    """The part of a relation that a pull of Wikidata reads by default: a class's instances with some sitelinks."""

    class_id: str
    min_sitelinks: int


@dataclass(frozen=True, slots=True)
class Template:
    """A relation's prompts, and where they were read: `line` is the relation's own in `file`."""

    relation: str
    label: str
    prompt: str
    paraphrases: tuple[str, ...]
    question: str
    file: Path
    line: int
    scope: Scope | None = None
    wordings: tuple[str, ...] = ()
    subject: str = ""
    """kind of the subjects, such as country; "" where it is not said"""
    source: Shape | None = None
    """how sources state the relation; None: as Wikidata does"""
    inverse: str = ""
    """prompt with ``{}`` for the object that ends before the subject; "" where it is not said"""

    @property
    def worded(self) -> Wording:
        """How a fact of the relation is put into words."""
        return Wording(self.prompt, self.paraphrases, self.question, self.wordings)

    @property
    def place(self) -> str:
        """``file:line``."""
        return f"{self.file}:{self.line}"


def read_file(path: Path, problems: list[str]) -> list[Template]:
    """Return the good templates of a file; add the bad ones, as ``file:line: what``, to `problems`."""
    reader = _Reader(path)
    templates = reader.read()
    problems += [f"{path}:{line}: {what}" for line, what in sorted(reader.problems)]
    return templates


@dataclass
class _Reader:
    """Reads one file by its YAML nodes (which know their lines) and keeps every problem, as (line, what)."""

    path: Path
    problems: list[tuple[int, str]] = field(default_factory=list)

    def read(self) -> list[Template]:
        try:
            text = read_text(self.path)
        except SourceError as error:
            raise TemplateError(str(error)) from error
        try:
            _check_depth(text)
            return self._templates(yaml.compose(text, Loader=_LOADER))
        except RecursionError:
            self.problems.append((1, "nested too deep: a template has two levels"))
        except yaml.YAMLError as error:
            self.problems.append(_yaml_problem(error, text))
        return []

    def _templates(self, root: yaml.Node | None) -> list[Template]:
        if not isinstance(root, yaml.MappingNode) or not root.value:
            self._note(root, "a template file holds relations, each with its template: `P36:` and below it label, ...")
            return []
        return list(filter(None, starmap(self._template, self._items(root))))

    def _template(self, relation: str, key: yaml.Node, node: yaml.Node) -> Template | None:
        before = len(self.problems)
        try:
            check_relation(relation)
        except SettingsError as error:
            self._note(key, str(error))
        fields = self._fields(relation, key, node)
        label = self._text(relation, "the label", fields.get("label"), _label_problem)
        prompt = self._text(relation, "the prompt", fields.get("prompt"), _prompt_problem)
        question = self._text(relation, "the question", fields.get("question"), _question_problem)
        seen = {normalise_label(prompt): "the prompt"}
        paraphrases = self._list(relation, "paraphrase", fields.get("paraphrases"), seen, _MIN_PARAPHRASES)
        wordings = self._list(relation, "wording", fields.get("wordings"), seen, 1)
        if wordings and not any(text.startswith("{}") for text in wordings):
            self._note(fields["wordings"], f"{relation}: no wording begins with the subject, {{}}: add one")
        scope = self._scope(relation, fields.get("scope"))
        subject = self._text(relation, "the subject", fields.get("subject"), _label_problem)
        inverse = self._text(relation, "the inverse", fields.get("inverse"), _prompt_problem)
        source = self._source(relation, fields.get("source"))
        if len(self.problems) > before:
            return None
        place = (self.path, _line(key))
        return Template(
            relation, label, prompt, paraphrases, question, *place, scope, wordings, subject, source, inverse
        )

    def _fields(self, relation: str, key: yaml.Node, node: yaml.Node) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            self._note(node, f"{relation}: a template has {', '.join(_FIELDS)}")
            return {}
        fields: dict[str, yaml.Node] = {}
        known = f"{', '.join(_FIELDS)} and, if need be, {', '.join(_MORE)}"
        for name, name_node, value in self._items(node):
            if name in (*_FIELDS, *_MORE):
                fields[name] = value
            else:
                self._note(name_node, f"{relation}: there is no field {name!r}; a template has {known}")
        missing = [name for name in _FIELDS if name not in fields]
        if missing:
            self._note(key, f"{relation}: {' and '.join(missing)} missing")
        return fields

    def _scope(self, relation: str, node: yaml.Node | None) -> Scope | None:
        if node is None:
            return None
        nodes = self._items(node) if isinstance(node, yaml.MappingNode) else ()
        told = {name: str(value.value) for name, _, value in nodes}  # what a list's would be is no class and no number
        if told.keys() == _SCOPE.keys() and all(re.fullmatch(form, told[name]) for name, form in _SCOPE.items()):
            return Scope(told["class"], int(told["min_sitelinks"]))
        self._note(node, f"{relation}: the scope is a class and a number, such as {{class: Q515, min_sitelinks: 40}}")
        return None

    def _source(self, relation: str, node: yaml.Node | None) -> Shape | None:
        if node is None:
            return None
        if not isinstance(node, yaml.MappingNode):
            self._note(node, f"{relation}: the source is a mapping, such as {{predicate: dbo:capital}}")
            return None
        nodes = {name: value for name, _, value in self._items(node)}
        try:
            return read_shape(relation, {name: self._told(value) for name, value in nodes.items()})
        except ShapeError as error:
            self._note(nodes.get(error.name, node), f"{relation}: the source's {error}")
            return None

    def _told(self, node: yaml.Node) -> Told:
        """Return what a node of a ``source`` holds; texts stay as they are written."""
        if isinstance(node, yaml.SequenceNode):
            return tuple(str(item.value) for item in node.value if isinstance(item, yaml.ScalarNode))
        if isinstance(node, yaml.MappingNode):
            return {name: str(value.value) for name, _, value in self._items(node)}
        truths = {"true": True, "yes": True, "false": False, "no": False}
        text = str(node.value)
        return truths.get(text.lower(), text) if node.tag == f"{_YAML}bool" else text

    def _list(
        self, relation: str, kind: str, node: yaml.Node | None, seen: dict[str, str], least: int
    ) -> tuple[str, ...]:
        """Return the texts of a list, `least` or more; none may be one of `seen`, which takes them in by name."""
        if node is None:
            return ()
        if not isinstance(node, yaml.SequenceNode):
            self._note(node, f"{relation}: {kind}s are a list, at least {least} of them")
            return ()
        if foreign := _foreign_tag(node):
            self._note(node, f"{relation}: the list {foreign}")
        texts: list[str] = []
        for number, item in enumerate(node.value, start=1):
            name = f"{kind} {number}"
            text = self._text(relation, name, item, _prompt_problem)
            first = seen.setdefault(normalise_label(text), name) if text else name
            if first != name:
                self._note(item, f"{relation}: {name} is the same as {first}: each needs its own wording")
            texts.append(text)
        if len(texts) < least:
            self._note(node, f"{relation}: {len(texts)} {kind}s; at least {least} are needed")
        return tuple(texts)

    def _text(self, relation: str, name: str, node: yaml.Node | None, problem: Callable[[str], str | None]) -> str:
        """Return the text of `node`, or "" with a problem noted (a missing one is noted by the caller)."""
        if node is None:
            return ""
        what = _not_text(node) or problem(node.value)
        if what:
            self._note(node, f"{relation}: {name} {what}")
            return ""
        return str(node.value)

    def _items(self, node: yaml.MappingNode) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        """Yield (key, its node, value's node) of a mapping; note keys that are no text or come twice."""
        if foreign := _foreign_tag(node):
            self._note(node, f"the mapping {foreign}")
        first: dict[str, int] = {}
        for key, value in node.value:
            what = _not_text(key)
            if what:
                self._note(key, f"the key {what}")
            elif key.value in first:
                self._note(key, f"{key.value} comes twice (first in line {first[key.value]}): remove one of them")
            else:
                first[key.value] = _line(key)
                yield key.value, key, value

    def _note(self, node: yaml.Node | None, what: str) -> None:
        self.problems.append((_line(node), what))


def _line(node: yaml.Node | None) -> int:
    return 1 if node is None else int(node.start_mark.line) + 1


def _check_depth(text: str) -> None:
    """Raise RecursionError before composing: libyaml recurses until the process dies."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise RecursionError


def _yaml_problem(error: yaml.YAMLError, text: str) -> tuple[int, str]:
    if isinstance(error, yaml.reader.ReaderError):
        return text.count("\n", 0, error.position) + 1, "this has a control character, which YAML forbids: remove it"
    mark, what = getattr(error, "problem_mark", None), getattr(error, "problem", None) or "unreadable"
    return (mark.line + 1 if mark else 1), f"this is not YAML ({what}): correct the syntax"


def _foreign_tag(node: yaml.Node) -> str | None:
    """Say that `node` has a tag of its own (``!!python/object``, ``!!set``, ``!mine``), if it has."""
    if node.tag.startswith(_YAML) and node.tag.removeprefix(_YAML) in _PLAIN_TAGS:
        return None
    return f"has the tag {node.tag.replace(_YAML, '!!')}, which templates do not take: remove it"


def _not_text(node: yaml.Node) -> str | None:
    """Say why `node` is no plain text, if it is not."""
    if foreign := _foreign_tag(node):
        return foreign
    if isinstance(node, yaml.CollectionNode):
        return f"is a {'list' if isinstance(node, yaml.SequenceNode) else 'mapping'} where text is wanted"
    if (tag := node.tag.removeprefix(_YAML)) == "null":
        return "has no text"
    return None if tag == "str" else f"({node.value}) is read as {tag}, not text: put it in quotes"


def _label_problem(text: str) -> str | None:
    if "{" in text or "}" in text:
        return "has braces: it is the relation's plain name"
    return _form_problem(text)


def _prompt_problem(text: str) -> str | None:
    if what := _form_problem(text) or _subject_problem(text):
        return what
    if text.endswith("{}"):
        return "ends with the subject: put the words that lead to the object after {}"
    if unicodedata.category(text[-1])[0] not in "LMN":
        return f"ends with {text[-1]!r}, but the object comes right after it: end with the last word before the object"
    return None


def _question_problem(text: str) -> str | None:
    what = _form_problem(text) or _subject_problem(text)
    return what or (None if text.endswith("?") else "does not end with '?'")


def _form_problem(text: str) -> str | None:
    if not text.strip():
        return "is empty"
    if text != text.strip():
        return "begins or ends with white space: remove it"
    if "  " in text or any(unicodedata.category(letter) in ("Cc", "Zl", "Zp") for letter in text):
        return "has a line break, a control character or two spaces in a row: leave single spaces"
    return None


def _subject_problem(text: str) -> str | None:
    count, rest = text.count("{}"), text.replace("{}", "")
    if blank := _BLANKS.search(rest):
        return f"has {blank.group()!r}, which marks a place for the object, but the object always follows the prompt"
    if "{" in rest or "}" in rest:
        return "has braces other than {}: only {} is filled, with the subject"
    if count != 1:
        return f"has {count or 'no'} {{}}: put it once, where the subject goes"
    return None
