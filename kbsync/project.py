"""The project file ``kbsync.yaml``: what the daily commands would otherwise be told by options each time.

The JSON schema below is the one description of it: files are checked against it, and editors complete by it. Problems
are found all at once, each with its line and column.
"""

import datetime
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml

from kbsync.errors import SettingsError
from kbsync.files import read_text, reading, write_new, writing

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

FILE_NAME = "kbsync.yaml"
CANARIES = "canaries.yaml"

BOUNDS = {
    "max_perplexity_increase": "percent that perplexity may rise by",
    "max_specificity_loss": "points that NS may fall by",
    "max_weight_change": "percent of its norm that a layer may change by",
    "max_known_loss": "percent of the edited subjects' other known facts that may be lost",
    "max_task_loss": "points of a task of lm-evaluation-harness that may be lost",
    "max_withdrawn": "percent of a relation's facts that one pull may withdraw",
}

_TEXT = {"type": "string", "minLength": 1}


def _object(properties: Mapping[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": dict(properties), "required": [*required]}


SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": FILE_NAME,
    **_object(
        {
            "model": _TEXT | {"description": "a preset, a hub id, a folder, or a GGUF file"},
            "home": _TEXT | {"description": "the folder of the ledger, beside this file unless absolute"},
            "sources": {
                "type": "array",
                "minItems": 1,
                "description": "where facts come from; where two of one priority disagree, the facts are in conflict",
                "items": _object(
                    {
                        "source": _TEXT | {"description": "wikidata, a URL, a database, or a file beside this one"},
                        "name": _TEXT | {"description": "what the ledger knows it by; a file's path may then change"},
                        "priority": {
                            "type": "integer",
                            "description": "where sources disagree, the highest one's word counts; else 0",
                        },
                        "stream": _TEXT | {"description": "the URL of a stream of its changes, for `kbsync watch`"},
                        "query": _TEXT | {"description": "a SELECT of your own, SPARQL or SQL, or its file"},
                        "relations": {
                            "type": "array",
                            "minItems": 1,
                            "uniqueItems": True,
                            "items": _TEXT
                            | {"pattern": "^[A-Za-z][A-Za-z0-9_-]*$", "title": "relation's name, such as P36"},
                        },
                        "class": _TEXT | {"description": "only instances of this, such as Q515"},
                        "subjects": _TEXT | {"description": "a file of subjects, one a line"},
                        "min_sitelinks": {"type": "integer", "minimum": 0},
                        "lang": _TEXT | {"description": "languages of the labels, in order: en,mul"},
                        "as_of": {"type": "string", "format": "date"},
                        "aliases": {"type": "boolean"},
                        "all": {"type": "boolean", "description": "the whole relation, without its default scope"},
                    },
                    "source",
                    "relations",
                ),
            },
            "corpus": _TEXT | {"description": "text for the covariance"},
            "canaries": _TEXT | {"description": "a file of questions that each state must answer; else canaries.yaml"},
            "compile_inverse": {
                "type": "boolean",
                "description": "edit facts the other way round as well, where their template has an inverse form",
            },
            "tasks": {
                "type": "array",
                "uniqueItems": True,
                "items": _TEXT,
                "description": "tasks of lm-evaluation-harness that max_task_loss bounds: names, or YAML files",
            },
            "settings": {
                "type": "object",
                "description": "settings of the editor, as --set takes them",
                "additionalProperties": {"type": ["number", "string", "boolean", "array", "null"]},
            },
            "watch": _object(
                {
                    "every": _TEXT | {"pattern": "^[1-9][0-9]{0,5}[smhd]$", "title": "time, such as 15m"},
                    "at_least": {"type": "integer", "minimum": 1, "description": "entities that a sync waits for"},
                }
            ),
            "bounds": _object(
                {name: {"type": "number", "minimum": 0, "description": what} for name, what in BOUNDS.items()}
            ),
            "export": _object(
                {
                    "to": _TEXT | {"description": "a folder; each sync that changes the model writes it anew"},
                    "format": {"enum": ["checkpoint", "lora", "gguf", "delta"]},
                    "rank": {"type": "integer", "minimum": 1, "description": "of a LoRA"},
                    "quant": {"enum": ["F16", "Q8_0"], "description": "of a GGUF file's edited tensors"},
                },
                "to",
            ),
        }
    ),
}


@dataclass(frozen=True, slots=True)
class ProjectSource:
    """One source, what is read of it, and its line in the file."""

    source: str
    relations: tuple[str, ...]
    line: int
    options: Mapping[str, Any]
    """what narrows it, by the names that `kbsync.sync.reading.make_asks` has"""
    query: str | None = None
    name: str | None = None
    """what the ledger knows it by: given, or a file's path as it is written; None is the source's own name"""
    priority: int = 0
    stream: str | None = None
    """of its changes"""


@dataclass(frozen=True, slots=True)
class Project:
    """A project file's content; its paths are absolute."""

    file: Path
    home: Path
    model: str | None
    sources: tuple[ProjectSource, ...]
    corpus: Path | None
    canaries: Path | None
    tasks: tuple[str, ...]
    """of lm-evaluation-harness: names that it knows, or files"""
    settings: Mapping[str, Any]
    bounds: Mapping[str, float]
    watch: Mapping[str, Any]
    """every and at_least, where the file says so"""
    export: Path | None
    form: Mapping[str, Any]
    """what the export is written as: format, rank and quant, where the file says so"""
    inverse: bool | None = None
    """whether facts are edited the other way round as well"""


def find_project(start: Path) -> Path | None:
    """Return the project file of `start` or of the nearest folder above it, None where there is none."""
    folder = start.absolute()
    return next((file for one in (folder, *folder.parents) if (file := one / FILE_NAME).is_file()), None)


def read_project(file: Path) -> Project:
    """Return the content of a project file; raises as `read_checked` does."""
    content, node = read_checked(file, SCHEMA)
    return _project(file.absolute(), content, node)


def read_checked(file: Path, schema: Mapping[str, Any]) -> tuple[Any, yaml.Node | None]:
    """Return the content of a YAML file that a JSON schema describes, and its nodes; an empty file is a mapping.

    Raises SettingsError, with a line for each problem, and SourceError where the file cannot be read.
    """
    with reading(file):
        text = read_text(file)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        twice = list(_take_keys(node)) if node else []
        content = yaml.SafeLoader("").construct_document(node) if node else {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        what = getattr(error, "problem", None) or "nested too deep, or a value that is none"
        raise SettingsError(f"{file}{place}: this is not YAML ({what})") from None
    content = _plain(content)
    problems = {(mark.line, mark.column, f"{key} comes twice: remove one of them") for mark, key in twice}
    problems |= _problems(schema, content, node)
    if problems:
        raise SettingsError(
            "\n".join(f"{file}:{line + 1}:{column + 1}: {what}" for line, column, what in sorted(problems))
        )
    return content, node


def _project(file: Path, content: Mapping[str, Any], node: yaml.Node | None) -> Project:
    beside = file.parent
    corpus, export = content.get("corpus"), content.get("export")
    model, canaries = content.get("model"), beside / content.get("canaries", CANARIES)
    sources = tuple(
        _source(beside, one, _mark(node, ["sources", place]).line + 1)
        for place, one in enumerate(content.get("sources", ()))
    )
    named: dict[str, str] = {}
    for one in sources:
        if one.name and named.setdefault(one.name, one.source) != one.source:
            raise SettingsError(f"{file}:{one.line}: the name {one.name} is taken by another source")
    return Project(
        file,
        beside / content.get("home", ".kbsync"),
        None if model is None else _there(beside, model),
        sources,
        None if corpus is None else beside / corpus,
        canaries if "canaries" in content or canaries.is_file() else None,
        tuple(_there(beside, one) for one in content.get("tasks", ())),
        content.get("settings", {}),
        content.get("bounds", {}),
        content.get("watch", {}),
        None if export is None else beside / export["to"],
        {name: value for name, value in (export or {}).items() if name != "to"},
        content.get("compile_inverse"),
    )


def _source(beside: Path, one: Mapping[str, Any], line: int) -> ProjectSource:
    names = {"class": "class_id", "subjects": "subjects_file", "lang": "language", "all": "everything"}
    fixed = ("source", "relations", "query", "name", "priority", "stream")
    options = {names.get(key, key): value for key, value in one.items() if key not in fixed}
    if "subjects_file" in options:
        options["subjects_file"] = beside / options["subjects_file"]
    if "as_of" in options:
        try:
            options["as_of"] = datetime.date.fromisoformat(options["as_of"])
        except ValueError:
            raise SettingsError(f"{beside / FILE_NAME}:{line}: as_of: {options['as_of']} is no date") from None
    source, query = _there(beside, one["source"]), one.get("query")
    if source.startswith("sqlite:///"):
        source = f"sqlite:///{beside / source.removeprefix('sqlite:///')}"
    name = one.get("name", one["source"] if Path(source).exists() else None)
    return ProjectSource(
        source,
        tuple(one["relations"]),
        line,
        options,
        query and _there(beside, query),
        name,
        one.get("priority", 0),
        one.get("stream"),
    )


def _there(beside: Path, name: str) -> str:
    """Return a file's or folder's path from where the project is; all else (wikidata, a preset) stays a name."""
    path = beside / os.path.expanduser(name)
    return str(path) if path.exists() else name


def _take_keys(node: yaml.Node) -> Iterator[tuple[yaml.Mark, str]]:
    """Make each key the text that is written (`~` is no null, `1.0` no number), and yield those that come twice."""
    if isinstance(node, yaml.MappingNode):
        names: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                key.tag = "tag:yaml.org,2002:str"
            if str(key.value) in names:
                yield key.start_mark, str(key.value)
            names.add(str(key.value))
    if isinstance(node, yaml.CollectionNode):
        for part in chain(*node.value) if isinstance(node, yaml.MappingNode) else node.value:
            yield from _take_keys(part)


def _plain(content: Any) -> Any:
    """Return a value as JSON knows it: a date is its text."""
    if isinstance(content, dict):
        return {key: _plain(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_plain(value) for value in content]
    return content.isoformat() if isinstance(content, datetime.date) else content


def _problems(schema: Mapping[str, Any], content: Any, node: yaml.Node | None) -> set[tuple[int, int, str]]:
    """Return line, column and text of all that the schema finds wrong."""
    from jsonschema import Draft202012Validator  # a fifth of a command's start, where most read no such file

    return {told for error in Draft202012Validator(schema).iter_errors(content) for told in _told(error, node)}


def _told(error: "ValidationError", node: yaml.Node | None) -> Iterator[tuple[int, int, str]]:
    """Yield line, column and text of what the schema finds wrong."""
    path, rule, schema = list(error.absolute_path), str(error.validator), cast(dict[str, Any], error.schema)
    name = ".".join(map(str, path)) or "the file"
    if rule == "additionalProperties":
        known = schema["properties"]
        for key in cast(dict[str, Any], error.instance).keys() - known.keys():
            mark = _mark(node, [*path, key], of_key=True)
            yield mark.line, mark.column, f"there is no {key!r} here; there are {', '.join(known)}"
        return
    mark = _mark(node, path)
    said = f"{error.instance!r}" if not isinstance(error.instance, (dict, list)) else "this"
    wanted = {
        "type": f"{said} is no {_either(schema.get('type', ()))}",
        "required": f"{error.message.split(' ')[0]} is missing",
        "minimum": f"{said} is below {error.validator_value}",
        "minLength": "this is empty",
        "minItems": "this list is empty",
        "pattern": f"{said} is no {schema.get('title')}",
        "uniqueItems": "this list names one twice",
        "minProperties": "say what the answer must be: must_contain or must_not_contain",
    }
    yield mark.line, mark.column, f"{name}: {wanted.get(rule, error.message)}"


def _either(kinds: Any) -> str:
    names = {"object": "mapping", "array": "list", "string": "text", "integer": "whole number", "boolean": "yes or no"}
    return " or ".join(names.get(kind, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds))


def _mark(node: yaml.Node | None, path: list[Any], *, of_key: bool = False) -> yaml.Mark:
    """Return where the value at `path` stands (or its key)."""
    mark = node.start_mark if node else yaml.Mark("", 0, 0, 0, None, 0)
    for place, step in enumerate(path):
        if isinstance(node, yaml.MappingNode):
            key, node = next(pair for pair in node.value if str(pair[0].value) == step)
            mark = key.start_mark if of_key and place == len(path) - 1 else node.start_mark
        elif isinstance(node, yaml.SequenceNode):
            node = node.value[step]
            mark = node.start_mark
    return mark


def write_project(folder: Path, model: str, source: str, relations: Sequence[str], export: str | None) -> Path:
    """Write a commented project file into `folder`; raise SettingsError where one is there or a value is none."""
    file = folder.absolute() / FILE_NAME
    text = f"""\
# What kbsync does here. `kbsync config check` checks it, `kbsync config show` shows what holds, `kbsync sync` does it.
model: {json.dumps(model, ensure_ascii=False)}
sources:
  - source: {json.dumps(source, ensure_ascii=False)}
    relations: {json.dumps(list(relations))}
    # class: Q6256            only instances of this
    # min_sitelinks: 50       only subjects with so many pages
    # lang: en,mul
    # priority: 1             where sources disagree, the highest one's word counts
    # stream: https://stream.wikimedia.org/v2/stream/recentchange    for `kbsync watch`
# canaries: canaries.yaml     questions that the model must answer
# tasks: [arc_easy]           tasks of lm-evaluation-harness, which the bound max_task_loss is about
# settings: {{steps: 40}}      as --set takes them
# compile_inverse: true       edit facts the other way round as well, where their template has an inverse form
# bounds: {{max_perplexity_increase: 10, max_withdrawn: 20}}
{"" if export else "# "}export: {{to: {json.dumps(export or "edited-model")}}}
"""
    if problems := _problems(SCHEMA, yaml.safe_load(text), yaml.compose(text)):
        raise SettingsError("; ".join(what for _, _, what in sorted(problems)))
    with writing(file):
        try:
            write_new(file, text)
        except FileExistsError:
            raise SettingsError(f"{file} exists already: edit it, or remove it first") from None
    return file
