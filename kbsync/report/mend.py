"""How a training of MEND's network is shown."""

from typing import TYPE_CHECKING

from rich.console import RenderableType

from kbsync.report.tables import table

if TYPE_CHECKING:
    from kbsync.workflows.mend import TrainedMend

__all__ = ["mend_view"]


def mend_view(trained: "TrainedMend") -> RenderableType:
    """Return a table of both losses, at the beginning of the training and at its end."""
    title = (
        f"{trained.model}: MEND on layers {', '.join(map(str, trained.layers))}, {trained.parameters:,} parameters,"
        f" {trained.facts} facts of the {trained.source}, {trained.steps} steps, {trained.seconds} s"
    )
    rows = [("edit", *trained.edit_loss), ("locality", *trained.locality_loss)]
    return table(("loss", "first tenth", "last tenth"), rows, title=title)
