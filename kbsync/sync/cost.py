"""What an apply will do, and how long it may take by the pace of earlier batches; said before it starts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kbsync.ledger import BatchRow

__all__ = ["Again", "Cost", "expected_seconds"]

PROMPTS_OF_A_CASE = 20
"""prompts that are scored, about, to measure one edit; recall of the others takes one each"""


@dataclass(frozen=True, slots=True)
class Again:
    """Edits that were not recalled, and the settings that their targets are searched with this time."""

    edits: int
    steps: int
    clamp_norm_factor: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What an apply will do."""

    edits: int
    """active edits after it: it solves for all of them"""
    optimise: int
    """groups whose target is not in the cache"""
    from_cache: int
    measure: int
    """edits whose figures are taken"""
    again: tuple[Again, ...] = ()
    seconds: dict[str, float] | None = None
    """by phase, and in all; None where no batch on record tells the pace"""

    def record(self) -> dict[str, Any]:
        """Return what the ledger keeps of it, for the estimates of later batches too."""
        return {
            "edits": self.edits,
            "optimise": self.optimise,
            "from_cache": self.from_cache,
            "measure": self.measure,
            "again": [
                {"edits": one.edits, "steps": one.steps, "clamp_norm_factor": one.clamp_norm_factor}
                for one in self.again
            ],
        }


def expected_seconds(batches: Sequence[BatchRow], device: str, cost: Cost) -> dict[str, float] | None:
    """Return seconds by phase at the pace of the newest of a model's `batches` that ended on this device.

    Targets go by the newest batch that searched any, keys by the edits, measuring by the prompts; the solve is as
    long as it was. The covariance, which is taken once, is left out. None where nothing tells the pace.
    """
    ended = [batch for batch in batches if batch.device == device and batch.state != "failed" and batch.work]
    pace = next((batch for batch in reversed(ended) if batch.work.get("edits")), None)
    searched = next((batch for batch in reversed(ended) if batch.work.get("optimise")), None)
    if pace is None or (cost.optimise and searched is None):
        return None
    seconds = {
        "targets": _share(searched, "targets", cost.optimise, "optimise"),
        "keys": _share(pace, "keys", cost.edits, "edits"),
        "solve": pace.seconds.get("solve", 0.0) if cost.edits else 0.0,
        "measure": pace.seconds.get("measure", 0.0)
        * _prompts(cost.measure, cost.edits)
        / _prompts(pace.work["measure"], pace.work["edits"]),
    }
    seconds["total"] = sum(seconds.values())
    return {name: round(value, 1) for name, value in seconds.items()}


def _share(batch: BatchRow | None, phase: str, now: int, then: str) -> float:
    return batch.seconds.get(phase, 0.0) * now / batch.work[then] if batch is not None else 0.0


def _prompts(measured: int, edits: int) -> int:
    return PROMPTS_OF_A_CASE * measured + edits
