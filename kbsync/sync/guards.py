"""What an apply costs, by the pace of earlier batches, and what its figures must keep to be made current.

Canaries: a user's own questions, which a state of the model must answer before it becomes current.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kbsync.errors import EditError
from kbsync.facts import normalise_label
from kbsync.project import read_checked

if TYPE_CHECKING:
    from kbsync.ledger import BatchRow


_TEXTS = {"type": ["string", "array"], "minLength": 1, "minItems": 1, "items": {"type": "string", "minLength": 1}}
SCHEMA: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "additionalProperties": False,
        "required": ["prompt"],
        "minProperties": 2,
        "properties": {
            "prompt": {"type": "string", "minLength": 1},
            "must_contain": _TEXTS,
            "must_not_contain": _TEXTS,
        },
    },
}


@dataclass(frozen=True, slots=True)
class Canary:
    """The beginning of a sentence; what the model says next holds one of some texts, and none of others."""

    prompt: str
    must_contain: tuple[str, ...] = ()
    must_not_contain: tuple[str, ...] = ()

    def fault(self, answer: str) -> str | None:
        """Return what is wrong with an answer; letter case and spaces do not matter."""
        said = normalise_label(answer)
        if self.must_contain and not any(normalise_label(text) in said for text in self.must_contain):
            return f"must contain {' or '.join(map(repr, self.must_contain))}"
        held = next((text for text in self.must_not_contain if normalise_label(text) in said), None)
        return None if held is None else f"must not contain {held!r}"


def read_canaries(file: Path | None) -> tuple[Canary, ...]:
    """Return the canaries of a file, none where there is none; raises SettingsError and SourceError."""
    if file is None:
        return ()
    content, _ = read_checked(file, SCHEMA)
    return tuple(map(_canary, content))


def _canary(one: Mapping[str, Any]) -> Canary:
    texts = (one.get(name) or () for name in ("must_contain", "must_not_contain"))
    return Canary(one["prompt"].rstrip(), *((text,) if isinstance(text, str) else tuple(text) for text in texts))


def failures(canaries: Sequence[Canary], answers: Callable[[Sequence[str]], Sequence[str]]) -> list[str]:
    """Return a clause for each canary that fails; `answers` asks the model."""
    said = answers([canary.prompt for canary in canaries]) if canaries else []
    return [
        f"canary {canary.prompt!r} fails: the answer is {answer!r} and {fault}"
        for canary, answer in zip(canaries, said, strict=True)
        if (fault := canary.fault(answer))
    ]


WEIGHT_CHANGE = "weight_change."
"""a figure of this name and a layer's number is 100 |delta| / |W|, in Frobenius norms"""

TASK = "task."
"""a figure of this name and a task's, with its metric's behind another dot, is of lm-evaluation-harness"""

ENOUGH_EDITS = 10
"""edits that say whether settings fit a model at all"""
LEAST_GAIN = 10.0
"""points of ES that so many edits gain where any arrive"""

Table = Mapping[str, Mapping[str, float | None]]
"""figure -> its values "before" (of the base model) and "after" """


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much worse than the base model an edited model may be."""

    max_perplexity_increase: float = 10.0
    """percent, on the corpus"""
    max_specificity_loss: float = 10.0
    """points of NS"""
    max_weight_change: float = 100.0
    """percent of |W| that a layer's |delta| may be"""
    max_known_loss: float = 100.0
    """percent, of the facts on edited subjects that the base model answers; 100 is no bound"""
    max_task_loss: float = 100.0
    """points of a task of lm-evaluation-harness; 100 is no bound"""

    def with_values(self, **values: float | None) -> "Bounds":
        return replace(self, **{name: value for name, value in values.items() if value is not None})

    def breaches(self, table: Table) -> list[str]:
        found = []
        before, after = pair(table, "perplexity")
        if before is not None and after is not None and after > before * (1 + self.max_perplexity_increase / 100):
            percent = 100 * (after / before - 1)
            found.append(
                f"perplexity on the corpus rose from {before:.2f} to {after:.2f}"
                f" ({percent:.1f}%, more than the {self.max_perplexity_increase:g}% of --max-perplexity-increase)"
            )
        _, kept = pair(table, "known_kept_same")
        if kept is not None and 100 - kept > self.max_known_loss:
            found.append(
                f"{100 - kept:.1f}% of the edited subjects' other known facts are lost (more than"
                f" the {self.max_known_loss:g}% of --max-known-loss)"
            )
        falls = {"NS": (self.max_specificity_loss, "--max-specificity-loss")}
        falls |= {name: (self.max_task_loss, "--max-task-loss") for name in table if name.startswith(TASK)}
        for name, (bound, option) in falls.items():
            before, after = pair(table, name)
            if before is not None and after is not None and before - after > bound:
                found.append(
                    f"{name.removeprefix(TASK)} fell from {before:.2f} to {after:.2f} ({before - after:.1f} points,"
                    f" more than the {bound:g} of {option})"
                )
        changes = {name: row["after"] or 0.0 for name, row in table.items() if name.startswith(WEIGHT_CHANGE)}
        largest = max(changes, key=lambda name: changes[name], default=None)
        if largest is not None and changes[largest] > self.max_weight_change:
            found.append(
                f"the delta of layer {largest.removeprefix(WEIGHT_CHANGE)} is {changes[largest]:.1f}% of its weights"
                f" (more than the {self.max_weight_change:g}% of --max-weight-change)"
            )
        return found


