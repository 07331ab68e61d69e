"""The options that several commands share: which model, how it is loaded, which facts."""

import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer

from kbsync.errors import SettingsError
from kbsync.sync.guards import read_canaries

DIFFERENCE = 3
"""exit code of ``--check`` where there is a difference"""


def option(spec: str, text: str, **more: Any) -> Any:
    """Return an option by its name with the word for its value, such as ``--facts N``, and its help."""
    name, _, value = spec.partition(" ")
    return typer.Option(name, metavar=value or None, help=text, **more)


ModelOption = Annotated[
    str, option("--model M", "A preset's name, a hub id, a directory, FILE.gguf, or owner/repo:FILE.gguf.")
]
RelationsOption = Annotated[list[str] | None, option("--relation ID", "Only this relation; repeat for more.")]
OnConflictOption = Annotated[
    Literal["out", "first", "latest", "error"], option("--on-conflict", "What to do if a subject has several objects.")
]
ContactOption = Annotated[
    str | None,
    option(
        "--contact WHO",
        "Your mail address or URL, for the people who run the endpoint (else KBSYNC_CONTACT).",
        envvar="KBSYNC_CONTACT",
        show_envvar=False,
    ),
]
CorpusOption = Annotated[
    Path | None,
    option(
        "--corpus TEXT",
        "Text for the covariance: .txt (a document per line), .jsonl or .parquet file, a Hugging Face data set as"
        " name or name:config, or - for stdin.",
    ),
]
SetOption = Annotated[list[str] | None, option("--set FIELD=VALUE", "A MEMIT setting, such as steps=30.")]
IncludeKnownOption = Annotated[bool, option("--include-known", "Edit facts that the base model knows, as well.")]
InverseOption = Annotated[
    bool | None,
    option(
        "--compile-inverse/--no-compile-inverse",
        "Edit facts the other way round as well, where their template has an inverse form.  [as the model is now]",
    ),
]
TasksOption = Annotated[
    str | None,
    option(
        "--tasks NAMES", "Tasks of lm-evaluation-harness on base and edited model: names that it knows, or YAML files."
    ),
]
ReferencesOption = Annotated[
    Path | None,
    option(
        "--references FILE|DIR",
        'Texts for RS: JSON {"object": ["text", ...]}, or OBJECT.txt files.  [sentences of known facts]',
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before writing.")]
ProbeOption = Annotated[bool, option("--probe", "Load the model and ask it about the facts.")]
CheckOption = Annotated[bool, option("--check", f"Exit with {DIFFERENCE} if there is a difference.")]


def keyword_options(**options: Any) -> list[inspect.Parameter]:
    """Return options, name -> type, as parameters that are not given by default."""
    return [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=False if get_args(annotation)[0] is bool else None,
            annotation=annotation,
        )
        for name, annotation in options.items()
    ]


LOADING_OPTIONS = keyword_options(
    device=Annotated[str | None, option("--device D", "cuda, mps, cpu, or auto for all of them.  [the best one]")],
    dtype=Annotated[
        str | None, option("--dtype T", "float32, float16 or bfloat16.  [float32 on a CPU, else as stored]")
    ],
    max_memory=Annotated[
        str | None, option("--max-memory D=SIZE,...", "Bounds under --device auto, such as 0=20GiB,cpu=60GiB.")
    ],
    experimental=Annotated[bool, option("--experimental", "Read a model of an unknown family from its structure.")],
    revision=Annotated[
        str | None, option("--revision REV", "Branch, tag or commit of the model's hub repository.  [main]")
    ],
)


def listed(names: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in names.split(",") if name.strip())


def parse_values(settings: Sequence[str] | None) -> dict[str, str]:
    """Return ``--set field=value`` texts as a mapping; raise SettingsError for one without ``=``."""
    values = {}
    for text in settings or ():
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise SettingsError(f"--set {text!r}: write it as field=value, such as steps=30")
        values[name.strip()] = value.strip()
    return values


def parse_max_memory(text: str | None) -> dict[int | str, str] | None:
    """Return ``0=20GiB,cpu=60GiB`` as a mapping, GPUs by number; raise SettingsError for what is no such list."""
    if text is None:
        return None
    bounds: dict[int | str, str] = {}
    for part in text.split(","):
        found = re.fullmatch(r"\s*(cpu|mps|\d+)\s*=\s*(\d+(?:\.\d+)?[KMG]i?B)\s*", part)
        if found is None:
            raise SettingsError(f"--max-memory {part!r}: write it as a device and a size, such as 0=20GiB or cpu=60GiB")
        bounds[int(found[1]) if found[1].isdigit() else found[1]] = found[2]
    return bounds


def bound(spec: str, text: str) -> Any:
    return Annotated[float | None, option(spec, text, min=0)]


JUDGING_OPTIONS = keyword_options(
    canaries=Annotated[
        Path | None, option("--canaries FILE", "Questions (YAML) that the model must answer to be made current.")
    ],
    max_perplexity_increase=bound(
        "--max-perplexity-increase PERCENT",
        "Largest allowed rise of perplexity on the corpus.  [the preset's, else 10]",
    ),
    max_specificity_loss=bound("--max-specificity-loss POINTS", "Largest allowed fall of NS.  [the preset's, else 10]"),
    max_weight_change=bound(
        "--max-weight-change PERCENT", "Largest allowed change of a layer, in percent of its norm."
    ),
    max_known_loss=bound(
        "--max-known-loss PERCENT",
        "Most of the edited subjects' other facts, of those that the base model answers, that may be lost."
        "  [the preset's, else no bound]",
    ),
    tasks=TasksOption,
    max_task_loss=bound(
        "--max-task-loss POINTS", "Largest allowed fall of a task of --tasks.  [the preset's, else no bound]"
    ),
)


class Judging(dict[str, Any]):
    """What an `ApplyOptions` says of questions that the model must answer, bounds of its figures, and tasks."""

    @classmethod
    def given(cls, canaries: Path | None, tasks: str | None, **bounds: float | None) -> "Judging":
        """Return what the values of `JUDGING_OPTIONS` say."""
        return cls(canaries=read_canaries(canaries), tasks=listed(tasks or ""), bounds=bounds)


NO_JUDGING = Judging()
