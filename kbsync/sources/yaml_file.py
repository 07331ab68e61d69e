"""A user's own facts from a YAML file, in one of two forms.

A list of facts; ids, aliases and the start date may be left out, and the relation may be a name of your own::

    - {subject: France, relation: P36, object: Paris}
    - subject: Ada Lovelace
      subject_id: Q7259
      relation: works_with
      object: Charles Babbage
      object_id: Q46633
      object_aliases: [Babbage, C. Babbage]
      since: 1833-06-05

or relation -> subject -> object::

    P36:
      France: Paris
      Japan: Tokyo

Values are text: numbers, dates, ``yes`` and ``no`` need quotes. Several objects of one subject are possible in the
first form only (they are a conflict, and are settled as such). All that is wrong with a file comes in one error.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from kbsync.errors import SettingsError, SourceError
from kbsync.facts import Fact, check_relation
from kbsync.files import DEPTH, Unchanged, read_text
from kbsync.sources.base import Ask, Counted, Notes, Reading, clean, join_pairs, shown
from kbsync.sources.file_facts import NO_LINE_END, Problems, check_ask, chosen, counted, fact_of, is_day

MOST_NODES = 100_000
"""values in one fact, and names of values (``&name``) in one file"""

_FORMS = "write a list of facts, or relation -> {subject: object}"
_REQUIRED = ("subject", "relation", "object")
_LISTS = ("subject_aliases", "object_aliases")
_OPTIONAL = ("subject_id", "object_id", *_LISTS, "since")
_CORE = "tag:yaml.org,2002:"
_NOT_TEXT = {"int": "a number", "float": "a number", "bool": "a truth value", "null": "null", "timestamp": "a date"}


class YamlFile:
    """A YAML file of facts, read and checked whole at the first reading, whatever relation is asked for."""

    def __init__(self, path: Path) -> None:
        self._path, self._state, self.name = path, Unchanged(path), str(path.resolve())
        self._notes: tuple[str, ...] = ()

    def read(self, ask: Ask) -> Reading:
        """Read `ask`'s facts; raises SourceError with all problems of the file, and SettingsError for --class."""
        check_ask(ask, self._path, "a YAML file")
        notes = Notes()
        facts = chosen(self._content.found, ask, notes)
        aliases = None
        if ask.aliases:
            keys = dict.fromkeys(entity.key for fact in facts for entity in (fact.subject, fact.object))
            aliases = {key: tuple(sorted(self._content.aliases.get(key, ()))) for key in keys}
        return notes.reading(self.name, None, facts, aliases, self._notes)

    def predicates(self) -> Counted:
        return counted((fact.relation, fact.subject.label, fact.object.label) for fact in self._content.found)

    @cached_property
    def _content(self) -> "_Reader":
        with self._state.reading():
            text = read_text(self._path)
            if "\n" in text and not text.endswith("\n"):
                self._notes = (f"{NO_LINE_END}: 1 (line {text.count(chr(10)) + 1})",)
            reader = _Reader(_Composer(self._path, text), Problems(self._path))
            reader.problems.raise_any()
        return reader