DEFAULT_BOUNDS = Bounds()


@dataclass(frozen=True, slots=True)
class Guard:
    """Bounds, and whether the user wants a result that breaks them made current all the same."""

    bounds: Bounds = DEFAULT_BOUNDS
    force: bool = False
    canaries: tuple[Canary, ...] = ()

    def judge(self, table: Table, edits: int = 0, failed: Sequence[str] = ()) -> str | None:
        """Return why a result was forced, None where it keeps the bounds and no canary has `failed`.

        The figures are of so many `edits`. One that is not finite cannot be forced: no prompt has an answer from such a
        model.
        """
        if broken := not_finite(table):
            raise EditError(f"{broken}; the previous state stays. Use --dtype float32")
        breaches = [*failed, *self.breaches(table, edits)]
        if not breaches:
            return None
        said = ", and ".join(breaches)
        if self.force:
            return f"forced: {said}"
        remedy = "" if failed else " Take fewer edits (--limit) or a larger lambda (--set lambda=...), or:"
        raise EditError(
            f"{said}; the previous state stays.{remedy} `kbsync bisect` finds the edits that do it, and goes on"
            " without them; --force makes it current anyway"
        )

    def breaches(self, table: Table, edits: int = 0) -> list[str]:
        breaches = self.bounds.breaches(table)
        before, after = pair(table, "ES")
        if edits >= ENOUGH_EDITS and before is not None and after is not None and after < min(before + LEAST_GAIN, 50):
            breaches.append(
                f"the edits have no effect (ES {after:.1f}, before {before:.1f}): these settings do not fit the model,"
                " and `kbsync calibrate` looks for others"
            )
        return breaches

    def record(self) -> dict[str, Any]:
        """Return what the ledger keeps of it."""
        canaries = {"canaries": [asdict(canary) for canary in self.canaries]} if self.canaries else {}
        return {**asdict(self.bounds), "force": self.force, **canaries}

    @classmethod
    def recorded(cls, work: Mapping[str, Any]) -> "Guard":
        """Return the guard of a batch on record; the usual one where it has none."""
        bounds = {field.name: work.get(field.name) for field in fields(Bounds)}
        canaries = tuple(map(_canary, work.get("canaries", ())))
        return cls(DEFAULT_BOUNDS.with_values(**bounds), bool(work.get("force")), canaries)


def not_finite(table: Table) -> str | None:
    broken = [name for name, row in table.items() if row["after"] is not None and not math.isfinite(row["after"])]
    return f"the edited model's figures are not finite ({', '.join(broken)})" if broken else None


def pair(table: Table, name: str) -> tuple[float | None, float | None]:
    """Return a figure before and after; None where it was not taken."""
    row = table.get(name, {})
    return row.get("before"), row.get("after")


PROMPTS_OF_A_CASE = 20
"""prompts that are scored, about, to measure one edit; recall of the others takes one each"""


@dataclass(frozen=True, slots=True)
class Cost:
    edits: int
    """active edits after it: it solves for all of them"""
    optimise: int
    """groups whose target is not in the cache"""
    from_cache: int
    measure: int
    """edits whose figures are taken"""
    again: tuple[Mapping[str, float], ...] = ()
    """edits that were not recalled, and the steps and clamp_norm_factor that their targets are searched with now"""
    seconds: dict[str, float] | None = None
    """by phase, and in all; None where no batch on record tells the pace"""

    def record(self) -> dict[str, Any]:
        """Return what the ledger keeps of it, for the estimates of later batches too."""
        return {name: value for name, value in asdict(self).items() if name != "seconds"}


def expected_seconds(batches: "Sequence[BatchRow]", device: str, cost: Cost) -> dict[str, float] | None:
    """Return seconds by phase at the pace of the newest of a model's `batches` that ended on this device.

    Targets go by the newest batch that searched any, keys by the edits, measuring by the prompts; the solve is as
    long as it was. The covariance, which is taken once, is left out. None where nothing tells the pace.
    """
    ended = [batch for batch in batches if batch.device == device and batch.state != "failed" and batch.work]
    pace = next((batch for batch in reversed(ended) if batch.work.get("edits")), None)
    searched = next((batch for batch in reversed(ended) if batch.work.get("optimise")), None)
    if pace is None or (cost.optimise and searched is None):
        return None

    def share(batch: "BatchRow | None", phase: str, now: int, then: int) -> float:
        return batch.seconds.get(phase, 0.0) * now / then if batch is not None else 0.0

    asked = PROMPTS_OF_A_CASE * cost.measure + cost.edits
    asked_then = PROMPTS_OF_A_CASE * pace.work["measure"] + pace.work["edits"]
    seconds = {
        "targets": share(searched, "targets", cost.optimise, searched.work["optimise"] if searched else 1),
        "keys": share(pace, "keys", cost.edits, pace.work["edits"]),
        "solve": pace.seconds.get("solve", 0.0) if cost.edits else 0.0,
        "measure": share(pace, "measure", asked, asked_then),
    }
    seconds["total"] = sum(seconds.values())
    return {name: round(value, 1) for name, value in seconds.items()}
