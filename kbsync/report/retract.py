"""How a retraction, and the lifting of a veto, are shown."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType

from kbsync.report.apply import applied_view
from kbsync.report.tables import plain

if TYPE_CHECKING:
    from kbsync.sync.retract import Lifted, Retracted, Retraction

__all__ = ["lifted_view", "retracted_view", "retraction_view"]


def retraction_view(planned: "Retraction") -> RenderableType:
    """Return the fact, and which models it is written into."""
    lines = [f"{planned.relation} of {planned.subject}: {' | '.join(planned.objects)}"]
    if planned.written:
        lines.append(f"written into {planned.model} as {' | '.join(planned.written)}: to be taken out now")
    else:
        lines.append(f"not written into {planned.model or 'any model'}: nothing to take out")
    return plain("\n".join((*lines, *_others(planned))))


def retracted_view(result: "Retracted") -> RenderableType:
    """Return what was retracted, and the apply that took it out."""
    done = result.retraction
    parts: list[RenderableType] = [] if result.applied is None else [applied_view(result.applied)]
    taken = f" and taken out of {done.model}" if result.applied is not None else ""
    fact = f"{done.relation} of {done.subject} ({' | '.join(done.objects)})"
    lines = [f"{fact} is retracted{taken}: no apply writes it until `kbsync retract --undo`", *_others(done)]
    return Group(*parts, plain("\n".join(lines)))


def _others(done: "Retraction") -> list[str]:
    return [f"also written into {name}: `kbsync apply --model {name}` takes it out" for name in done.others]


def lifted_view(result: Mapping[str, Sequence["Lifted"]]) -> RenderableType:
    """Return the vetoes that hold no longer."""
    lines = [
        f"{veto.relation} of {veto.subject}" + (f" ({veto.object})" if veto.object else "") for veto in result["lifted"]
    ]
    return plain("\n".join(f"{line}: the next apply writes it again" for line in lines))