class _Composer:
    """A file's nodes, made as they are asked for: of a large file only the fact at hand is there.

    Nodes keep their places and construct nothing, whatever the tags say. Raises SourceError for what is not YAML or is
    nested too deeply, and for an alias (``*name``) of a list or mapping, as those may grow beyond measure.
    """

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text
        self._scalars: dict[str, yaml.Node] = {}
        self._nodes = 0
        with self._telling():
            self._loader = yaml.SafeLoader(text)

    def root(self) -> yaml.Node:
        """Return the document. The content of its list, or of its mapping and of the mappings in this, is a stream."""
        self._event()
        if isinstance(self._event(), yaml.StreamEndEvent):
            raise SourceError(f"{self._path}: is empty; {_FORMS}")
        return self._node(self._event(), 0, streams=2)

    def check_end(self) -> None:
        """Raise SourceError where another document follows."""
        self._event()
        if not isinstance(event := self._event(), yaml.StreamEndEvent):
            raise SourceError(f"{self._place(event.start_mark)}: not YAML: but found another document; remove one")

    def _node(self, event: Any, depth: int, streams: int = 0) -> yaml.Node:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in self._scalars:
                return self._scalars[event.anchor]
            place, name = self._place(event.start_mark), shown(str(event.anchor), 40)
            raise SourceError(
                f"{place}: not YAML: found undefined alias {name!r}, or one of a list or mapping; write out what it "
                "stands for"
            )
        kinds = {yaml.ScalarEvent: yaml.ScalarNode, yaml.SequenceStartEvent: yaml.SequenceNode}
        kind = kinds.get(type(event), yaml.MappingNode)
        self._nodes += 1
        if depth > DEPTH.value or self._nodes > MOST_NODES:
            told = DEPTH.told if depth > DEPTH.value else f"at most {MOST_NODES:,} values in one fact"
            raise SourceError(f"{self._place(event.start_mark)}: nested too deeply ({told}); {_FORMS}")
        scalar = isinstance(event, yaml.ScalarEvent)
        tag = event.tag
        if tag is None or tag == "!":
            tag = self._loader.resolve(kind, event.value if scalar else None, event.implicit)  # type: ignore[no-untyped-call]
        children = () if scalar else self._children(isinstance(event, yaml.MappingStartEvent), depth + 1, streams - 1)
        value = event.value if scalar else children if streams > 0 else list(children)
        node: yaml.Node = kind(tag, value, event.start_mark, event.end_mark)
        if scalar and event.anchor and len(self._scalars) < MOST_NODES:
            self._scalars[event.anchor] = node
        return node

    def _children(self, is_mapping: bool, depth: int, streams: int) -> Iterator[Any]:
        while not isinstance(event := self._event(), yaml.CollectionEndEvent):
            if streams >= 0:
                self._nodes = 0
            child = self._node(event, depth)
            if not is_mapping:
                yield child
                continue
            value = self._node(self._event(), depth, streams)
            yield child, value
            if streams > 0 and not isinstance(value, yaml.ScalarNode):
                for _ in value.value:  # what was not asked for
                    pass

    def _event(self) -> Any:
        with self._telling():
            return self._loader.get_event()  # type: ignore[no-untyped-call]

    def _place(self, mark: Any) -> str:
        return f"{self._path}:{mark.line + 1}:{mark.column + 1}" if mark else str(self._path)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Turn what PyYAML raises into SourceError."""
        try:
            yield
        except yaml.MarkedYAMLError as error:
            place = self._place(error.problem_mark or error.context_mark)
            reason = shown(f"{error.problem or error.context}")
            raise SourceError(f"{place}: not YAML: {reason}; correct that line") from error
        except yaml.reader.ReaderError as error:
            before = self._text[: error.position]
            place = f"{self._path}:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"
            raise SourceError(f"{place}: not YAML: {error.reason} (U+{int(error.character):04X}); remove it") from error
        except (yaml.YAMLError, ValueError, OverflowError) as error:  # such as \U00110000, which is no character
            mark = self._loader.get_mark()
            raise SourceError(f"{self._place(mark)}: not YAML: {shown(str(error))}; correct that line") from error


class _Reader:
    """Turns a file's nodes into facts and aliases (by `Entity.key`), and gathers every problem with its place."""

    def __init__(self, composer: _Composer, problems: Problems) -> None:
        self.problems = problems
        self.aliases: dict[str, set[str]] = defaultdict(set)
        self.found = list(self._read(composer.root()))
        composer.check_end()

    def _read(self, root: yaml.Node) -> Iterator[Fact]:
        """Yield the facts of either form."""
        if isinstance(root, yaml.SequenceNode):
            for item in root.value:
                yield from self._listed(item)
        elif isinstance(root, yaml.MappingNode):
            for relation, key_node, subjects in self._pairs(root, "relation"):
                if self._relation(relation, key_node):
                    yield from self._mapped(relation, subjects)
        else:
            self._wrong(root, "text instead of a list of facts or relation -> {subject: object}")

    def _listed(self, item: yaml.Node) -> Iterator[Fact]:
        """Form (a): one entry of the list."""
        if not isinstance(item, yaml.MappingNode):
            self._wrong(item, "not a fact: write {subject: ..., relation: ..., object: ...}")
            return
        values: dict[str, str] = {}
        lists: dict[str, list[str]] = {}
        pairs = {field: node for field, _, node in self._pairs(item, "field")}
        for field, node in pairs.items():
            if field not in _REQUIRED + _OPTIONAL:
                self._wrong(node, f"unknown field {field!r}; a fact has {', '.join(_REQUIRED + _OPTIONAL)}")
            elif field in _LISTS:
                lists[field] = self._texts(node, field)
            else:
                values[field] = self._date(node) if field == "since" else self._text(node, field)
        missing = [field for field in _REQUIRED if field not in pairs]
        if missing:
            self._wrong(item, f"no {' and no '.join(missing)}: a fact needs {', '.join(_REQUIRED)}")
        elif self._relation(values["relation"], pairs["relation"]) and all(values.values()):
            fact = fact_of(values)
            self.aliases[fact.subject.key].update(lists.get("subject_aliases", ()))
            self.aliases[fact.object.key].update(lists.get("object_aliases", ()))
            yield fact

    def _mapped(self, relation: str, subjects: yaml.Node) -> Iterator[Fact]:
        """Form (b): one relation's subjects and objects."""
        if not isinstance(subjects, yaml.MappingNode):
            self._wrong(subjects, f"relation {relation!r} takes lines of the form subject: object")
            return
        for subject, _, node in self._pairs(subjects, "subject"):
            value = self._text(node, "object")
            if value:
                yield fact_of({"subject": subject, "relation": relation, "object": value})

    def _pairs(self, node: yaml.MappingNode, what: str) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        """Yield a mapping's keys, each once: as text, as a node, and with its value."""
        lines: dict[str, int] = {}
        for key_node, value in node.value:
            key = self._text(key_node, what)
            if key in lines:
                self._wrong(key_node, f"{what} {key!r} appears twice (first in line {lines[key]}); keep one")
            elif key:
                lines[key] = key_node.start_mark.line + 1
                yield key, key_node, value

    def _text(self, node: yaml.Node, what: str) -> str:
        """Return a node's text with its white space folded, "" (and a problem noted) if it is no text."""
        kind = node.tag.removeprefix(_CORE)
        if kind.startswith("python/") or not node.tag.startswith(_CORE):
            shown = f"!!{kind}" if kind != node.tag else node.tag
            self._wrong(node, f"tag {shown} is not allowed; write plain text")
        elif isinstance(node, yaml.SequenceNode) and what == "object":
            self._wrong(node, "a list of objects: give each subject one object")
        elif not isinstance(node, yaml.ScalarNode):
            self._wrong(node, f"a list or mapping where the {what} should be; write text")
        elif re.search("[\\ud800-\\udfff]", join_pairs(node.value)):
            self._wrong(node, f"the {what} has half of a pair of \\u escapes; write the character itself")
        elif not clean(join_pairs(node.value)):
            self._wrong(node, f"the {what} is empty; write text")
        elif kind != "str":
            self._wrong(node, f"{what} {node.value} is {_NOT_TEXT.get(kind, 'not text')}: put it in quotes")
        else:
            return clean(join_pairs(node.value))
        return ""

    def _texts(self, node: yaml.Node, what: str) -> list[str]:
        if isinstance(node, yaml.SequenceNode):
            return [self._text(item, "alias") for item in node.value]
        self._wrong(node, f"{what} is not a list: write [one, another]")
        return []

    def _date(self, node: yaml.Node) -> str:
        """Return the day of ``since``, with or without quotes; "" (and a problem noted) if it is none."""
        if isinstance(node, yaml.ScalarNode) and is_day(node.value):
            return str(node.value)
        self._wrong(node, "since is not a day: write YYYY-MM-DD")
        return ""

    def _relation(self, relation: str, node: yaml.Node) -> bool:
        """Whether `relation` is an id; "" is none and has had its problem noted."""
        try:
            return relation != "" and check_relation(relation) == relation
        except SettingsError as error:
            self._wrong(node, str(error))
            return False

    def _wrong(self, node: yaml.Node, message: str) -> None:
        self.problems.add(node.start_mark.line + 1, message, node.start_mark.column + 1)
